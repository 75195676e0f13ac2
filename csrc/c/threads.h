// Threads: OpenMP's if the compiler has them, else one.
#pragma once

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE  // before the first header: sched_getcpu
#endif
#include <sched.h>
#include <stdatomic.h>
#if defined(_OPENMP)
#include <omp.h>
static inline int thread_index(void) { return omp_get_thread_num(); }
static inline int thread_count(void) { return omp_get_num_threads(); }
static inline int max_threads(void) { return omp_get_max_threads(); }
static inline int in_parallel(void) { return omp_get_level() > 0; }
#else
static inline int thread_index(void) { return 0; }
static inline int thread_count(void) { return 1; }
static inline int max_threads(void) { return 1; }
static inline int in_parallel(void) { return 0; }
#endif

#if defined(CPU_SETSIZE)
enum { MAX_CPUS = CPU_SETSIZE };
#else
enum { MAX_CPUS = 64 };  // on these systems threads are not moved: see below
#endif

// The processors that the threads of one parallel region occupy.
typedef struct {
    atomic_ullong cpus[MAX_CPUS / 64];
} claimed_cpus;

static inline int claim_cpu(claimed_cpus *claimed, int cpu) {  // ->  true if it was free
    return !(atomic_fetch_or(&claimed->cpus[cpu / 64], 1ull << cpu % 64) >> cpu % 64 & 1);
}

// Called by every thread when a region begins.  Linux wakes a thread on the core where it ran last.  If the thread that
// woke it runs there now, both may share that core for a long time while another is idle, and take turns at every
// barrier.  A thread that finds its core claimed moves to a free one.  It is not pinned there: its affinity is
// restored immediately, and the scheduler may move it again later.
static inline void move_to_free_core(claimed_cpus *claimed) {
#if defined(__linux__)
    int current = sched_getcpu();
    if (current < 0 || current >= MAX_CPUS || claim_cpu(claimed, current)) return;
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || !claim_cpu(claimed, cpu)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (!sched_setaffinity(0, sizeof one, &one)) sched_setaffinity(0, sizeof allowed, &allowed);
        return;
    }
#else
    (void) claimed;
#endif
}
