// Choices sorted by expert: those of each expert are a run.
#pragma once

#include <string.h>

#include "memory.h"

typedef struct {
    int *order;         // (N): the choices, those of expert 0 first
    int *end;           // (E + 1): where the run of each expert ends, and N
} sorted;

static inline sorted sorted_in(arena *a, int N, int E) { return (sorted) {carve_ints(a, N), carve_ints(a, (size_t) E + 1)}; }
static inline void sort_by_expert(sorted *order, const int64_t *expert, int N, int E) {
    sorted s = *order;
    memset(s.end, 0, sizeof(int) * ((size_t) E + 1));
    for (int i = 0; i < N; i++) s.end[expert[i] + 1]++;
    for (int e = 0; e < E; e++) s.end[e + 1] += s.end[e];
    for (int i = 0; i < N; i++) s.order[s.end[expert[i]]++] = i;        // what was an expert's first is now its end
}

// The part of an expert's run that lies from `begin` to end - 1: where it starts, and how long it is
static inline int first_between(const sorted *s, int e, int begin) {
    int first = e ? s->end[e - 1] : 0;
    return first > begin ? first : begin;
}
static inline int rows_between(const sorted *s, int e, int begin, int end) {
    int rows = (s->end[e] < end ? s->end[e] : end) - first_between(s, e, begin);
    return rows > 0 ? rows : 0;
}
