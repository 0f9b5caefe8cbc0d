// Defines what the passes share: vectors, and sums in double that are joined in the order of the
// threads: on one kind of processor the same number of threads gives the same bits.

#pragma once

#include <algorithm>
#include <vector>

#include "passes.h"

#define INLINE static inline __attribute__((always_inline))
#define METHOD inline __attribute__((always_inline))

namespace {

constexpr int64_t LANES = 16;
// Number of rows that are summed in float before the sum is added to one in double.
constexpr int64_t ROWS = 64;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * sizeof(int32_t)), aligned(4), may_alias));

INLINE const Lanes &at(const float *values) { return *reinterpret_cast<const Lanes *>(values); }
INLINE Lanes &at(float *values) { return *reinterpret_cast<Lanes *>(values); }
// NaN stays NaN, as in PyTorch.
INLINE Lanes relu(Lanes x) { return x < Lanes{} ? Lanes{} : x; }
INLINE float relu(float x) { return x < 0 ? 0 : x; }
INLINE Lanes where_positive(Lanes x, Lanes value) { return x > Lanes{} ? value : Lanes{}; }
INLINE float where_positive(float x, float value) { return x > 0 ? value : 0; }
// Takes `x`, whose number is `index`, where it is larger than the best yet, or is NaN.
INLINE void choose(Lanes &best, Ints &choice, Lanes x, int32_t index) {
  const Ints bits = reinterpret_cast<const Ints &>(x) & 0x7fffffff;
  const Ints is_nan = (0x7f800000 - bits) >> 31;
  // The comparison stands in both: GCC computes a selection by a stored one lane by lane.
  choice = x > best ? Ints{} + index : choice;
  best = x > best ? x : best;
  choice = (is_nan & index) | (~is_nan & choice);
  Ints &chosen = reinterpret_cast<Ints &>(best);
  chosen = (is_nan & reinterpret_cast<const Ints &>(x)) | (~is_nan & chosen);
}
INLINE float lane(const float *values, float) { return *values; }
INLINE Lanes lane(const float *values, Lanes) { return at(values); }
INLINE void put(float *to, float value) { *to = value; }
INLINE void put(float *to, Lanes value) { at(to) = value; }
INLINE void add(double *to, float value) { *to += value; }
INLINE void add(double *to, Lanes value) {
  for (int64_t i = 0; i < LANES; i++) to[i] += value[i];
}

// Holds the sums of every thread; they are added in the order of the threads.
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

}  // namespace
