// Mixture of experts, equation (experts): tokens sorted by expert, one product for each expert that has work.
#include <stdlib.h>

#include "linear.h"

enum { AT_ONCE = 512 };     // rows of one expert at a time: bounds the memory of its hidden numbers

// x (N, D), expert and gate (N, C), w_gate and w_up (E, D, F), w_down (E, F, D)  ->  out (N, D)
void experts(float *out, const float *x, const int64_t *expert, const float *gate, const matrix *w_gate,
             const matrix *w_up, const matrix *w_down, int N, int C, int D, int E, int F) {
    int *first = calloc((size_t) E + 1, sizeof *first), *order = malloc(sizeof *order * (size_t) N * C);
    for (int i = 0; i < N * C; i++) first[expert[i] + 1]++;
    int most = 0;
    for (int e = 0; e < E; e++) {
        if (first[e + 1] > most) most = first[e + 1];
        first[e + 1] += first[e];
    }
    for (int i = 0; i < N * C; i++) order[first[expert[i]]++] = i;      // first[e] is now where expert e ends
    if (most > AT_ONCE) most = AT_ONCE;
    float *mine = malloc(sizeof(float) * (size_t) most * (2 * (size_t) D + 2 * (size_t) F));
    float *y = mine + (size_t) most * D, *opened = y + (size_t) most * D, *up = opened + (size_t) most * F;

    memset(out, 0, sizeof(float) * (size_t) N * D);
    for (int e = 0, at = 0; e < E; e++) {
        for (; at < first[e]; at += most) {
            int rows = first[e] - at < most ? first[e] - at : most;
            if (at + rows > first[e]) rows = first[e] - at;
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
        at = first[e];
    }
    free(mine);
    free(order);
    free(first);
}
