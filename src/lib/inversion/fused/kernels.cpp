// The element-wise passes between the convolutions of a frozen network, each over its data once. See mod.rs for the algebra and
// kernels.rs for what each function expects; that file is the only caller.
//
// Activations are rows of channels (NHWC seen as [rows, channels]), float, dense. Work is shared out by rows over libtorch's own OpenMP
// threads. Sums run in float over a few dozen rows and in double beyond, and are joined in the order of the threads: the same
// number of threads gives the same bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <omp.h>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// One copy for AVX-512, one for AVX2 and one for the rest, chosen when the program starts.
#define EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_CPU
#endif
#define INLINE static inline __attribute__((always_inline))

namespace {

constexpr int64_t LANES = 16;
// Rows that are summed in float before the sum goes to double.
constexpr int64_t ROWS = 64;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

INLINE const Lanes &at(const float *values) { return *reinterpret_cast<const Lanes *>(values); }
INLINE Lanes &at(float *values) { return *reinterpret_cast<Lanes *>(values); }
// NaN stays NaN, as in PyTorch.
INLINE Lanes relu(Lanes x) { return x < Lanes{} ? Lanes{} : x; }
INLINE float relu(float x) { return x < 0 ? 0 : x; }
INLINE Lanes where_positive(Lanes x, Lanes value) { return x > Lanes{} ? value : Lanes{}; }
INLINE float where_positive(float x, float value) { return x > 0 ? value : 0; }
INLINE float lane(const float *values, float) { return *values; }
INLINE Lanes lane(const float *values, Lanes) { return at(values); }
INLINE void put(float *to, float value) { *to = value; }
INLINE void put(float *to, Lanes value) { at(to) = value; }
INLINE void add(double *to, float value) { *to += value; }
INLINE void add(double *to, Lanes value) {
  for (int64_t i = 0; i < LANES; i++) to[i] += value[i];
}

// A batch norm as the forward pass needs it; `sums` (double [2, channels]) may be null: no statistics.
struct Forward {
  const float *input, *scale, *shift, *centre;
  double *sums;
};

// `T` is a float or 16 of them: one column of channels over rows [from, to).
template <typename T, bool SUMS, int SIDE, bool SIDE_SUMS>
INLINE void forward_column(const Forward &main, const Forward &side, float *output, int64_t from, int64_t to, int64_t channels,
                           int64_t channel) {
  const T scale = lane(main.scale + channel, T{}), shift = lane(main.shift + channel, T{});
  const T centre = SUMS ? lane(main.centre + channel, T{}) : T{};
  const T side_scale = SIDE == 2 ? lane(side.scale + channel, T{}) : T{};
  const T side_shift = SIDE == 2 ? lane(side.shift + channel, T{}) : T{};
  const T side_centre = SIDE_SUMS ? lane(side.centre + channel, T{}) : T{};
  T first{}, second{}, side_first{}, side_second{};
  for (int64_t row = from; row < to; row++) {
    const int64_t place = row * channels + channel;
    const T z = lane(main.input + place, T{});
    T y = scale * z + shift;
    if (SUMS) {
      const T off = z - centre;
      first += off;
      second += off * off;
    }
    if (SIDE == 1) y += lane(side.input + place, T{});
    if (SIDE == 2) {
      const T r = lane(side.input + place, T{});
      y += side_scale * r + side_shift;
      if (SIDE_SUMS) {
        const T off = r - side_centre;
        side_first += off;
        side_second += off * off;
      }
    }
    put(output + place, relu(y));
  }
  if (SUMS) {
    add(main.sums + channel, first);
    add(main.sums + channels + channel, second);
  }
  if (SIDE_SUMS) {
    add(side.sums + channel, side_first);
    add(side.sums + channels + channel, side_second);
  }
}

template <bool SUMS, int SIDE, bool SIDE_SUMS>
INLINE void forward_rows(const Forward &main, const Forward &side, float *output, int64_t from, int64_t to, int64_t channels) {
  for (int64_t row = from; row < to; row += ROWS) {
    const int64_t end = std::min(row + ROWS, to);
    int64_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      forward_column<Lanes, SUMS, SIDE, SIDE_SUMS>(main, side, output, row, end, channels, channel);
    for (; channel < channels; channel++)
      forward_column<float, SUMS, SIDE, SIDE_SUMS>(main, side, output, row, end, channels, channel);
  }
}

#define FORWARD_ROWS(name, sums, side, side_sums)                                                                                     \
  EACH_CPU void name(const Forward &main, const Forward &side_, float *output, int64_t from, int64_t to, int64_t channels) {          \
    forward_rows<sums, side, side_sums>(main, side_, output, from, to, channels);                                                     \
  }
FORWARD_ROWS(forward_plain, false, 0, false)
FORWARD_ROWS(forward_plain_add, false, 1, false)
FORWARD_ROWS(forward_plain_join, false, 2, false)
FORWARD_ROWS(forward_sums, true, 0, false)
FORWARD_ROWS(forward_sums_add, true, 1, false)
FORWARD_ROWS(forward_sums_join, true, 2, true)

// One batch norm as the backward pass needs it. With statistics: gradient = scale·g + offset + slope·input. Without: `offset` is null.
struct Backward {
  const float *input, *scale, *shift, *offset, *slope;
};

template <typename T, bool SUMS, bool TWO>
INLINE void backward_column(const Backward &norm, float *gradient, const float *other, int64_t from, int64_t to, int64_t channels,
                            int64_t channel) {
  const T scale = lane(norm.scale + channel, T{}), shift = SUMS ? lane(norm.shift + channel, T{}) : T{};
  const T offset = SUMS ? lane(norm.offset + channel, T{}) : T{}, slope = SUMS ? lane(norm.slope + channel, T{}) : T{};
  for (int64_t row = from; row < to; row++) {
    const int64_t place = row * channels + channel;
    const T x = lane(norm.input + place, T{});
    T g = lane(gradient + place, T{});
    if (TWO) g += lane(other + place, T{});
    if (SUMS)
      g = where_positive(scale * x + shift, scale * g) + (slope * x + offset);
    else
      g = where_positive(x, scale * g);
    put(gradient + place, g);
  }
}

template <bool SUMS, bool TWO>
INLINE void backward_rows(const Backward &norm, float *gradient, const float *other, int64_t from, int64_t to, int64_t channels) {
  for (int64_t row = from; row < to; row += ROWS) {
    const int64_t end = std::min(row + ROWS, to);
    int64_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      backward_column<Lanes, SUMS, TWO>(norm, gradient, other, row, end, channels, channel);
    for (; channel < channels; channel++) backward_column<float, SUMS, TWO>(norm, gradient, other, row, end, channels, channel);
  }
}

#define BACKWARD_ROWS(name, sums, two)                                                                                                \
  EACH_CPU void name(const Backward &norm, float *gradient, const float *other, int64_t from, int64_t to, int64_t channels) {         \
    backward_rows<sums, two>(norm, gradient, other, from, to, channels);                                                              \
  }
BACKWARD_ROWS(backward_plain, false, false)
BACKWARD_ROWS(backward_plain_two, false, true)
BACKWARD_ROWS(backward_sums, true, false)
BACKWARD_ROWS(backward_sums_two, true, true)

// The end of a block: g = (g + other) where the block's output is positive; gradients of both branches' batch-norm inputs.
template <typename T, bool SUMS, bool SIDE, bool TWO>
INLINE void branch_column(const Backward &main, const Backward &side, const float *output, float *gradient, const float *other,
                          float *main_gradient, int64_t from, int64_t to, int64_t channels, int64_t channel) {
  const T scale = lane(main.scale + channel, T{}), side_scale = SIDE ? lane(side.scale + channel, T{}) : T{};
  const T offset = SUMS ? lane(main.offset + channel, T{}) : T{}, slope = SUMS ? lane(main.slope + channel, T{}) : T{};
  const T side_offset = SUMS && SIDE ? lane(side.offset + channel, T{}) : T{};
  const T side_slope = SUMS && SIDE ? lane(side.slope + channel, T{}) : T{};
  for (int64_t row = from; row < to; row++) {
    const int64_t place = row * channels + channel;
    T g = lane(gradient + place, T{});
    if (TWO) g += lane(other + place, T{});
    g = where_positive(lane(output + place, T{}), g);
    T down = scale * g;
    if (SUMS) down += slope * lane(main.input + place, T{}) + offset;
    put(main_gradient + place, down);
    if (SIDE) {
      g = side_scale * g;
      if (SUMS) g += side_slope * lane(side.input + place, T{}) + side_offset;
    }
    put(gradient + place, g);
  }
}

template <bool SUMS, bool SIDE, bool TWO>
INLINE void branch_rows(const Backward &main, const Backward &side, const float *output, float *gradient, const float *other,
                        float *main_gradient, int64_t from, int64_t to, int64_t channels) {
  for (int64_t row = from; row < to; row += ROWS) {
    const int64_t end = std::min(row + ROWS, to);
    int64_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      branch_column<Lanes, SUMS, SIDE, TWO>(main, side, output, gradient, other, main_gradient, row, end, channels, channel);
    for (; channel < channels; channel++)
      branch_column<float, SUMS, SIDE, TWO>(main, side, output, gradient, other, main_gradient, row, end, channels, channel);
  }
}

#define BRANCH_ROWS(name, sums, side_, two)                                                                                           \
  EACH_CPU void name(const Backward &main, const Backward &side, const float *output, float *gradient, const float *other,            \
                     float *main_gradient, int64_t from, int64_t to, int64_t channels) {                                              \
    branch_rows<sums, side_, two>(main, side, output, gradient, other, main_gradient, from, to, channels);                            \
  }
BRANCH_ROWS(branch_plain, false, false, false)
BRANCH_ROWS(branch_plain_two, false, false, true)
BRANCH_ROWS(branch_plain_side, false, true, false)
BRANCH_ROWS(branch_plain_side_two, false, true, true)
BRANCH_ROWS(branch_sums, true, false, false)
BRANCH_ROWS(branch_sums_two, true, false, true)
BRANCH_ROWS(branch_sums_side, true, true, false)
BRANCH_ROWS(branch_sums_side_two, true, true, true)

// The 3×3 convolution of stride 1 from `inputs` (at most 3) channels, backwards: 9·inputs accumulated vectors a pixel. `weight` is
// [3, 3, inputs, padded], the output channels padded with zeros to a multiple of the lanes.
template <int INPUTS>
INLINE void stem_pixel(const float *gradient, const float *weight, float *result, int64_t y, int64_t x, int64_t height, int64_t width,
                       int64_t channels, int64_t padded) {
  Lanes sum[INPUTS] = {};
  float rest[INPUTS] = {};
  const int64_t whole = channels - channels % LANES;
  for (int64_t row = 0; row < 3; row++) {
    const int64_t from_y = y + 1 - row;
    if (from_y < 0 || from_y >= height) continue;
    for (int64_t column = 0; column < 3; column++) {
      const int64_t from_x = x + 1 - column;
      if (from_x < 0 || from_x >= width) continue;
      const float *from = gradient + (from_y * width + from_x) * channels;
      const float *by = weight + (row * 3 + column) * INPUTS * padded;
      for (int64_t channel = 0; channel < whole; channel += LANES)
        for (int i = 0; i < INPUTS; i++) sum[i] += at(from + channel) * at(by + i * padded + channel);
      for (int64_t channel = whole; channel < channels; channel++)
        for (int i = 0; i < INPUTS; i++) rest[i] += from[channel] * by[i * padded + channel];
    }
  }
  for (int i = 0; i < INPUTS; i++) {
    float total = rest[i];
    for (int64_t lane = 0; lane < LANES; lane++) total += sum[i][lane];
    result[(y * width + x) * INPUTS + i] = total;
  }
}

template <int INPUTS>
INLINE void stem_rows(const float *gradient, const float *weight, float *result, int64_t from, int64_t to, int64_t height,
                      int64_t width, int64_t channels, int64_t padded) {
  for (int64_t row = from; row < to; row++) {
    const int64_t image = row / height, pixels = height * width;
    for (int64_t x = 0; x < width; x++)
      stem_pixel<INPUTS>(gradient + image * pixels * channels, weight, result + image * pixels * INPUTS, row % height, x, height, width,
                         channels, padded);
  }
}

EACH_CPU void stem_rows_1(const float *gradient, const float *weight, float *result, int64_t from, int64_t to, int64_t height,
                          int64_t width, int64_t channels, int64_t padded) {
  stem_rows<1>(gradient, weight, result, from, to, height, width, channels, padded);
}
EACH_CPU void stem_rows_3(const float *gradient, const float *weight, float *result, int64_t from, int64_t to, int64_t height,
                          int64_t width, int64_t channels, int64_t padded) {
  stem_rows<3>(gradient, weight, result, from, to, height, width, channels, padded);
}

// Sums of squares of one image row's differences to its right, lower, lower-left and lower-right neighbours, and of its values.
// `below` is null in the last row. `step` is the number of channels, `length` = width·channels.
EACH_CPU void variation_row(const float *row, const float *below, int64_t length, int64_t step, double *sums) {
  float right = 0, down = 0, left_down = 0, right_down = 0, square = 0;
#pragma omp simd reduction(+ : right)
  for (int64_t i = 0; i < length - step; i++) right += (row[i] - row[i + step]) * (row[i] - row[i + step]);
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

// to[i] += by · (x[i] − y[i]).
EACH_CPU void pull(const float *x, const float *y, float by, float *to, int64_t length) {
#pragma omp simd
  for (int64_t i = 0; i < length; i++) to[i] += by * (x[i] - y[i]);
}

EACH_CPU void scaled(const float *x, float by, float *to, int64_t length) {
#pragma omp simd
  for (int64_t i = 0; i < length; i++) to[i] = by * x[i];
}

// The gradient of by·‖x − y‖² / 2 with respect to both.
void spread(const float *x, const float *y, float by, float *to_x, float *to_y, int64_t length) {
  pull(x, y, by, to_x, length);
  pull(y, x, by, to_y, length);
}

// One image's gradient: by[0..4] over the four directions, by[4] on the values.
void variation_gradient(const float *image, const float *by, float *gradient, int64_t height, int64_t length, int64_t step) {
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

EACH_CPU void adam_range(float *x, const float *g, float *first, float *second, int64_t from, int64_t to, float beta1, float beta2,
                         float rate, float root, float eps) {
#pragma omp simd
  for (int64_t i = from; i < to; i++) {
    first[i] += (1 - beta1) * (g[i] - first[i]);
    second[i] = beta2 * second[i] + (1 - beta2) * g[i] * g[i];
    x[i] -= rate * first[i] / (std::sqrt(second[i]) / root + eps);
  }
}

// Runs work(thread, from, to) on each thread's share of [0, count).
template <typename Work> void share(int64_t count, const Work &work) {
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const int64_t from = count * thread / threads, to = count * (thread + 1) / threads;
    if (from < to) work(thread, from, to);
  }
}

// Sums of every thread, joined in the order of the threads.
struct Sums {
  std::vector<double> values;
  int64_t length;
  Sums(int64_t length) : values(size_t(omp_get_max_threads()) * length), length(length) {}
  double *of(int64_t thread) { return values.data() + thread * length; }
  void join(double *into) {
    std::fill(into, into + length, 0.0);
    for (size_t i = 0; i < values.size(); i++) into[i % length] += values[i];
  }
};

} // namespace

extern "C" {

void fd_forward(int64_t rows, int64_t channels, const float *input, const float *scale, const float *shift, const float *centre,
                double *sums, int side, const float *side_input, const float *side_scale, const float *side_shift,
                const float *side_centre, double *side_sums, float *output) {
  const bool with = sums != nullptr;
  const auto run = with ? (side == 0   ? forward_sums
                           : side == 1 ? forward_sums_add
                                       : forward_sums_join)
                        : (side == 0   ? forward_plain
                           : side == 1 ? forward_plain_add
                                       : forward_plain_join);
  Sums main_sums(with ? 2 * channels : 0), other_sums(with && side == 2 ? 2 * channels : 0);
  share(rows, [&](int64_t thread, int64_t from, int64_t to) {
    run({input, scale, shift, centre, main_sums.of(thread)}, {side_input, side_scale, side_shift, side_centre, other_sums.of(thread)},
        output, from, to, channels);
  });
  if (with) main_sums.join(sums);
  if (with && side == 2) other_sums.join(side_sums);
}

void fd_backward(int64_t rows, int64_t channels, const float *input, const float *scale, const float *shift, const float *offset,
                 const float *slope, float *gradient, const float *other) {
  const auto run = offset ? (other ? backward_sums_two : backward_sums) : (other ? backward_plain_two : backward_plain);
  share(rows, [&](int64_t, int64_t from, int64_t to) {
    run({input, scale, shift, offset, slope}, gradient, other, from, to, channels);
  });
}

void fd_branch(int64_t rows, int64_t channels, const float *output, const float *input, const float *scale, const float *offset,
               const float *slope, const float *side_input, const float *side_scale, const float *side_offset, const float *side_slope,
               float *gradient, const float *other, float *main_gradient) {
  const auto run = offset ? (side_scale ? (other ? branch_sums_side_two : branch_sums_side) : (other ? branch_sums_two : branch_sums))
                          : (side_scale ? (other ? branch_plain_side_two : branch_plain_side) : (other ? branch_plain_two : branch_plain));
  share(rows, [&](int64_t, int64_t from, int64_t to) {
    run({input, scale, nullptr, offset, slope}, {side_input, side_scale, nullptr, side_offset, side_slope}, output, gradient, other,
        main_gradient, from, to, channels);
  });
}

void fd_stem(int64_t images, int64_t height, int64_t width, int64_t inputs, int64_t channels, int64_t padded, const float *gradient,
             const float *weight, float *result) {
  const auto run = inputs == 1 ? stem_rows_1 : stem_rows_3;
  share(images * height, [&](int64_t, int64_t from, int64_t to) {
    run(gradient, weight, result, from, to, height, width, channels, padded);
  });
}

// `sums` double [5]: squares of the four differences and of the values.
void fd_variation(int64_t images, int64_t height, int64_t length, int64_t step, const float *x, double *sums) {
  Sums each(5);
  share(images * height, [&](int64_t thread, int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const float *here = x + row * length;
      variation_row(here, (row + 1) % height ? here + length : nullptr, length, step, each.of(thread));
    }
  });
  each.join(sums);
}

void fd_variation_gradient(int64_t images, int64_t height, int64_t length, int64_t step, const float *x, const float *by,
                           float *gradient) {
  share(images, [&](int64_t, int64_t from, int64_t to) {
    for (int64_t image = from; image < to; image++)
      variation_gradient(x + image * height * length, by, gradient + image * height * length, height, length, step);
  });
}

void fd_adam(int64_t count, float *x, const float *g, float *first, float *second, float beta1, float beta2, float rate, float root,
             float eps) {
  share(count, [&](int64_t, int64_t from, int64_t to) { adam_range(x, g, first, second, from, to, beta1, beta2, rate, root, eps); });
}
}
