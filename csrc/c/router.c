// The router of a mixture of experts, equation (router).
#include "simd.h"

#include <math.h>

enum { TOKENS = 4, EXPERTS = 4, BLOCK = 64 };

// Sixteen weights, `step` numbers apart, or the first n of them, widened.
static inline __attribute__((always_inline)) f32x16 weights16(const matrix *w, ptrdiff_t at, ptrdiff_t step, int n) {
    const float *plain = (const float *) w->values + at;
    const uint16_t *half = (const uint16_t *) w->values + at;
    if (step == 1 && n == LANES && w->kind == F32) return load16(plain);
    if (step == 1 && n == LANES && w->kind == BF16) return from_bf16(half);
    float v[LANES] = {0};
    for (int l = 0; l < n; l++)
        v[l] = w->kind == F32 ? plain[l * step] : w->kind == BF16 ? from_bf16_one(half[l * step])
                                                                  : from_f16_one(half[l * step]);
    return load16(v);
}

// Both of these score `rows` tokens, x (rows, D), against n <= 16 experts from e on.  Which one depends on what lies
// side by side in memory and so fills a register.  `rows` is 1 or TOKENS, a constant, so that the sums are registers.

// One input of sixteen experts.  Blocks of inputs are added up apart: one float over all of them would drift.
static inline __attribute__((always_inline)) void experts_aside(float score[][LANES], const float *x, const matrix *w,
                                                                int rows, int e, int n, int D) {
    f32x16 totals[TOKENS] = {{0}};
    for (int start = 0; start < D; start += BLOCK) {
        f32x16 sums[TOKENS] = {{0}};
        for (int i = start; i < D && i < start + BLOCK; i++) {
            f32x16 weights = weights16(w, i * w->in + e * w->out, w->out, n);
            for (int r = 0; r < rows; r++) sums[r] += x[(size_t) r * D + i] * weights;
        }
        for (int r = 0; r < rows; r++) totals[r] += sums[r];
    }
    for (int r = 0; r < rows; r++) store16(score[r], totals[r]);
}

// Sixteen inputs of one expert, of up to EXPERTS at once.
static inline __attribute__((always_inline)) void inputs_aside(float score[][LANES], const float *x, const matrix *w,
                                                               int rows, int e, int n, int D) {
    for (int first = 0; first < n; first += EXPERTS) {
        f32x16 sums[TOKENS][EXPERTS] = {{{0}}};
        for (int i = 0; i < D; i += LANES) {
            int some = D - i < LANES ? D - i : LANES;
            f32x16 inputs[TOKENS];
            for (int r = 0; r < rows; r++)
                inputs[r] = some == LANES ? load16(x + (size_t) r * D + i) : load_some(x + (size_t) r * D + i, some, 0.0f);
            for (int j = 0; j < EXPERTS; j++) {         // past the last expert: that one again
                f32x16 weights = weights16(w, (e + (first + j < n ? first + j : n - 1)) * w->out + i, 1, some);
                for (int r = 0; r < rows; r++) sums[r][j] += inputs[r] * weights;
            }
        }
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < EXPERTS && first + j < n; j++) score[r][first + j] = sum16(sums[r][j]);
    }
}

// Put an expert where it belongs among the `found` best so far: behind its equals, and NaN behind all.
static void insert(int64_t *expert, float *best, int found, int top_k, int64_t e, float score) {
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

static inline __attribute__((always_inline)) void route(int64_t *expert, float *gate, const float *x, const matrix *w,
                                                        int top_k, int rows, int D, int E) {
    float score[TOKENS][LANES];
    for (int e = 0; e < E; e += LANES) {
        int n = E - e < LANES ? E - e : LANES;
        if (w->in == 1) inputs_aside(score, x, w, rows, e, n, D);
        else experts_aside(score, x, w, rows, e, n, D);
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < n; j++)
                insert(expert + r * top_k, gate + r * top_k, e + j < top_k ? e + j : top_k, top_k, e + j, score[r][j]);
    }
    for (int i = 0; i < rows * top_k; i++) {            // so far gate held the best scores
        float small = expf(-fabsf(gate[i]));
        gate[i] = (gate[i] >= 0 ? 1.0f : small) / (1.0f + small);
    }
}

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k)
void router(int64_t *out_expert, float *out_gate, const float *x, const matrix *w_router, int top_k,
            int N, int D, int E) {
    #pragma omp parallel for if (N > TOKENS && (size_t) N * D * E > SMALL)
    for (int n = 0; n < N; n += TOKENS) {
        if (N - n >= TOKENS)
            route(out_expert + (size_t) n * top_k, out_gate + (size_t) n * top_k, x + (size_t) n * D, w_router, top_k,
                  TOKENS, D, E);
        else
            for (int r = n; r < N; r++)
                route(out_expert + (size_t) r * top_k, out_gate + (size_t) r * top_k, x + (size_t) r * D, w_router,
                      top_k, 1, D, E);
    }
}
