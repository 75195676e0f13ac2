// The router of a mixture of experts, equation (router).
#include <math.h>
#include <stdlib.h>

#include "linear.h"

// Put an expert where it belongs among the `found` best so far: behind its equals, and NaN behind all.
static void insert(int64_t *expert, float *best, int found, int top_k, int e, float score) {
    int place = found;
    while (place > 0 && (score > best[place - 1] || (isnan(best[place - 1]) && !isnan(score)))) place--;
    if (place >= top_k) return;
    for (int i = found < top_k ? found : top_k - 1; i > place; i--) {
        expert[i] = expert[i - 1];
        best[i] = best[i - 1];
    }
    expert[place] = e;
    best[place] = score;
}

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k)
void router(int64_t *out_expert, float *out_gate, const float *x, const matrix *w_router, int top_k,
            int N, int D, int E) {
    float *scores = malloc(sizeof(float) * (size_t) N * E);
    product(scores, x, w_router, 0, NULL, N, D, E);
    for (int n = 0; n < N; n++) {
        int64_t *expert = out_expert + (size_t) n * top_k;
        float *gate = out_gate + (size_t) n * top_k;
        for (int e = 0; e < E; e++) insert(expert, gate, e < top_k ? e : top_k, top_k, e, scores[(size_t) n * E + e]);
        for (int i = 0; i < top_k; i++) {           // so far gate held the best scores
            float small = expf(-fabsf(gate[i]));
            gate[i] = (gate[i] >= 0 ? 1.0f : small) / (1.0f + small);
        }
    }
    free(scores);
}
