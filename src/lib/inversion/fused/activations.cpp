// Takes the passes over activations between the convolutions of a frozen network, each over its
// data once; mod.rs has the algebra, and kernels.rs, the only caller, states what each function
// expects. Activations are rows of channels (NHWC seen as [rows, channels]), float, dense. Work is
// divided by rows.

#include "../../lanes.h"

namespace {

// Holds a batch norm as the forward pass needs it; without statistics `sums` (double [2, channels])
// is null.
struct Forward {
  const float *input, *scale, *shift, *centre;
  double *sums;
};

// Takes the pass over one column of channels, for rows [from, to); `T` is a float or 16 of them.
template <typename T, bool SUMS, int SIDE, bool SIDE_SUMS>
INLINE void forward_column(const Forward &main, const Forward &side, float *output, int64_t from,
                           int64_t to, int64_t channels, int64_t channel) {
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
INLINE void forward_rows(const Forward &main, const Forward &side, float *output, int64_t from,
                         int64_t to, int64_t channels) {
  for (int64_t row = from; row < to; row += ROWS) {
    const int64_t end = std::min(row + ROWS, to);
    int64_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      forward_column<Lanes, SUMS, SIDE, SIDE_SUMS>(main, side, output, row, end, channels, channel);
    for (; channel < channels; channel++)
      forward_column<float, SUMS, SIDE, SIDE_SUMS>(main, side, output, row, end, channels, channel);
  }
}

#define FORWARD_ROWS(name, sums, side, side_sums)                                            \
  EACH_CPU void name(const Forward &main, const Forward &side_, float *output, int64_t from, \
                     int64_t to, int64_t channels) {                                         \
    forward_rows<sums, side, side_sums>(main, side_, output, from, to, channels);            \
  }
FORWARD_ROWS(forward_plain, false, 0, false)
FORWARD_ROWS(forward_plain_add, false, 1, false)
FORWARD_ROWS(forward_plain_join, false, 2, false)
FORWARD_ROWS(forward_sums, true, 0, false)
FORWARD_ROWS(forward_sums_add, true, 1, false)
FORWARD_ROWS(forward_sums_join, true, 2, true)

// Holds a batch norm as the backward pass needs it. With statistics the gradient is scale·g +
// offset + slope·input; without, `offset` is null.
struct Backward {
  const float *input, *scale, *shift, *offset, *slope;
};

template <typename T, bool SUMS, bool TWO>
INLINE void backward_column(const Backward &norm, float *gradient, const float *other, int64_t from,
                            int64_t to, int64_t channels, int64_t channel) {
  const T scale = lane(norm.scale + channel, T{}),
          shift = SUMS ? lane(norm.shift + channel, T{}) : T{};
  const T offset = SUMS ? lane(norm.offset + channel, T{}) : T{},
          slope = SUMS ? lane(norm.slope + channel, T{}) : T{};
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
INLINE void backward_rows(const Backward &norm, float *gradient, const float *other, int64_t from,
                          int64_t to, int64_t channels) {
  for (int64_t row = from; row < to; row += ROWS) {
    const int64_t end = std::min(row + ROWS, to);
    int64_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      backward_column<Lanes, SUMS, TWO>(norm, gradient, other, row, end, channels, channel);
    for (; channel < channels; channel++)
      backward_column<float, SUMS, TWO>(norm, gradient, other, row, end, channels, channel);
  }
}

#define BACKWARD_ROWS(name, sums, two)                                                        \
  EACH_CPU void name(const Backward &norm, float *gradient, const float *other, int64_t from, \
                     int64_t to, int64_t channels) {                                          \
    backward_rows<sums, two>(norm, gradient, other, from, to, channels);                      \
  }
BACKWARD_ROWS(backward_plain, false, false)
BACKWARD_ROWS(backward_plain_two, false, true)
BACKWARD_ROWS(backward_sums, true, false)
BACKWARD_ROWS(backward_sums_two, true, true)

// Takes the end of a block backwards: g becomes g + other where the block's output is positive, 0
// elsewhere; computes the gradients of the inputs of both branches' batch norms.
template <typename T, bool SUMS, bool SIDE, bool TWO>
INLINE void branch_column(const Backward &main, const Backward &side, const float *output,
                          float *gradient, const float *other, float *main_gradient, int64_t from,
                          int64_t to, int64_t channels, int64_t channel) {
  const T scale = lane(main.scale + channel, T{}),
          side_scale = SIDE ? lane(side.scale + channel, T{}) : T{};
  const T offset = SUMS ? lane(main.offset + channel, T{}) : T{},
          slope = SUMS ? lane(main.slope + channel, T{}) : T{};
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
INLINE void branch_rows(const Backward &main, const Backward &side, const float *output,
                        float *gradient, const float *other, float *main_gradient, int64_t from,
                        int64_t to, int64_t channels) {
  for (int64_t row = from; row < to; row += ROWS) {
    const int64_t end = std::min(row + ROWS, to);
    int64_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      branch_column<Lanes, SUMS, SIDE, TWO>(main, side, output, gradient, other, main_gradient, row,
                                            end, channels, channel);
    for (; channel < channels; channel++)
      branch_column<float, SUMS, SIDE, TWO>(main, side, output, gradient, other, main_gradient, row,
                                            end, channels, channel);
  }
}

#define BRANCH_ROWS(name, sums, side_, two)                                                     \
  EACH_CPU void name(const Backward &main, const Backward &side, const float *output,           \
                     float *gradient, const float *other, float *main_gradient, int64_t from,   \
                     int64_t to, int64_t channels) {                                            \
    branch_rows<sums, side_, two>(main, side, output, gradient, other, main_gradient, from, to, \
                                  channels);                                                    \
  }
BRANCH_ROWS(branch_plain, false, false, false)
BRANCH_ROWS(branch_plain_two, false, false, true)
BRANCH_ROWS(branch_plain_side, false, true, false)
BRANCH_ROWS(branch_plain_side_two, false, true, true)
BRANCH_ROWS(branch_sums, true, false, false)
BRANCH_ROWS(branch_sums_two, true, false, true)
BRANCH_ROWS(branch_sums_side, true, true, false)
BRANCH_ROWS(branch_sums_side_two, true, true, true)

// Takes the 3×3 convolution of stride 1 from INPUTS (1 or 3) channels backwards, with one
// accumulated vector an input channel. `weight` is [3, 3, INPUTS, channels].
template <int INPUTS>
INLINE void stem_pixel(const float *gradient, const float *weight, float *result, int64_t y,
                       int64_t x, int64_t height, int64_t width, int64_t channels) {
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
      const float *by = weight + (row * 3 + column) * INPUTS * channels;
      for (int64_t channel = 0; channel < whole; channel += LANES)
        for (int i = 0; i < INPUTS; i++)
          sum[i] += at(from + channel) * at(by + i * channels + channel);
      for (int64_t channel = whole; channel < channels; channel++)
        for (int i = 0; i < INPUTS; i++) rest[i] += from[channel] * by[i * channels + channel];
    }
  }
  for (int i = 0; i < INPUTS; i++) {
    float total = rest[i];
    for (int64_t lane = 0; lane < LANES; lane++) total += sum[i][lane];
    result[(y * width + x) * INPUTS + i] = total;
  }
}

template <int INPUTS>
INLINE void stem_rows(const float *gradient, const float *weight, float *result, int64_t from,
                      int64_t to, int64_t height, int64_t width, int64_t channels) {
  for (int64_t row = from; row < to; row++) {
    const int64_t image = row / height, pixels = height * width;
    for (int64_t x = 0; x < width; x++)
      stem_pixel<INPUTS>(gradient + image * pixels * channels, weight,
                         result + image * pixels * INPUTS, row % height, x, height, width,
                         channels);
  }
}

EACH_CPU void stem_rows_1(const float *gradient, const float *weight, float *result, int64_t from,
                          int64_t to, int64_t height, int64_t width, int64_t channels) {
  stem_rows<1>(gradient, weight, result, from, to, height, width, channels);
}
EACH_CPU void stem_rows_3(const float *gradient, const float *weight, float *result, int64_t from,
                          int64_t to, int64_t height, int64_t width, int64_t channels) {
  stem_rows<3>(gradient, weight, result, from, to, height, width, channels);
}

}  // namespace

extern "C" {

void fd_forward(int64_t rows, int64_t channels, const float *input, const float *scale,
                const float *shift, const float *centre, double *sums, int side,
                const float *side_input, const float *side_scale, const float *side_shift,
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
    run({input, scale, shift, centre, main_sums.of(thread)},
        {side_input, side_scale, side_shift, side_centre, other_sums.of(thread)}, output, from, to,
        channels);
  });
  if (with) main_sums.join(sums);
  if (with && side == 2) other_sums.join(side_sums);
}

void fd_backward(int64_t rows, int64_t channels, const float *input, const float *scale,
                 const float *shift, const float *offset, const float *slope, float *gradient,
                 const float *other) {
  const auto run = offset ? (other ? backward_sums_two : backward_sums)
                          : (other ? backward_plain_two : backward_plain);
  share(rows, [&](int64_t, int64_t from, int64_t to) {
    run({input, scale, shift, offset, slope}, gradient, other, from, to, channels);
  });
}

void fd_branch(int64_t rows, int64_t channels, const float *output, const float *input,
               const float *scale, const float *offset, const float *slope, const float *side_input,
               const float *side_scale, const float *side_offset, const float *side_slope,
               float *gradient, const float *other, float *main_gradient) {
  const auto run = offset ? (side_scale ? (other ? branch_sums_side_two : branch_sums_side)
                                        : (other ? branch_sums_two : branch_sums))
                          : (side_scale ? (other ? branch_plain_side_two : branch_plain_side)
                                        : (other ? branch_plain_two : branch_plain));
  share(rows, [&](int64_t, int64_t from, int64_t to) {
    run({input, scale, nullptr, offset, slope},
        {side_input, side_scale, nullptr, side_offset, side_slope}, output, gradient, other,
        main_gradient, from, to, channels);
  });
}

void fd_stem(int64_t images, int64_t height, int64_t width, int64_t inputs, int64_t channels,
             const float *gradient, const float *weight, float *result) {
  const auto run = inputs == 1 ? stem_rows_1 : stem_rows_3;
  share(images * height, [&](int64_t, int64_t from, int64_t to) {
    run(gradient, weight, result, from, to, height, width, channels);
  });
}
}
