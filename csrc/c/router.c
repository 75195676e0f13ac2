// The router of a mixture of experts, equations (router), (router-backward), (load-balance) and
// (load-balance-backward).
#include <math.h>

#include "linear.h"
#include "memory.h"
#include "row_ops.h"

// Insert an expert among the `found` best so far: after those with equal scores, and NaN after all others.
static void insert(int64_t *expert, float *best, int found, int top_k, int e, float score) {
    int at = found;
    while (at > 0 && (score > best[at - 1] || (isnan(best[at - 1]) && !isnan(score)))) at--;
    if (at >= top_k) return;
    for (int i = found < top_k ? found : top_k - 1; i > at; i--) {
        expert[i] = expert[i - 1];
        best[i] = best[i - 1];
    }
    expert[at] = e;
    best[at] = score;
}

// scores (N, E)  ->  expert and gate (N, top_k)
static void choose_best(int64_t *expert, float *gate, const float *scores, int top_k, int N, int E) {
    #pragma omp parallel for if ((size_t) N * E > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        int64_t *expert_row = expert + (size_t) n * top_k;
        float *gate_row = gate + (size_t) n * top_k;  // the best scores first, then their sigmoids
        for (int e = 0; e < E; e++)
            insert(expert_row, gate_row, e < top_k ? e : top_k, top_k, e, scores[(size_t) n * E + e]);
        for (int i = 0; i < top_k; i++) {
            float small = expf(-fabsf(gate_row[i]));  // never overflows
            gate_row[i] = (gate_row[i] >= 0 ? 1.0f : small) / (1.0f + small);
        }
    }
}

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k)
void router(int64_t *out_expert, float *out_gate, const float *x, const matrix *w_router, int top_k, int N, int D,
            int E) {
    arena memory = allocate(sizeof(float) * (size_t) N * E);
    if (!memory.base) return;
    float *scores = carve_floats(&memory, (size_t) N * E);
    matmul(scores, x, w_router, 0, NULL, N, D, E);
    choose_best(out_expert, out_gate, scores, top_k, N, E);
    release(&memory);
}

// The scores of all experts, the chosen experts, and the quantities of load balancing.
typedef struct {
    float *scores, *gate;  // (N, E), (N, top_k)
    int64_t *expert;       // (N, top_k)
    int64_t *count;        // (E): how often each expert is chosen
    float *load;           // (E): its share of all choices
    float *mean_load;      // (N): the mean of `load` under a token's probabilities
} routing;
static routing routing_in(arena *a, int top_k, int N, int E) {
    return (routing) {
        .scores = carve_floats(a, (size_t) N * E),
        .gate = carve_floats(a, (size_t) N * top_k),
        .expert = carve(a, sizeof(int64_t) * (size_t) N * top_k),
        .count = carve(a, sizeof(int64_t) * (size_t) E),
        .load = carve_floats(a, E),
        .mean_load = carve_floats(a, N),
    };
}
static arena routing_memory(int top_k, int N, int E) {
    arena count = {0};
    routing_in(&count, top_k, N, E);
    return allocate(count.used);
}
static routing choose_experts(arena *a, const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    routing r = routing_in(a, top_k, N, E);
    matmul(r.scores, x, w_router, 0, NULL, N, D, E);
    choose_best(r.expert, r.gate, r.scores, top_k, N, E);
    return r;
}

// d_gate (N, top_k), x (N, D), w_router (D, E), not quantized  ->  out_x (N, D), out_w_router (D, E)
void router_backward(float *out_x, float *out_w_router, const float *d_gate, const float *x, const matrix *w_router,
                     int top_k, int N, int D, int E) {
    arena memory = routing_memory(top_k, N, E);
    if (!memory.base) return;
    routing r = choose_experts(&memory, x, w_router, top_k, N, D, E);
    memset(r.scores, 0, sizeof(float) * (size_t) N * E);  // from here on, their gradients
    for (size_t i = 0; i < (size_t) N * top_k; i++)
        r.scores[i / top_k * E + (size_t) r.expert[i]] = d_gate[i] * r.gate[i] * (1.0f - r.gate[i]);
    linear_backward(out_x, out_w_router, NULL, r.scores, x, w_router, NULL, N, D, E);
    release(&memory);
}

// Scores become probabilities, and load and mean_load are computed.  If all loads are equal, mean_load equals them to
// the last digit, so that the gradient is exactly zero.
static void softmax_and_load(routing *r, int top_k, int N, int E) {
    memset(r->count, 0, sizeof *r->count * (size_t) E);
    for (size_t i = 0; i < (size_t) N * top_k; i++) r->count[r->expert[i]]++;
    for (int e = 0; e < E; e++) r->load[e] = (float) ((double) r->count[e] / ((double) N * top_k));
    #pragma omp parallel for if ((size_t) N * E > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        float *probs = r->scores + (size_t) n * E, total = (float) row_exp(probs, probs, row_max(probs, E), E);
        for (int e = 0; e < E; e++) probs[e] /= total;
        double sum = 0.0;
        for (int e = 0; e < E; e++) sum += probs[e];
        r->mean_load[n] = (float) (dot(probs, r->load, E) / sum);
    }
}

// x (N, D), w_router (D, E)  ->  out (1)
void load_balance(double *out, const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    arena memory = routing_memory(top_k, N, E);
    if (!memory.base) return;
    routing r = choose_experts(&memory, x, w_router, top_k, N, D, E);
    double sum = 0.0;
    softmax_and_load(&r, top_k, N, E);
    for (int n = 0; n < N; n++) sum += r.mean_load[n];
    *out = sum / N * E;
    release(&memory);
}

// dy, x (N, D), w_router (D, E), not quantized  ->  out_x (N, D), out_w_router (D, E)
void load_balance_backward(float *out_x, float *out_w_router, double dy, const float *x, const matrix *w_router,
                           int top_k, int N, int D, int E) {
    arena memory = routing_memory(top_k, N, E);
    if (!memory.base) return;
    routing r = choose_experts(&memory, x, w_router, top_k, N, D, E);
    float scale = (float) (dy * E / N);
    softmax_and_load(&r, top_k, N, E);
    for (size_t n = 0; n < (size_t) N; n++)
        for (int e = 0; e < E; e++) r.scores[n * E + e] *= (r.load[e] - r.mean_load[n]) * scale;
    linear_backward(out_x, out_w_router, NULL, r.scores, x, w_router, NULL, N, D, E);
    release(&memory);
}
