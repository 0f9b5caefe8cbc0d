// Computes a convolution of few input channels with ReLU and optional 2×2 max pooling in one pass,
// forward, and backward to the images or the weights, channels last. first.rs calls them.
//
// The maps before pooling, the largest of the network, are never in memory: a vector holds sixteen
// output channels of a pixel (not, as in lanes.cpp, images), and the four pixels of a window, or
// four neighbours where nothing is pooled, are computed together.

#include <cstdint>
#include <vector>

#include "../../lanes.h"

// Describes the layer. `weight` is [kernel·kernel·inputs][outputs]; images are [height][width]
// [inputs], with their padding; the number of outputs is a multiple of 32.
struct First {
  int64_t inputs, height, width, outputs, kernel, pool;
  const float *weight, *bias;
};

namespace {

// Pixels that are computed together.
constexpr int64_t PIXELS = 4;
// Vectors of outputs that are computed together; their choices are the bytes of one integer.
constexpr int64_t VECTORS = 4;
// Values of the kernel, and vectors of outputs, whose gradients are summed together.
constexpr int64_t TAPS = 8, PAIR = 2;
// Choice of a value that ReLU has set to zero; 0 to 3 are the pixels of a window.
constexpr int32_t NONE = 4;

// Holds what follows from the layer's sizes.
struct Plan {
  First layer;
  int64_t rows, columns, image;
  // Where the values of a kernel, and the pixels of a window, are from the first one.
  std::vector<int64_t> taps, window;

  explicit Plan(const First &layer) : layer(layer) {
    const int64_t step = layer.pool ? 2 : 1;
    rows = (layer.height - layer.kernel + 1) / step;
    columns = (layer.width - layer.kernel + 1) / step;
    image = layer.height * layer.width * layer.inputs;
    for (int64_t row = 0; row < layer.kernel; row++)
      for (int64_t i = 0; i < layer.kernel * layer.inputs; i++)
        taps.push_back(row * layer.width * layer.inputs + i);
    for (int64_t pixel = 0; pixel < PIXELS; pixel++)
      window.push_back((layer.pool ? pixel / 2 * layer.width + pixel % 2 : pixel) * layer.inputs);
  }
  METHOD int64_t outputs() const { return rows * columns * layer.outputs; }
  // Number of vectors of choices of a place, and of choices of an image.
  METHOD int64_t blocks() const { return (layer.outputs / LANES + VECTORS - 1) / VECTORS; }
  METHOD int64_t choices() const { return rows * columns * blocks() * LANES; }
  METHOD int64_t count() const { return int64_t(taps.size()); }
  // Index in an image of the first value that output (row, column) depends on.
  METHOD int64_t at(int64_t row, int64_t column) const {
    const int64_t step = layer.pool ? 2 : 1;
    return (row * step * layer.width + column * step) * layer.inputs;
  }
};

// Sums the products of P pixels with V vectors of weights.
template <int P, int V>
INLINE void products(const Plan &plan, const float *from, int64_t output, Lanes (*sum)[V]) {
  const float *weight = plan.layer.weight + output, *pixels[P];
  const int64_t *taps = plan.taps.data(), count = plan.count(), outputs = plan.layer.outputs;
  for (int p = 0; p < P; p++) {
    pixels[p] = from + plan.window[p];
    for (int v = 0; v < V; v++) sum[p][v] = at(plan.layer.bias + output + v * LANES);
  }
  for (int64_t tap = 0; tap < count; tap++, weight += outputs) {
    Lanes by[V];
    for (int v = 0; v < V; v++) by[v] = at(weight + v * LANES);
    for (int p = 0; p < P; p++) {
      const float x = pixels[p][taps[tap]];
      for (int v = 0; v < V; v++) sum[p][v] += x * by[v];
    }
  }
}

// Takes ReLU of a value, and returns its choice.
INLINE Ints keep(Lanes value, Ints choice, float *output) {
  at(output) = relu(value);
  return value > Lanes{} ? choice : Ints{} + NONE;
}

// Computes V vectors of P neighbouring outputs.
template <int P, int V>
INLINE void neighbours(const Plan &plan, const float *from, int64_t output, float *maps,
                       int32_t *choices) {
  Lanes sum[P][V];
  products<P, V>(plan, from, output, sum);
  for (int p = 0; p < P; p++) {
    Ints chosen = {};
    for (int v = 0; v < V; v++)
      chosen |= keep(sum[p][v], Ints{}, maps + p * plan.layer.outputs + v * LANES) << (8 * v);
    if (choices) *reinterpret_cast<Ints *>(choices + p * plan.blocks() * LANES) = chosen;
  }
}

// Computes V vectors of the largest outputs of a window.
template <int V>
INLINE void largest(const Plan &plan, const float *from, int64_t output, float *maps,
                    int32_t *choices) {
  Lanes sum[PIXELS][V];
  products<PIXELS, V>(plan, from, output, sum);
  Ints chosen = {};
  for (int v = 0; v < V; v++) {
    Lanes best = sum[0][v];
    Ints choice = {};
    for (int p = 1; p < PIXELS; p++) choose(best, choice, sum[p][v], p);
    chosen |= keep(best, choice, maps + v * LANES) << (8 * v);
  }
  if (choices) *reinterpret_cast<Ints *>(choices) = chosen;
}

// Computes V vectors of outputs at each place of an image, from those of a block.
template <int V>
INLINE void forward_block(const Plan &plan, const float *image, int64_t block, float *maps,
                          int32_t *choices) {
  const int64_t output = block * VECTORS * LANES, outputs = plan.layer.outputs;
  for (int64_t row = 0; row < plan.rows; row++)
    for (int64_t column = 0; column < plan.columns;) {
      const int64_t place = row * plan.columns + column;
      const float *from = image + plan.at(row, column);
      float *into = maps + place * outputs + output;
      int32_t *chosen = choices ? choices + (place * plan.blocks() + block) * LANES : nullptr;
      if (plan.layer.pool) {
        largest<V>(plan, from, output, into, chosen);
        column++;
      } else if (column + PIXELS <= plan.columns) {
        neighbours<PIXELS, V>(plan, from, output, into, chosen);
        column += PIXELS;
      } else {
        neighbours<1, V>(plan, from, output, into, chosen);
        column++;
      }
    }
}

EACH_CPU void forward_images(const Plan &plan, const float *images, float *maps, int32_t *choices,
                             int64_t from, int64_t to) {
  for (int64_t index = from; index < to; index++) {
    const float *image = images + index * plan.image;
    float *into = maps + index * plan.outputs();
    int32_t *chosen = choices ? choices + index * plan.choices() : nullptr;
    for (int64_t block = 0; block < plan.blocks(); block++)
      if (plan.layer.outputs / LANES - block * VECTORS >= VECTORS)
        forward_block<VECTORS>(plan, image, block, into, chosen);
      else
        forward_block<PAIR>(plan, image, block, into, chosen);
  }
}

// Reads V vectors of the gradient at a place, for each pixel of a window: that of the chosen one,
// and zeros.
template <int V>
INLINE void spread(const Plan &plan, const float *gradients, const int32_t *choices, int64_t place,
                   int64_t output, Lanes (*of)[PIXELS]) {
  const int64_t vector = output / LANES, block = place * plan.blocks() + vector / VECTORS;
  const Ints chosen = *reinterpret_cast<const Ints *>(choices + block * LANES);
  for (int v = 0; v < V; v++) {
    const Ints choice = chosen >> int32_t(8 * (vector % VECTORS + v)) & (Ints{} + 255);
    const Lanes gradient = at(gradients + place * plan.layer.outputs + output + v * LANES);
    for (int p = 0; p < PIXELS; p++) of[v][p] = choice == p ? gradient : Lanes{};
  }
}

// Adds to `sums` the gradients in N values of the kernel from `tap` on, of V vectors of outputs.
template <int N, int V>
INLINE void weights_block(const Plan &plan, const float *image, const float *gradient,
                          const int32_t *choices, int64_t tap, int64_t output, double *sums) {
  const int64_t *taps = plan.taps.data() + tap, *window = plan.window.data();
  Lanes sum[N][V] = {};
  for (int64_t row = 0; row < plan.rows; row++)
    for (int64_t column = 0; column < plan.columns; column++) {
      Lanes of[V][PIXELS];
      spread<V>(plan, gradient, choices, row * plan.columns + column, output, of);
      for (int p = 0; p < (plan.layer.pool ? PIXELS : 1); p++) {
        const float *from = image + plan.at(row, column) + window[p];
        for (int n = 0; n < N; n++) {
          const float x = from[taps[n]];
          for (int v = 0; v < V; v++) sum[n][v] += x * of[v][p];
        }
      }
    }
  for (int n = 0; n < N; n++)
    for (int v = 0; v < V; v++)
      add(sums + (tap + n) * plan.layer.outputs + output + v * LANES, sum[n][v]);
}

template <int V>
INLINE void weights_of_image(const Plan &plan, const float *image, const float *gradient,
                             const int32_t *choices, int64_t output, double *sums) {
  int64_t tap = 0;
  for (; tap + TAPS <= plan.count(); tap += TAPS)
    weights_block<TAPS, V>(plan, image, gradient, choices, tap, output, sums);
  for (; tap < plan.count(); tap++)
    weights_block<1, V>(plan, image, gradient, choices, tap, output, sums);
}

// `sums` is [kernel·kernel·inputs + 1][outputs], the bias last.
EACH_CPU void weights_images(const Plan &plan, const float *images, const float *gradients,
                             const int32_t *choices, double *sums, int64_t from, int64_t to) {
  const int64_t outputs = plan.layer.outputs;
  for (int64_t index = from; index < to; index++) {
    const float *image = images + index * plan.image;
    const float *gradient = gradients + index * plan.outputs();
    const int32_t *chosen = choices + index * plan.choices();
    for (int64_t output = 0; output < outputs; output += PAIR * LANES)
      weights_of_image<PAIR>(plan, image, gradient, chosen, output, sums);
    for (int64_t output = 0; output < outputs; output += LANES) {
      Lanes bias = {};
      for (int64_t place = 0; place < plan.rows * plan.columns; place++) {
        Lanes of[1][PIXELS];
        spread<1>(plan, gradient, chosen, place, output, of);
        for (int p = 0; p < PIXELS; p++) bias += of[0][p];
      }
      add(sums + plan.count() * outputs + output, bias);
    }
  }
}

// Adds to `sums`, a vector for each value of an image, the gradients through V vectors of outputs.
template <int V>
INLINE void image_block(const Plan &plan, const float *gradient, const int32_t *choices,
                        int64_t output, Lanes *sums) {
  const int64_t *taps = plan.taps.data(), *window = plan.window.data();
  const int64_t outputs = plan.layer.outputs, count = plan.count();
  for (int64_t row = 0; row < plan.rows; row++)
    for (int64_t column = 0; column < plan.columns; column++) {
      Lanes of[V][PIXELS];
      spread<V>(plan, gradient, choices, row * plan.columns + column, output, of);
      const float *weight = plan.layer.weight + output;
      for (int64_t tap = 0; tap < count; tap++, weight += outputs) {
        Lanes by[V];
        for (int v = 0; v < V; v++) by[v] = at(weight + v * LANES);
        for (int p = 0; p < (plan.layer.pool ? PIXELS : 1); p++) {
          Lanes &into = sums[plan.at(row, column) + window[p] + taps[tap]];
          Lanes sum = into;
          for (int v = 0; v < V; v++) sum += of[v][p] * by[v];
          into = sum;
        }
      }
    }
}

EACH_CPU void image_images(const Plan &plan, const float *gradients, const int32_t *choices,
                           float *images, int64_t from, int64_t to) {
  std::vector<float> memory(size_t(plan.image * LANES));
  Lanes *sums = reinterpret_cast<Lanes *>(memory.data());
  for (int64_t index = from; index < to; index++) {
    const float *gradient = gradients + index * plan.outputs();
    const int32_t *chosen = choices + index * plan.choices();
    std::fill(memory.begin(), memory.end(), 0.0f);
    int64_t output = 0;
    for (; output + VECTORS * LANES <= plan.layer.outputs; output += VECTORS * LANES)
      image_block<VECTORS>(plan, gradient, chosen, output, sums);
    if (output < plan.layer.outputs) image_block<PAIR>(plan, gradient, chosen, output, sums);
    float *image = images + index * plan.image;
    for (int64_t i = 0; i < plan.image; i++) {
      float sum = 0;
      for (int64_t lane = 0; lane < LANES; lane++) sum += sums[i][lane];
      image[i] = sum;
    }
  }
}

}  // namespace

extern "C" {

// Writes the maps [images][rows][columns][outputs] after pooling and ReLU and, to `choices` if
// there are any, which pixel each value is of.
void fd_first_forward(const First *layer, int64_t count, const float *images, float *maps,
                      int32_t *choices) {
  const Plan plan(*layer);
  share(count, [&](int64_t, int64_t from, int64_t to) {
    forward_images(plan, images, maps, choices, from, to);
  });
}

// Writes the gradient in the images from that in the maps.
void fd_first_to_images(const First *layer, int64_t count, const float *gradients,
                        const int32_t *choices, float *images) {
  const Plan plan(*layer);
  share(count, [&](int64_t, int64_t from, int64_t to) {
    image_images(plan, gradients, choices, images, from, to);
  });
}

// Writes the gradients in the weights, [kernel·kernel·inputs][outputs], and behind them those in
// the biases.
void fd_first_to_weights(const First *layer, int64_t count, const float *images,
                         const float *gradients, const int32_t *choices, float *weights) {
  const Plan plan(*layer);
  Sums sums((plan.count() + 1) * layer->outputs);
  share(count, [&](int64_t thread, int64_t from, int64_t to) {
    weights_images(plan, images, gradients, choices, sums.of(thread), from, to);
  });
  std::vector<double> total(size_t(sums.length));
  sums.join(total.data());
  std::copy(total.begin(), total.end(), weights);
}
}
