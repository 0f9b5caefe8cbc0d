// Takes the passes over the images themselves: norm and total variation, and their gradient.

#include "../../lanes.h"

namespace {

// Adds the squares of one image row's differences to its right, lower, lower-left and lower-right
// neighbours, and of its values, to sums. `below` is null in the last row. `step` is the number of
// channels, `length` = width·channels.
EACH_CPU void variation_row(const float *row, const float *below, int64_t length, int64_t step,
                            double *sums) {
  float right = 0, down = 0, left_down = 0, right_down = 0, square = 0;
#pragma omp simd reduction(+ : right)
  for (int64_t i = 0; i < length - step; i++)
    right += (row[i] - row[i + step]) * (row[i] - row[i + step]);
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < length; i++) square += row[i] * row[i];
  if (below) {
#pragma omp simd reduction(+ : down)
    for (int64_t i = 0; i < length; i++) down += (row[i] - below[i]) * (row[i] - below[i]);
#pragma omp simd reduction(+ : left_down, right_down)
    for (int64_t i = 0; i < length - step; i++) {
      left_down += (row[i + step] - below[i]) * (row[i + step] - below[i]);
      right_down += (row[i] - below[i + step]) * (row[i] - below[i + step]);
    }
  }
  sums[0] += right;
  sums[1] += down;
  sums[2] += left_down;
  sums[3] += right_down;
  sums[4] += square;
}

// Adds by · (x[i] − y[i]) to to[i].
EACH_CPU void pull(const float *x, const float *y, float by, float *to, int64_t length) {
#pragma omp simd
  for (int64_t i = 0; i < length; i++) to[i] += by * (x[i] - y[i]);
}

EACH_CPU void scaled(const float *x, float by, float *to, int64_t length) {
#pragma omp simd
  for (int64_t i = 0; i < length; i++) to[i] = by * x[i];
}

// Adds the gradient of by·‖x − y‖² / 2 with respect to both.
void spread(const float *x, const float *y, float by, float *to_x, float *to_y, int64_t length) {
  pull(x, y, by, to_x, length);
  pull(y, x, by, to_y, length);
}

// Computes one image's gradient: by[0..4] weigh the four directions, by[4] the values.
void variation_gradient(const float *image, const float *by, float *gradient, int64_t height,
                        int64_t length, int64_t step) {
  scaled(image, by[4], gradient, height * length);
  for (int64_t y = 0; y < height; y++) {
    const float *row = image + y * length, *below = row + length;
    float *to = gradient + y * length, *to_below = to + length;
    spread(row, row + step, by[0], to, to + step, length - step);
    if (y + 1 == height) break;
    spread(row, below, by[1], to, to_below, length);
    spread(row + step, below, by[2], to + step, to_below, length - step);
    spread(row, below + step, by[3], to, to_below + step, length - step);
  }
}

}  // namespace

extern "C" {

// Writes to `sums`, double [5], the sums of squares of the four differences and of the values.
void fd_variation(int64_t images, int64_t height, int64_t length, int64_t step, const float *x,
                  double *sums) {
  Sums each(5);
  share(images * height, [&](int64_t thread, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const float *here = x + row * length;
      variation_row(here, (row + 1) % height ? here + length : nullptr, length, step,
                    each.of(thread));
    }
  });
  each.join(sums);
}

void fd_variation_gradient(int64_t images, int64_t height, int64_t length, int64_t step,
                           const float *x, const float *by, float *gradient) {
  share(images, [&](int64_t, int64_t from, int64_t to) {
    for (int64_t image = from; image < to; image++)
      variation_gradient(x + image * height * length, by, gradient + image * height * length,
                         height, length, step);
  });
}
}
