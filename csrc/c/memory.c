// Allocation, and its state for Python and the tests.  All counters are those of the calling thread: see memory.h.
#include "memory.h"

#include <stdlib.h>

static _Thread_local int failed, live, until_failure;

arena allocate(size_t bytes) {
    int must_fail = until_failure > 0 && --until_failure == 0;
    void *block = must_fail ? NULL : malloc(bytes + CACHE_LINE);
    if (!block) {
        failed = 1;
        return (arena) {0};
    }
    live++;
    arena a = arena_at(block);
    a.block = block;
    return a;
}

void release(arena *a) {
    if (!a->block) return;
    live--;
    free(a->block);
    *a = (arena) {0};
}

// True if an allocation of this thread has failed since the last call
int allocation_failed(void) {
    int answer = failed;
    failed = 0;
    return answer;
}

// For tests: the count-th allocation of this thread from now on fails, 0: none  ->  how many remained before
int fail_allocation(int count) {
    int previous = until_failure;
    until_failure = count;
    return previous;
}

// For tests: blocks of memory that this thread has not released
int live_allocations(void) { return live; }
