// Choices sorted by expert: those of one expert form a run.
#pragma once

#include "memory.h"

typedef struct {
    int *order;  // (N): the choices, those of expert 0 first
    int *end;    // (E + 1): the end of each expert's run
} expert_order;

static inline expert_order expert_order_in(arena *a, int N, int E) {
    return (expert_order) {carve_ints(a, N), carve_ints(a, (size_t) E + 1)};
}

// A counting sort: expert (N) from 0 to E - 1  ->  s
static inline void sort_by_expert(expert_order *s, const int64_t *expert, int N, int E) {
    memset(s->end, 0, sizeof(int) * ((size_t) E + 1));
    for (int i = 0; i < N; i++) s->end[expert[i] + 1]++;
    for (int e = 0; e < E; e++) s->end[e + 1] += s->end[e];
    for (int i = 0; i < N; i++) s->order[s->end[expert[i]]++] = i;  // end[e] moves from the run's start to its end
}

// The part of expert e's run that is within begin to end - 1: its start and its length
static inline int run_begin(const expert_order *s, int e, int begin) {
    int first = e ? s->end[e - 1] : 0;
    return first > begin ? first : begin;
}
static inline int run_length(const expert_order *s, int e, int begin, int end) {
    int rows = (s->end[e] < end ? s->end[e] : end) - run_begin(s, e, begin);
    return rows > 0 ? rows : 0;
}
