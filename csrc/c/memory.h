// Memory of the kernels: one block for each call, carved into arrays by an arena.
//
// Only the thread that Python calls from allocates, before its parallel region and for all threads of it.  A kernel
// that gets no memory returns at once; Python asks allocation_failed() after the call and raises MemoryError.
#pragma once

#include "simd.h"

// A block of memory, of which `used` bytes are given away.  An arena without a base only counts: the same function
// carves a workspace and says how large it is.
typedef struct {
    char *base;
    size_t used;
    void *block;  // what release() gives back
} arena;

enum { CACHE_LINE = 64 };

arena allocate(size_t bytes);  // base NULL: no memory
void release(arena *a);

// An arena in memory that somebody else owns, which has a cache line to spare.
static inline arena arena_at(void *memory) {
    return (arena) {.base = (char *) memory + (CACHE_LINE - (uintptr_t) memory % CACHE_LINE) % CACHE_LINE};
}

// The next `bytes` of an arena, aligned to a cache line.
static inline void *carve(arena *a, size_t bytes) {
    void *array = a->base ? a->base + a->used : NULL;
    a->used += (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return array;
}
static inline float *carve_floats(arena *a, size_t count) { return carve(a, sizeof(float) * count); }
static inline int *carve_ints(arena *a, size_t count) { return carve(a, sizeof(int) * count); }

// The n-th of several parts of `bytes` each.
static inline arena arena_part(const arena *a, size_t bytes, int n) {
    return (arena) {.base = a->base + bytes * (size_t) n};
}
