// Takes a step of SGD or Adam on `count` values in one pass; mod.rs states what they compute, and
// is the only caller.

#include <cmath>

#include "../passes.h"

namespace {

// Below this many values, starting the threads takes longer than the work.
constexpr int64_t SMALL = 1 << 14;

template <typename Work>
void over(int64_t count, const Work &work) {
  if (count < SMALL) return work(0, 0, count);
  share(count, work);
}

EACH_CPU void sgd(float *x, const float *g, float *buffer, int64_t from, int64_t to, float rate,
                  float momentum, float ahead, float decay) {
#pragma omp simd
  for (int64_t i = from; i < to; i++) {
    const float gradient = g[i] + decay * x[i];
    buffer[i] = momentum * buffer[i] + gradient;
    // Nesterov's direction is gradient + momentum·buffer, the plain one is the buffer itself.
    x[i] -= rate * (ahead * gradient + (ahead * momentum + 1 - ahead) * buffer[i]);
  }
}

EACH_CPU void adam(float *x, const float *g, float *first, float *second, int64_t from, int64_t to,
                   float rate, float new1, float beta2, float new2, float root, float eps,
                   float decay) {
#pragma omp simd
  for (int64_t i = from; i < to; i++) {
    const float gradient = g[i] + decay * x[i];
    first[i] += new1 * (gradient - first[i]);
    second[i] = beta2 * second[i] + new2 * gradient * gradient;
    x[i] -= rate * first[i] / (std::sqrt(second[i]) / root + eps);
  }
}

}  // namespace

extern "C" {

void fd_sgd(int64_t count, float *x, const float *g, float *buffer, float rate, float momentum,
            bool nesterov, float decay) {
  over(count, [&](int64_t, int64_t from, int64_t to) {
    sgd(x, g, buffer, from, to, rate, momentum, nesterov, decay);
  });
}

// The caller computes `new1` = 1 − β1 and `new2` = 1 − β2 in double and rounds them once: 1 − 0.999
// computed in float is off by 10⁻⁵.
void fd_adam(int64_t count, float *x, const float *g, float *first, float *second, float rate,
             float new1, float beta2, float new2, float root, float eps, float decay) {
  over(count, [&](int64_t, int64_t from, int64_t to) {
    adam(x, g, first, second, from, to, rate, new1, beta2, new2, root, eps, decay);
  });
}
}
