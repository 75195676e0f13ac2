// Mixture of experts, equation (experts): tokens sorted by expert, one product for each expert that has work.
#include "linear.h"
#include "sorted.h"

enum { AT_ONCE = 512 };     // rows of one expert at a time: bounds the memory of its hidden numbers

typedef struct {
    sorted sorted;
    float *mine, *y;        // (most, D): the tokens of an expert, and what comes of them
    float *opened, *up;     // (most, F)
} work;
static work work_in(arena *a, int choices, int most, int D, int E, int F) {
    return (work) {
        .sorted = sorted_in(a, choices, E),
        .mine = carve_floats(a, (size_t) most * D),
        .y = carve_floats(a, (size_t) most * D),
        .opened = carve_floats(a, (size_t) most * F),
        .up = carve_floats(a, (size_t) most * F),
    };
}

// x (N, D), expert and gate (N, C), w_gate and w_up (E, D, F), w_down (E, F, D)  ->  out (N, D)
void experts(float *out, const float *x, const int64_t *expert, const float *gate, const matrix *w_gate,
             const matrix *w_up, const matrix *w_down, int N, int C, int D, int E, int F) {
    int most = N * C < AT_ONCE ? N * C : AT_ONCE;
    arena count = {0};
    work_in(&count, N * C, most, D, E, F);
    arena memory = allocate(count.used);
    if (!memory.base) return;
    work w = work_in(&memory, N * C, most, D, E, F);
    float *mine = w.mine, *y = w.y, *opened = w.opened, *up = w.up;
    const int *order = w.sorted.order;
    sort_by_expert(&w.sorted, expert, N * C, E);
    memset(out, 0, sizeof(float) * (size_t) N * D);
    for (int e = 0, at = 0; e < E; e++) {
        int end = w.sorted.end[e];
        for (; at < end; at += most) {
            int rows = end - at < most ? end - at : most;
            for (int r = 0; r < rows; r++)
                for (int d = 0; d < D; d++)
                    mine[(size_t) r * D + d] = x[(size_t) (order[at + r] / C) * D + d] * gate[order[at + r]];
            product(opened, mine, w_gate, e, NULL, rows, D, F);
            product(up, mine, w_up, e, NULL, rows, D, F);
            swiglu(opened, opened, up, rows, F);
            product(y, opened, w_down, e, NULL, rows, F, D);
            for (int r = 0; r < rows; r++)
                for (int d = 0; d < D; d++) out[(size_t) (order[at + r] / C) * D + d] += y[(size_t) r * D + d];
        }
        at = end;
    }
    release(&memory);
}
