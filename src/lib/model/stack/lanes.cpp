// Computes networks of convolutions, 2×2 max pooling, ReLU and linear layers, forward, and backward
// to the images or the weights. lanes.rs calls them.
//
// Sixteen images are computed at a time, one a lane: a vector holds one value of each, so that a
// weight is multiplied with all of them, whatever the number of channels. What an image gives does
// not depend on the others.

#include <cstdint>
#include <cstring>

#include "../../lanes.h"

namespace {

// Number of outputs that are summed at a time; weights are stored in blocks of so many.
constexpr int64_t BLOCK = 8;
// Choice of a value that ReLU has set to zero; 0 to 3 are the pixels of a pooling window.
constexpr int32_t NONE = 4;

}  // namespace

// Describes a layer: a convolution of stride 1 with ReLU, or a linear layer, which is one of 1×1
// pixels. `weight` is [outputs/8][inputs][kernel][kernel][8], `back` [inputs/8][outputs][kernel]
// [kernel][8], flipped; the last block of each is as narrow as it is.
struct Layer {
  int64_t inputs, height, width, outputs, kernel, padding, pool, relu;
  const float *weight, *back, *bias;
};

namespace {

INLINE int64_t out_height(const Layer &layer) {
  return layer.height + 2 * layer.padding - layer.kernel + 1;
}
INLINE int64_t out_width(const Layer &layer) {
  return layer.width + 2 * layer.padding - layer.kernel + 1;
}

// Sums B outputs of P neighbouring pixels.
template <int B, int P>
INLINE void pixels(const float *input, const float *weight, const float *bias, float *output,
                   int64_t inputs, int64_t height, int64_t width, int64_t kernel, int64_t plane) {
  Lanes sum[P][B];
  for (int b = 0; b < B; b++)
    for (int p = 0; p < P; p++) sum[p][b] = bias ? Lanes{} + bias[b] : Lanes{};
  for (int64_t channel = 0; channel < inputs; channel++)
    for (int64_t row = 0; row < kernel; row++) {
      const float *from = input + (channel * height + row) * width * LANES;
      for (int64_t column = 0; column < kernel; column++) {
        for (int p = 0; p < P; p++) {
          const Lanes x = at(from + (column + p) * LANES);
          for (int b = 0; b < B; b++) sum[p][b] += x * weight[b];
        }
        weight += B;
      }
    }
  for (int b = 0; b < B; b++)
    for (int p = 0; p < P; p++) at(output + (b * plane + p) * LANES) = sum[p][b];
}

// Convolves [inputs, height, width] to B maps without padding.
template <int B, int P>
INLINE void maps(const float *input, const float *weight, const float *bias, float *output,
                 int64_t inputs, int64_t height, int64_t width, int64_t kernel) {
  const int64_t rows = height - kernel + 1, columns = width - kernel + 1;
  for (int64_t y = 0; y < rows; y++) {
    const float *from = input + y * width * LANES;
    float *to = output + y * columns * LANES;
    if (columns < P) {
      for (int64_t x = 0; x < columns; x++)
        pixels<B, 1>(from + x * LANES, weight, bias, to + x * LANES, inputs, height, width, kernel,
                     rows * columns);
      continue;
    }
    for (int64_t x = 0; x < columns; x += P) {
      // The last ones overlap those before.
      const int64_t begin = std::min(x, columns - P);
      pixels<B, P>(from + begin * LANES, weight, bias, to + begin * LANES, inputs, height, width,
                   kernel, rows * columns);
    }
  }
}

// Convolves [inputs, height, width] to [outputs, ...] without padding.
INLINE void convolve(const float *input, const float *weight, const float *bias, float *output,
                     int64_t inputs, int64_t height, int64_t width, int64_t outputs,
                     int64_t kernel) {
  const int64_t plane = (height - kernel + 1) * (width - kernel + 1);
  for (int64_t first = 0; first < outputs; first += BLOCK) {
    const float *of = weight + first * inputs * kernel * kernel;
    const float *add = bias ? bias + first : nullptr;
    float *to = output + first * plane * LANES;
    switch (std::min(BLOCK, outputs - first)) {
      case 8: maps<8, 3>(input, of, add, to, inputs, height, width, kernel); break;
      case 7: maps<7, 3>(input, of, add, to, inputs, height, width, kernel); break;
      case 6: maps<6, 4>(input, of, add, to, inputs, height, width, kernel); break;
      case 5: maps<5, 4>(input, of, add, to, inputs, height, width, kernel); break;
      case 4: maps<4, 4>(input, of, add, to, inputs, height, width, kernel); break;
      case 3: maps<3, 6>(input, of, add, to, inputs, height, width, kernel); break;
      case 2: maps<2, 8>(input, of, add, to, inputs, height, width, kernel); break;
      default: maps<1, 12>(input, of, add, to, inputs, height, width, kernel); break;
    }
  }
}

// Copies [channels, height, width] into a border of zeros.
INLINE void pad(const float *input, float *output, int64_t channels, int64_t height, int64_t width,
                int64_t border) {
  const int64_t rows = height + 2 * border, columns = width + 2 * border;
  std::memset(output, 0, sizeof(float) * LANES * channels * rows * columns);
  for (int64_t channel = 0; channel < channels; channel++)
    for (int64_t y = 0; y < height; y++)
      std::memcpy(output + ((channel * rows + y + border) * columns + border) * LANES,
                  input + (channel * height + y) * width * LANES, sizeof(float) * LANES * width);
}

// Takes the largest of 2×2 values, or each value, and ReLU of it; keeps which one it was.
INLINE void activate(const Layer &layer, const float *input, float *output, int32_t *kept) {
  const int64_t height = out_height(layer), width = out_width(layer), step = layer.pool ? 2 : 1;
  const int64_t rows = height / step, columns = width / step;
  for (int64_t channel = 0; channel < layer.outputs; channel++)
    for (int64_t y = 0; y < rows; y++)
      for (int64_t x = 0; x < columns; x++) {
        const float *from = input + ((channel * height + y * step) * width + x * step) * LANES;
        Lanes best = at(from);
        Ints choice = {};
        if (layer.pool) {
          choose(best, choice, at(from + LANES), 1);
          choose(best, choice, at(from + width * LANES), 2);
          choose(best, choice, at(from + (width + 1) * LANES), 3);
        }
        const int64_t place = ((channel * rows + y) * columns + x) * LANES;
        if (layer.relu) {
          choice = best > Lanes{} ? choice : Ints{} + NONE;
          best = relu(best);
        }
        at(output + place) = best;
        if (kept) *reinterpret_cast<Ints *>(kept + place) = choice;
      }
}

// Passes a gradient back through `activate`.
INLINE void deactivate(const Layer &layer, const float *gradient, const int32_t *kept,
                       float *output) {
  const int64_t height = out_height(layer), width = out_width(layer), step = layer.pool ? 2 : 1;
  const int64_t rows = height / step, columns = width / step;
  if (rows * step != height || columns * step != width)
    std::memset(output, 0, sizeof(float) * LANES * layer.outputs * height * width);
  for (int64_t channel = 0; channel < layer.outputs; channel++)
    for (int64_t y = 0; y < rows; y++)
      for (int64_t x = 0; x < columns; x++) {
        const int64_t place = ((channel * rows + y) * columns + x) * LANES;
        const Lanes g = at(gradient + place);
        const Ints choice = *reinterpret_cast<const Ints *>(kept + place);
        float *to = output + ((channel * height + y * step) * width + x * step) * LANES;
        at(to) = choice == 0 ? g : Lanes{};
        if (layer.pool) {
          at(to + LANES) = choice == 1 ? g : Lanes{};
          at(to + width * LANES) = choice == 2 ? g : Lanes{};
          at(to + (width + 1) * LANES) = choice == 3 ? g : Lanes{};
        }
      }
}

// Number of values a layer gives.
INLINE int64_t outputs_of(const Layer &layer) {
  const int64_t step = layer.pool ? 2 : 1;
  return layer.outputs * (out_height(layer) / step) * (out_width(layer) / step);
}
INLINE int64_t inputs_of(const Layer &layer) { return layer.inputs * layer.height * layer.width; }
INLINE int64_t parameters_of(const Layer &layer) {
  return layer.outputs * (layer.inputs * layer.kernel * layer.kernel + 1);
}

// Copies sixteen rows of `length` values into lanes; rows that are not there are zero.
INLINE void into_lanes(const float *rows, int64_t count, int64_t length, float *lanes) {
  for (int64_t i = 0; i < length; i++)
    for (int64_t lane = 0; lane < LANES; lane++)
      lanes[i * LANES + lane] = lane < count ? rows[lane * length + i] : 0;
}
INLINE void out_of_lanes(const float *lanes, int64_t count, int64_t length, float *rows) {
  for (int64_t lane = 0; lane < count; lane++)
    for (int64_t i = 0; i < length; i++) rows[lane * length + i] = lanes[i * LANES + lane];
}

// Memory of a thread for the values between layers.
struct Scratch {
  std::vector<float> padded, full, input, output;
  int64_t thread;
};

EACH_CPU void forward_group(const Layer *layers, int64_t depth, const float *images, int64_t count,
                            float *logits, int32_t *tape, float *values, Scratch &scratch) {
  const int64_t first = layers[0].inputs * layers[0].height * layers[0].width;
  into_lanes(images, count, first, scratch.input.data());
  for (int64_t index = 0; index < depth; index++) {
    const Layer &layer = layers[index];
    const float *input = scratch.input.data();
    if (layer.padding) {
      pad(input, scratch.padded.data(), layer.inputs, layer.height, layer.width, layer.padding);
      input = scratch.padded.data();
    }
    convolve(input, layer.weight, layer.bias, scratch.full.data(), layer.inputs,
             layer.height + 2 * layer.padding, layer.width + 2 * layer.padding, layer.outputs,
             layer.kernel);
    activate(layer, scratch.full.data(), scratch.output.data(), tape);
    if (tape) tape += outputs_of(layer) * LANES;
    std::swap(scratch.input, scratch.output);
    if (values && index + 1 < depth) {
      std::memcpy(values, scratch.input.data(), sizeof(float) * outputs_of(layer) * LANES);
      values += outputs_of(layer) * LANES;
    }
  }
  out_of_lanes(scratch.input.data(), count, outputs_of(layers[depth - 1]), logits);
}

// Passes the gradient after a convolution, without padding, in `scratch.full`, to its input, in
// `scratch.output`.
INLINE void to_input(const Layer &layer, Scratch &scratch) {
  const int64_t height = out_height(layer), width = out_width(layer),
                border = layer.kernel - 1 - layer.padding;
  const float *gradient = scratch.full.data();
  if (border) {
    pad(gradient, scratch.padded.data(), layer.outputs, height, width, border);
    gradient = scratch.padded.data();
  }
  convolve(gradient, layer.back, nullptr, scratch.output.data(), layer.outputs,
           height + 2 * border, width + 2 * border, layer.inputs, layer.kernel);
}

// `tape` ends behind what the group has kept.
EACH_CPU void backward_group(const Layer *layers, int64_t depth, const float *logits,
                             int64_t count, const int32_t *tape, float *images, Scratch &scratch) {
  into_lanes(logits, count, outputs_of(layers[depth - 1]), scratch.input.data());
  for (int64_t index = depth - 1; index >= 0; index--) {
    const Layer &layer = layers[index];
    tape -= outputs_of(layer) * LANES;
    deactivate(layer, scratch.input.data(), tape, scratch.full.data());
    to_input(layer, scratch);
    std::swap(scratch.input, scratch.output);
  }
  out_of_lanes(scratch.input.data(), count, inputs_of(layers[0]), images);
}

// Adds to `sums` the products of a map's rows with those of B maps of gradients, at C neighbouring
// places of the kernel.
template <int B, int C>
INLINE void correlate(const float *input, const float *gradient, double *sums, int64_t rows,
                      int64_t columns, int64_t width, int64_t stride) {
  Lanes sum[B][C] = {};
  for (int64_t y = 0; y < rows; y++)
    for (int64_t x = 0; x < columns; x++) {
      const float *from = input + (y * width + x) * LANES;
      const float *by = gradient + (y * columns + x) * LANES;
      Lanes pixel[C];
      for (int c = 0; c < C; c++) pixel[c] = at(from + c * LANES);
      for (int b = 0; b < B; b++) {
        const Lanes g = at(by + b * rows * columns * LANES);
        for (int c = 0; c < C; c++) sum[b][c] += g * pixel[c];
      }
    }
  for (int b = 0; b < B; b++)
    for (int c = 0; c < C; c++)
      for (int64_t lane = 0; lane < LANES; lane++) sums[b * stride + c] += sum[b][c][lane];
}

// Does so at all places of the kernel and for all input maps.
template <int B, int C>
INLINE void correlate_all(const Layer &layer, const float *input, const float *gradient,
                          double *sums) {
  const int64_t height = layer.height + 2 * layer.padding, width = layer.width + 2 * layer.padding;
  const int64_t kernel = layer.kernel, stride = layer.inputs * kernel * kernel;
  for (int64_t channel = 0; channel < layer.inputs; channel++)
    for (int64_t row = 0; row < kernel; row++)
      for (int64_t column = 0; column < kernel; column += C)
        correlate<B, C>(input + ((channel * height + row) * width + column) * LANES, gradient,
                        sums + (channel * kernel + row) * kernel + column, out_height(layer),
                        out_width(layer), width, stride);
}

template <int B>
INLINE void correlate_block(const Layer &layer, const float *input, const float *gradient,
                            double *sums) {
  switch (layer.kernel) {
    case 5: correlate_all<B, 5>(layer, input, gradient, sums); break;
    case 3: correlate_all<B, 3>(layer, input, gradient, sums); break;
    default: correlate_all<B, 1>(layer, input, gradient, sums); break;
  }
}

// Adds the gradients in the weights [outputs][inputs][kernel][kernel] and biases [outputs] to
// `sums`, from a layer's input with its border and the gradient after the convolution.
INLINE void to_weights(const Layer &layer, const float *input, const float *gradient,
                       double *sums) {
  const int64_t plane = out_height(layer) * out_width(layer) * LANES;
  const int64_t stride = layer.inputs * layer.kernel * layer.kernel;
  for (int64_t first = 0; first < layer.outputs; first += 4) {
    const float *of = gradient + first * plane;
    switch (std::min<int64_t>(4, layer.outputs - first)) {
      case 4: correlate_block<4>(layer, input, of, sums + first * stride); break;
      case 3: correlate_block<3>(layer, input, of, sums + first * stride); break;
      case 2: correlate_block<2>(layer, input, of, sums + first * stride); break;
      default: correlate_block<1>(layer, input, of, sums + first * stride); break;
    }
  }
  for (int64_t output = 0; output < layer.outputs; output++) {
    Lanes sum = {};
    for (int64_t i = 0; i < plane; i += LANES) sum += at(gradient + output * plane + i);
    for (int64_t lane = 0; lane < LANES; lane++)
      sums[layer.outputs * stride + output] += sum[lane];
  }
}

// `tape` and `values` end behind what the group has kept, `sums` behind the last layer's.
EACH_CPU void weights_group(const Layer *layers, int64_t depth, const float *images,
                            const float *logits, int64_t count, const int32_t *tape,
                            const float *values, double *sums, Scratch &scratch) {
  into_lanes(logits, count, outputs_of(layers[depth - 1]), scratch.input.data());
  for (int64_t index = depth - 1; index >= 0; index--) {
    const Layer &layer = layers[index];
    tape -= outputs_of(layer) * LANES;
    deactivate(layer, scratch.input.data(), tape, scratch.full.data());
    const float *input = scratch.output.data();
    if (index) {
      values -= inputs_of(layer) * LANES;
      input = values;
    } else {
      into_lanes(images, count, inputs_of(layer), scratch.output.data());
    }
    if (layer.padding) {
      pad(input, scratch.padded.data(), layer.inputs, layer.height, layer.width, layer.padding);
      input = scratch.padded.data();
    }
    sums -= parameters_of(layer);
    to_weights(layer, input, scratch.full.data(), sums);
    if (index == 0) break;
    to_input(layer, scratch);
    std::swap(scratch.input, scratch.output);
  }
}

Scratch scratch_for(const Layer *layers, int64_t depth, int64_t thread) {
  int64_t padded = 0, full = 0, kept = 0;
  for (int64_t index = 0; index < depth; index++) {
    const Layer &layer = layers[index];
    const int64_t border = 2 * (layer.kernel - 1);
    const int64_t height = out_height(layer), width = out_width(layer);
    padded = std::max({padded,
                       layer.inputs * (layer.height + border) * (layer.width + border),
                       layer.outputs * (height + border) * (width + border)});
    full = std::max(full, layer.outputs * height * width);
    kept = std::max({kept, layer.inputs * layer.height * layer.width, outputs_of(layer)});
  }
  auto lanes = [](int64_t length) { return std::vector<float>(size_t(length * LANES)); };
  return {lanes(padded), lanes(full), lanes(kept), lanes(kept), thread};
}

// Calls work(group, first image, number of images, memory of the thread's own) for each group of
// sixteen images.
template <typename Work>
void each_group(const Layer *layers, int64_t depth, int64_t count, const Work &work) {
  share((count + LANES - 1) / LANES, [&](int64_t thread, int64_t from, int64_t to) {
    Scratch scratch = scratch_for(layers, depth, thread);
    for (int64_t group = from; group < to; group++)
      work(group, group * LANES, std::min(LANES, count - group * LANES), scratch);
  });
}

}  // namespace

extern "C" {

// Writes what the last layer gives for `images`; to `tape`, if there is one, which values were
// chosen, `kept` of them for each group of sixteen images; and to `values`, if there is one, what
// the layers before the last give, `stored` floats for each group.
void fd_stack_forward(const Layer *layers, int64_t depth, const float *images, int64_t count,
                      float *logits, int32_t *tape, int64_t kept, float *values, int64_t stored) {
  const int64_t length = inputs_of(layers[0]), classes = outputs_of(layers[depth - 1]);
  each_group(layers, depth, count, [&](int64_t group, int64_t first, int64_t n, Scratch &scratch) {
    forward_group(layers, depth, images + first * length, n, logits + first * classes,
                  tape ? tape + group * kept : nullptr,
                  values ? values + group * stored : nullptr, scratch);
  });
}

// Writes the gradient with respect to the images from that with respect to the logits.
void fd_stack_to_images(const Layer *layers, int64_t depth, const float *logits, int64_t count,
                        const int32_t *tape, int64_t kept, float *images) {
  const int64_t length = inputs_of(layers[0]), classes = outputs_of(layers[depth - 1]);
  each_group(layers, depth, count, [&](int64_t group, int64_t first, int64_t n, Scratch &scratch) {
    backward_group(layers, depth, logits + first * classes, n, tape + (group + 1) * kept,
                   images + first * length, scratch);
  });
}

// Writes the gradients with respect to each layer's weights, [outputs][inputs][kernel][kernel], and
// biases, one layer after the other, from that with respect to what the last layer gives.
void fd_stack_to_weights(const Layer *layers, int64_t depth, const float *images,
                         const float *logits, int64_t count, const int32_t *tape, int64_t kept,
                         const float *values, int64_t stored, float *gradients) {
  const int64_t length = inputs_of(layers[0]), classes = outputs_of(layers[depth - 1]);
  int64_t parameters = 0;
  for (int64_t index = 0; index < depth; index++) parameters += parameters_of(layers[index]);
  Sums sums(parameters);
  each_group(layers, depth, count, [&](int64_t group, int64_t first, int64_t n, Scratch &scratch) {
    weights_group(layers, depth, images + first * length, logits + first * classes, n,
                  tape + (group + 1) * kept, values + (group + 1) * stored,
                  sums.of(scratch.thread) + parameters, scratch);
  });
  std::vector<double> total(parameters);
  sums.join(total.data());
  std::copy(total.begin(), total.end(), gradients);
}
}
