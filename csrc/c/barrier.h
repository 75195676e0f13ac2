// A barrier: the threads of a parallel region wait here for each other.
//
// OpenMP's own barrier puts waiting threads to sleep or lets them spin forever, depending on environment variables.
// Between the products of a token, a wait takes only microseconds, so this one spins for a while and then yields.
#pragma once

#include "threads.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { SPINS = 20000 };  // before a thread yields its core: there may be more threads than free cores

typedef struct {
    atomic_int waiting, round;
} barrier;

static inline void barrier_wait(barrier *b, int threads) {
    if (threads == 1) return;
    int round = atomic_load_explicit(&b->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->waiting, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&b->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; spins++) {
        if (spins > SPINS) sched_yield();
#if defined(__x86_64__)
        else _mm_pause();
#endif
    }
}
