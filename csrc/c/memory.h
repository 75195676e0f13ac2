// Memory of the kernels: one block per call, which an arena carves into arrays.
//
// Only the calling thread allocates, before its parallel region and for all threads in it.  A kernel that gets no
// memory returns immediately; Python checks allocation_failed() after the call and raises MemoryError.
#pragma once

#include "simd.h"

// A block of memory, of which `used` bytes are taken.  An arena without a base only counts, so that the same function
// carves a workspace and computes its size.
typedef struct {
    char *base;
    size_t used;
    void *block;  // what release() frees
} arena;

enum { CACHE_LINE = 64 };

arena allocate(size_t bytes);  // base is NULL if out of memory
void release(arena *a);

// An arena in memory of another owner, with a spare cache line for alignment.
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
