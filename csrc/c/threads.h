// Threads: OpenMP's where it is there, else one.
#pragma once

#include <stdatomic.h>
#if defined(_OPENMP)
#include <omp.h>
static inline int thread(void) { return omp_get_thread_num(); }
static inline int threads(void) { return omp_get_num_threads(); }
static inline int most_threads(void) { return omp_get_max_threads(); }
#else
static inline int thread(void) { return 0; }
static inline int threads(void) { return 1; }
static inline int most_threads(void) { return 1; }
#endif
