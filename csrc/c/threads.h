// Threads: OpenMP's where it is there, else one.
#pragma once

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE             // before the first header: sched_getcpu
#endif
#include <sched.h>
#include <stdatomic.h>
#if defined(_OPENMP)
#include <omp.h>
static inline int thread(void) { return omp_get_thread_num(); }
static inline int threads(void) { return omp_get_num_threads(); }
static inline int most_threads(void) { return omp_get_max_threads(); }
static inline int among_threads(void) { return omp_get_level() > 0; }   // is this within a parallel region already?
#else
static inline int thread(void) { return 0; }
static inline int threads(void) { return 1; }
static inline int most_threads(void) { return 1; }
static inline int among_threads(void) { return 0; }
#endif

// The processors that threads of one parallel region have found themselves on.
typedef struct {
    atomic_ullong cpus[CPU_SETSIZE / 64];
} taken;

// Called by every thread when a region begins.  Linux wakes a thread where it ran last, which may be where the thread
// runs that woke it, and then both share one core for a long time while another is idle: seen to cost a factor of ten.
// Who finds the place taken moves to a free one; it may be moved on from there as ever.
static inline void spread(taken *t) {
#if defined(__linux__)
    int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE) return;
    if (!(atomic_fetch_or(&t->cpus[here / 64], 1ull << here % 64) >> here % 64 & 1)) return;
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        if (atomic_fetch_or(&t->cpus[cpu / 64], 1ull << cpu % 64) >> cpu % 64 & 1) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (!sched_setaffinity(0, sizeof one, &one)) sched_setaffinity(0, sizeof allowed, &allowed);
        return;
    }
#else
    (void) t;
#endif
}
