// What C++ passes over memory share: one copy for each kind of processor, and the threads' shares
// of the work, on libtorch's own OpenMP threads.

#pragma once

#include <omp.h>

#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// One copy for AVX-512, one for AVX2 and one for the rest, chosen when the program starts.
#define EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_CPU
#endif

namespace {

// Runs work(thread, from, to) on each thread's share of [0, count).
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
