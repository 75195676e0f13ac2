// A place where the threads of a parallel region wait for each other.
//
// OpenMP's own puts waiting threads to sleep or lets them spin for good, as its environment says; between the
// products of a token there are only microseconds to wait, so here a thread looks again and again, and after a while
// lets others run.
#pragma once

#include "threads.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <sched.h>

typedef struct {
    atomic_int waiting, round;
} barrier;

static inline void wait_for_all(barrier *b, int threads) {
    if (threads == 1) return;
    int round = atomic_load_explicit(&b->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->waiting, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&b->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (int looked = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; looked++) {
        if (looked > 20000) sched_yield();          // more threads than free cores
#if defined(__x86_64__)
        else _mm_pause();
#endif
    }
}
