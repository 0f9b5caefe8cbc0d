// Defines what C++ passes over memory share: one copy for each kind of processor, and the division
// of the work among libtorch's own OpenMP threads.

#pragma once

#include <omp.h>

#include <cstdint>

#if defined(__x86_64__) && __GNUC__ >= 12 && !defined(__clang__)
// Compiles a function for AVX-512, for AVX2 and for the rest; the program chooses when it starts.
// Before version 12, g++ does not take these names, and compiles for the rest alone.
#define EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_CPU
#endif

namespace {

// Calls work(thread, from, to) on each thread with its part of [0, count).
template <typename Work>
void share(int64_t count, const Work &work) {
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const int64_t from = count * thread / threads, to = count * (thread + 1) / threads;
    if (from < to) work(thread, from, to);
  }
}

}  // namespace
