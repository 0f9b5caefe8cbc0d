// Computes the transforms before and after Winograd's products; winograd.rs has the algebra, and is
// the only caller.

#include "lanes.h"

namespace {

// Holds the values [4,4] of a tile, each 16 channels wide.
struct Tile {
  Lanes at[4][4];
};

// Numbers tiles by image, row and column; each covers 2×2 pixels.
struct Grid {
  int64_t height, width, rows, columns;
  Grid(int64_t height, int64_t width)
      : height(height), width(width), rows((height + 1) / 2), columns((width + 1) / 2) {}
};

// Returns Bᵀ·d·B.
INLINE Tile input_transform(const Tile &d) {
  Tile t, v;
  for (int j = 0; j < 4; j++) {
    t.at[0][j] = d.at[0][j] - d.at[2][j];
    t.at[1][j] = d.at[1][j] + d.at[2][j];
    t.at[2][j] = d.at[2][j] - d.at[1][j];
    t.at[3][j] = d.at[1][j] - d.at[3][j];
  }
  for (int i = 0; i < 4; i++) {
    v.at[i][0] = t.at[i][0] - t.at[i][2];
    v.at[i][1] = t.at[i][1] + t.at[i][2];
    v.at[i][2] = t.at[i][2] - t.at[i][1];
    v.at[i][3] = t.at[i][1] - t.at[i][3];
  }
  return v;
}

// Computes Aᵀ·m·A in the upper left 2×2.
INLINE Tile output_transform(const Tile &m) {
  Tile t, y;
  for (int j = 0; j < 4; j++) {
    t.at[0][j] = m.at[0][j] + m.at[1][j] + m.at[2][j];
    t.at[1][j] = m.at[1][j] - m.at[2][j] - m.at[3][j];
  }
  for (int i = 0; i < 2; i++) {
    y.at[i][0] = t.at[i][0] + t.at[i][1] + t.at[i][2];
    y.at[i][1] = t.at[i][1] - t.at[i][2] - t.at[i][3];
  }
  return y;
}

// Returns which of the 16 products value (i, j) of a tile belongs to: for the transposed
// convolution 0 and 3 are exchanged.
INLINE int place(int i, int j, bool flipped) {
  const int order[4] = {flipped ? 3 : 0, 1, 2, flipped ? 0 : 3};
  return 4 * order[i] + order[j];
}

EACH_CPU void input_tiles(const float *x, const Grid &grid, int64_t channels, bool flipped,
                          float *v, int64_t tiles, int64_t from, int64_t to) {
  for (int64_t tile = from; tile < to; tile++) {
    const int64_t image = tile / (grid.rows * grid.columns),
                  top = 2 * (tile / grid.columns % grid.rows) - 1,
                  left = 2 * (tile % grid.columns) - 1;
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Tile d;
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
          const int64_t row = top + i, column = left + j;
          const bool inside = row >= 0 && row < grid.height && column >= 0 && column < grid.width;
          d.at[i][j] =
              inside
                  ? at(x + ((image * grid.height + row) * grid.width + column) * channels + channel)
                  : Lanes{};
        }
      const Tile out = input_transform(d);
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
          at(v + (place(i, j, flipped) * tiles + tile) * channels + channel) = out.at[i][j];
    }
  }
}

EACH_CPU void output_tiles(const float *m, const Grid &grid, int64_t channels, bool flipped,
                           float *y, int64_t tiles, int64_t from, int64_t to) {
  for (int64_t tile = from; tile < to; tile++) {
    const int64_t image = tile / (grid.rows * grid.columns),
                  top = 2 * (tile / grid.columns % grid.rows), left = 2 * (tile % grid.columns);
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      Tile d;
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
          d.at[i][j] = at(m + (place(i, j, flipped) * tiles + tile) * channels + channel);
      const Tile out = output_transform(d);
      for (int i = 0; i < 2 && top + i < grid.height; i++)
        for (int j = 0; j < 2 && left + j < grid.width; j++)
          at(y + ((image * grid.height + top + i) * grid.width + left + j) * channels + channel) =
              out.at[i][j];
    }
  }
}

}  // namespace

extern "C" {

// Transforms `x` [images,height,width,channels] to `v` [16,tiles,channels]; the number of channels
// is a multiple of 16.
void fd_winograd_input(int64_t images, int64_t height, int64_t width, int64_t channels,
                       bool flipped, const float *x, float *v) {
  const Grid grid(height, width);
  const int64_t tiles = images * grid.rows * grid.columns;
  share(tiles, [&](int64_t, int64_t from, int64_t to) {
    input_tiles(x, grid, channels, flipped, v, tiles, from, to);
  });
}

// Transforms `m` [16,tiles,channels] to `y` [images,height,width,channels].
void fd_winograd_output(int64_t images, int64_t height, int64_t width, int64_t channels,
                        bool flipped, const float *m, float *y) {
  const Grid grid(height, width);
  const int64_t tiles = images * grid.rows * grid.columns;
  share(tiles, [&](int64_t, int64_t from, int64_t to) {
    output_tiles(m, grid, channels, flipped, y, tiles, from, to);
  });
}
}
