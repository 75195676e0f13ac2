// Mixture of experts, equation (experts): tokens sorted by expert, and one product per expert and matrix.
#include "expert_order.h"
#include "linear.h"

enum { MAX_EXPERT_ROWS = 512 };  // rows of one expert at a time: bounds the memory of its hidden layer

typedef struct {
    expert_order sorted;
    float *x, *y;      // (MAX_EXPERT_ROWS, D): an expert's tokens, times their gates, and its output
    float *gate, *up;  // (MAX_EXPERT_ROWS, F)
} workspace;

static workspace workspace_in(arena *a, int choices, int D, int E, int F) {
    size_t rows = (size_t) min_int(choices, MAX_EXPERT_ROWS);
    return (workspace) {
        .sorted = expert_order_in(a, choices, E),
        .x = carve_floats(a, rows * D),
        .y = carve_floats(a, rows * D),
        .gate = carve_floats(a, rows * F),
        .up = carve_floats(a, rows * F),
    };
}

// x (N, D), expert and gate (N, C), w_gate and w_up (E, D, F), w_down (E, F, D)  ->  out (N, D)
void experts(float *out, const float *x, const int64_t *expert, const float *gate, const matrix *w_gate,
             const matrix *w_up, const matrix *w_down, int N, int C, int D, int E, int F) {
    arena count = {0};
    workspace_in(&count, N * C, D, E, F);
    arena memory = allocate(count.used);
    if (!memory.base) return;
    workspace w = workspace_in(&memory, N * C, D, E, F);
    sort_by_expert(&w.sorted, expert, N * C, E);
    memset(out, 0, sizeof(float) * (size_t) N * D);
    for (int e = 0; e < E; e++) {
        int end = w.sorted.end[e];
        for (int at = run_begin(&w.sorted, e, 0), rows; at < end; at += rows) {
            const int *choice = w.sorted.order + at;
            rows = min_int(end - at, MAX_EXPERT_ROWS);
            // x (rows, D): the chosen tokens times their gates
            for (int r = 0; r < rows; r++)
                for (int d = 0; d < D; d++)
                    w.x[(size_t) r * D + d] = x[(size_t) (choice[r] / C) * D + d] * gate[choice[r]];
            // y (rows, D) = swiglu(x W_gate, x W_up) W_down
            matmul(w.gate, w.x, w_gate, e, NULL, rows, D, F);
            matmul(w.up, w.x, w_up, e, NULL, rows, D, F);
            swiglu(w.gate, w.gate, w.up, rows, F);
            matmul(w.y, w.gate, w_down, e, NULL, rows, F, D);
            // out[token] += y
            for (int r = 0; r < rows; r++)
                for (int d = 0; d < D; d++) out[(size_t) (choice[r] / C) * D + d] += w.y[(size_t) r * D + d];
        }
    }
    release(&memory);
}
