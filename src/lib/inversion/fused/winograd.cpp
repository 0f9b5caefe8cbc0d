// Computes the transforms before and after Winograd's products; winograd.rs has the algebra, and is
// the only caller.

#include "../../lanes.h"

namespace {

// Describes F(2×2, 3×3): tiles of 4×4 values for 2×2 outputs. `input` returns Bᵀ·d and `output`
// Aᵀ·m, of one row or column.
struct Two {
  static constexpr int64_t INPUT = 4, OUTPUT = 2;
  static METHOD void input(const Lanes *d, Lanes *v) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
  }
  static METHOD void output(const Lanes *m, Lanes *y) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] - m[3];
  }
};

// Describes F(4×4, 3×3) in the same way: tiles of 6×6 values for 4×4 outputs.
struct Four {
  static constexpr int64_t INPUT = 6, OUTPUT = 4;
  static METHOD void input(const Lanes *d, Lanes *v) {
    const Lanes odd = d[3] - d[1], even = d[4] - d[2];
    v[0] = d[0] + 1.5f * odd - 2 * d[2] + d[4];
    v[1] = 2.5f * d[3] - d[1] + 0.5f * d[2] + d[4];
    v[2] = d[1] - 2.5f * d[2] + 0.5f * d[3] + d[4];
    v[3] = even + 2 * odd;
    v[4] = even - 0.5f * odd;
    v[5] = d[1] + 1.5f * even - 2 * d[3] + d[5];
  }
  static METHOD void output(const Lanes *m, Lanes *y) {
    const Lanes sum = m[1] + m[2], difference = m[1] - m[2];
    y[0] = m[0] + sum + m[3] + m[4];
    y[1] = difference + 0.5f * m[3] - 2 * m[4];
    y[2] = sum + 0.25f * m[3] + 4 * m[4];
    y[3] = difference + 0.125f * m[3] - 8 * m[4] + m[5];
  }
};

// Holds what a transform works on: images [images,height,width,channels] beside tiles
// [INPUT·INPUT,tiles,channels]. Tiles are numbered by image, row and column; each covers
// OUTPUT×OUTPUT pixels.
template <typename F>
struct Work {
  int64_t height, width, channels;
  // For the transposed convolution, in which the last row and column of a tile come first.
  bool flipped;
  int64_t rows, columns, tiles;

  Work(int64_t images, int64_t height, int64_t width, int64_t channels, bool flipped)
      : height(height),
        width(width),
        channels(channels),
        flipped(flipped),
        rows((height + F::OUTPUT - 1) / F::OUTPUT),
        columns((width + F::OUTPUT - 1) / F::OUTPUT),
        tiles(images * rows * columns) {}

  // Returns the index of a pixel's first channel, below zero outside of the image: of pixel (i, j)
  // of a tile's `count` rows and columns, which begin `before` pixels above and left of it.
  METHOD int64_t pixel(int64_t tile, int64_t i, int64_t j, int64_t count,
                              int64_t before) const {
    const int64_t image = tile / (rows * columns), end = count - 1 - before,
                  row = F::OUTPUT * (tile / columns % rows) + (flipped ? end - i : i - before),
                  column = F::OUTPUT * (tile % columns) + (flipped ? end - j : j - before);
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    return inside ? ((image * height + row) * width + column) * channels : -1;
  }

  // Returns the index of value (i, j) of a tile.
  METHOD int64_t value(int64_t tile, int64_t i, int64_t j) const {
    return ((F::INPUT * i + j) * tiles + tile) * channels;
  }

  // Writes Bᵀ·d·B of the images `x` to `v`.
  METHOD void input(const float *x, float *v, int64_t from, int64_t to) const {
    constexpr int64_t IN = F::INPUT;
    for (int64_t tile = from; tile < to; tile++)
      for (int64_t channel = 0; channel < channels; channel += LANES) {
        Lanes d[IN], columns[IN][IN], out[IN];
        for (int64_t j = 0; j < IN; j++) {
          for (int64_t i = 0; i < IN; i++) {
            const int64_t index = pixel(tile, i, j, IN, 1);
            d[i] = index < 0 ? Lanes{} : at(x + index + channel);
          }
          F::input(d, columns[j]);
        }
        for (int64_t i = 0; i < IN; i++) {
          for (int64_t j = 0; j < IN; j++) d[j] = columns[j][i];
          F::input(d, out);
          for (int64_t j = 0; j < IN; j++) at(v + value(tile, i, j) + channel) = out[j];
        }
      }
  }

  // Writes Aᵀ·m·A of the products `m` to the images `y`.
  METHOD void output(const float *m, float *y, int64_t from, int64_t to) const {
    constexpr int64_t IN = F::INPUT, OUT = F::OUTPUT;
    for (int64_t tile = from; tile < to; tile++)
      for (int64_t channel = 0; channel < channels; channel += LANES) {
        Lanes d[IN], columns[IN][OUT], out[OUT];
        for (int64_t j = 0; j < IN; j++) {
          for (int64_t i = 0; i < IN; i++) d[i] = at(m + value(tile, i, j) + channel);
          F::output(d, columns[j]);
        }
        for (int64_t i = 0; i < OUT; i++) {
          for (int64_t j = 0; j < IN; j++) d[j] = columns[j][i];
          F::output(d, out);
          for (int64_t j = 0; j < OUT; j++) {
            const int64_t index = pixel(tile, i, j, OUT, 0);
            if (index >= 0) at(y + index + channel) = out[j];
          }
        }
      }
  }
};

// Functions, since the compiler makes copies of a template for one processor alone.
EACH_CPU void input_two(const Work<Two> &work, const float *x, float *v, int64_t from,
                        int64_t to) {
  work.input(x, v, from, to);
}
EACH_CPU void input_four(const Work<Four> &work, const float *x, float *v, int64_t from,
                         int64_t to) {
  work.input(x, v, from, to);
}
EACH_CPU void output_two(const Work<Two> &work, const float *m, float *y, int64_t from,
                         int64_t to) {
  work.output(m, y, from, to);
}
EACH_CPU void output_four(const Work<Four> &work, const float *m, float *y, int64_t from,
                          int64_t to) {
  work.output(m, y, from, to);
}

// Shares the tiles among the threads.
template <typename F, typename Pass>
void share_tiles(const Work<F> &work, Pass pass, const float *from, float *to) {
  share(work.tiles, [&](int64_t, int64_t first, int64_t end) { pass(work, from, to, first, end); });
}

}  // namespace

extern "C" {

// Transforms `x` [images,height,width,channels] to `v` [positions,tiles,channels] for outputs of
// `output`×`output` pixels, 2 or 4; the number of channels is a multiple of 16.
void fd_winograd_input(int64_t output, int64_t images, int64_t height, int64_t width,
                       int64_t channels, bool flipped, const float *x, float *v) {
  if (output == 2)
    share_tiles(Work<Two>(images, height, width, channels, flipped), input_two, x, v);
  else
    share_tiles(Work<Four>(images, height, width, channels, flipped), input_four, x, v);
}

// Transforms `m` [positions,tiles,channels] to `y` [images,height,width,channels].
void fd_winograd_output(int64_t output, int64_t images, int64_t height, int64_t width,
                        int64_t channels, bool flipped, const float *m, float *y) {
  if (output == 2)
    share_tiles(Work<Two>(images, height, width, channels, flipped), output_two, m, y);
  else
    share_tiles(Work<Four>(images, height, width, channels, flipped), output_four, m, y);
}
}
