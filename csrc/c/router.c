// The router of a mixture of experts, equations (router), (router-backward), (load-balance) and (load-balance-backward).
#include <math.h>

#include "linear.h"
#include "memory.h"
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
    arena memory = allocate(sizeof(float) * (size_t) N * E);
    if (!memory.base) return;
    float *scores = carve_floats(&memory, (size_t) N * E);
    product(scores, x, w_router, 0, NULL, N, D, E);
    choose_best(out_expert, out_gate, scores, top_k, N, E);
    release(&memory);
}

// The scores of all experts, which of them are chosen, and what load balancing asks of them.
typedef struct {
    float *scores, *gate;       // (N, E), (N, top_k)
    int64_t *expert;            // (N, top_k)
    int64_t *count;             // (E): how often each expert is chosen
    float *share, *along;       // (E), (N): see believe
} choice;
static choice choice_in(arena *a, int top_k, int N, int E) {
    return (choice) {
        .scores = carve_floats(a, (size_t) N * E),
        .gate = carve_floats(a, (size_t) N * top_k),
        .expert = carve(a, sizeof(int64_t) * (size_t) N * top_k),
        .count = carve(a, sizeof(int64_t) * (size_t) E),
        .share = carve_floats(a, E),
        .along = carve_floats(a, N),
    };
}
static arena choice_memory(int top_k, int N, int E) {
    arena count = {0};
    choice_in(&count, top_k, N, E);
    return allocate(count.used);
}
static choice choose_experts(arena *a, const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    choice c = choice_in(a, top_k, N, E);
    product(c.scores, x, w_router, 0, NULL, N, D, E);
    choose_best(c.expert, c.gate, c.scores, top_k, N, E);
    return c;
}

// d_gate (N, top_k), x (N, D), w_router (D, E) of plain numbers  ->  out_x (N, D), out_w_router (D, E)
void router_backward(float *out_x, float *out_w_router, const float *d_gate, const float *x, const matrix *w_router, int top_k,
                     int N, int D, int E) {
    arena memory = choice_memory(top_k, N, E);
    if (!memory.base) return;
    choice c = choose_experts(&memory, x, w_router, top_k, N, D, E);
    memset(c.scores, 0, sizeof(float) * (size_t) N * E);            // from here on what comes down to them
    for (size_t i = 0; i < (size_t) N * top_k; i++)
        c.scores[i / top_k * E + (size_t) c.expert[i]] = d_gate[i] * c.gate[i] * (1.0f - c.gate[i]);
    linear_backward(out_x, out_w_router, NULL, c.scores, x, w_router, NULL, N, D, E);
    release(&memory);
}

// Scores become beliefs  ->  the share (E) of each expert of all choices, and along (N), the mean share by these beliefs:
// where all shares are equal it is one of them to the last digit, so that nothing is left to learn
static void believe(choice *c, int top_k, int N, int E) {
    memset(c->count, 0, sizeof *c->count * (size_t) E);
    for (size_t i = 0; i < (size_t) N * top_k; i++) c->count[c->expert[i]]++;
    for (int e = 0; e < E; e++) c->share[e] = (float) ((double) c->count[e] / ((double) N * top_k));
    #pragma omp parallel for if ((size_t) N * E > SMALL)
    for (int n = 0; n < N; n++) {
        float *belief = c->scores + (size_t) n * E, total = (float) row_exp(belief, belief, row_max(belief, E), E);
        for (int e = 0; e < E; e++) belief[e] /= total;
        double sum = 0.0;
        for (int e = 0; e < E; e++) sum += belief[e];
        c->along[n] = (float) (dot(belief, c->share, E) / sum);
    }
}

// x (N, D), w_router (D, E)  ->  out (1)
void load_balance(double *out, const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    arena memory = choice_memory(top_k, N, E);
    if (!memory.base) return;
    choice c = choose_experts(&memory, x, w_router, top_k, N, D, E);
    double sum = 0.0;
    believe(&c, top_k, N, E);
    for (int n = 0; n < N; n++) sum += c.along[n];
    *out = sum / N * E;
    release(&memory);
}

// dy, x (N, D), w_router (D, E) of plain numbers  ->  out_x (N, D), out_w_router (D, E)
void load_balance_backward(float *out_x, float *out_w_router, double dy, const float *x, const matrix *w_router, int top_k,
                           int N, int D, int E) {
    arena memory = choice_memory(top_k, N, E);
    if (!memory.base) return;
    choice c = choose_experts(&memory, x, w_router, top_k, N, D, E);
    float size = (float) (dy * E / N);
    believe(&c, top_k, N, E);
    for (size_t n = 0; n < (size_t) N; n++)
        for (int e = 0; e < E; e++) c.scores[n * E + e] *= (c.share[e] - c.along[n]) * size;
    linear_backward(out_x, out_w_router, NULL, c.scores, x, w_router, NULL, N, D, E);
    release(&memory);
}
