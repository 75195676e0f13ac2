// The router of a mixture of experts, equations (router), (router-backward), (load-balance) and (load-balance-backward).
#include <math.h>
#include <stdlib.h>

#include "linear.h"
#include "row.h"

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

// scores (N, E)  ->  expert and gate (N, top_k)
static void choose_best(int64_t *expert, float *gate, const float *scores, int top_k, int N, int E) {
    #pragma omp parallel for if ((size_t) N * E > SMALL)
    for (int n = 0; n < N; n++) {
        int64_t *mine = expert + (size_t) n * top_k;
        float *opened = gate + (size_t) n * top_k;
        for (int e = 0; e < E; e++) insert(mine, opened, e < top_k ? e : top_k, top_k, e, scores[(size_t) n * E + e]);
        for (int i = 0; i < top_k; i++) {           // so far the gate held the best scores
            float small = expf(-fabsf(opened[i]));
            opened[i] = (opened[i] >= 0 ? 1.0f : small) / (1.0f + small);
        }
    }
}

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k)
void router(int64_t *out_expert, float *out_gate, const float *x, const matrix *w_router, int top_k,
            int N, int D, int E) {
    float *scores = malloc(sizeof(float) * (size_t) N * E);
    product(scores, x, w_router, 0, NULL, N, D, E);
    choose_best(out_expert, out_gate, scores, top_k, N, E);
    free(scores);
}

// The scores of all experts, and which of them are chosen.
typedef struct {
    float *scores, *gate;       // (N, E), (N, top_k)
    int64_t *expert;            // (N, top_k)
} choice;
static choice choice_of(const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    choice c = {malloc(sizeof(float) * (size_t) N * E), malloc(sizeof(float) * (size_t) N * top_k),
                malloc(sizeof(int64_t) * (size_t) N * top_k)};
    product(c.scores, x, w_router, 0, NULL, N, D, E);
    choose_best(c.expert, c.gate, c.scores, top_k, N, E);
    return c;
}
static void choice_free(choice *c) {
    free(c->scores);
    free(c->gate);
    free(c->expert);
}

// d_gate (N, top_k), x (N, D), w_router (D, E) of plain numbers  ->  out_x (N, D), out_w_router (D, E)
void router_backward(float *out_x, float *out_w_router, const float *d_gate, const float *x, const matrix *w_router, int top_k,
                     int N, int D, int E) {
    choice c = choice_of(x, w_router, top_k, N, D, E);
    memset(c.scores, 0, sizeof(float) * (size_t) N * E);            // from here on what comes down to them
    for (size_t i = 0; i < (size_t) N * top_k; i++)
        c.scores[i / top_k * E + (size_t) c.expert[i]] = d_gate[i] * c.gate[i] * (1.0f - c.gate[i]);
    linear_backward(out_x, out_w_router, NULL, c.scores, x, w_router, NULL, N, D, E);
    choice_free(&c);
}

// Scores become beliefs  ->  the share (E) of each expert of all choices, and along (N), the mean share by these beliefs:
// where all shares are equal it is one of them to the last digit, so that nothing is left to learn
static float *believe(float *along, choice *c, int top_k, int N, int E) {
    float *share = malloc(sizeof *share * (size_t) E);
    int64_t *count = calloc((size_t) E, sizeof *count);
    for (size_t i = 0; i < (size_t) N * top_k; i++) count[c->expert[i]]++;
    for (int e = 0; e < E; e++) share[e] = (float) ((double) count[e] / ((double) N * top_k));
    free(count);
    #pragma omp parallel for if ((size_t) N * E > SMALL)
    for (int n = 0; n < N; n++) {
        float *belief = c->scores + (size_t) n * E, total = (float) row_exp(belief, belief, row_max(belief, E), E);
        for (int e = 0; e < E; e++) belief[e] /= total;
        double sum = 0.0;
        for (int e = 0; e < E; e++) sum += belief[e];
        along[n] = (float) (dot(belief, share, E) / sum);
    }
    return share;
}

// x (N, D), w_router (D, E)  ->  out (1)
void load_balance(double *out, const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    choice c = choice_of(x, w_router, top_k, N, D, E);
    float *along = malloc(sizeof *along * (size_t) N);
    double sum = 0.0;
    free(believe(along, &c, top_k, N, E));
    for (int n = 0; n < N; n++) sum += along[n];
    *out = sum / N * E;
    free(along);
    choice_free(&c);
}

// dy, x (N, D), w_router (D, E) of plain numbers  ->  out_x (N, D), out_w_router (D, E)
void load_balance_backward(float *out_x, float *out_w_router, double dy, const float *x, const matrix *w_router, int top_k,
                           int N, int D, int E) {
    choice c = choice_of(x, w_router, top_k, N, D, E);
    float *along = malloc(sizeof *along * (size_t) N), *share = believe(along, &c, top_k, N, E), size = (float) (dy * E / N);
    for (size_t n = 0; n < (size_t) N; n++)
        for (int e = 0; e < E; e++) c.scores[n * E + e] *= (share[e] - along[n]) * size;
    linear_backward(out_x, out_w_router, NULL, c.scores, x, w_router, NULL, N, D, E);
    free(share);
    free(along);
    choice_free(&c);
}
