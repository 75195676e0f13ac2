// The router of a mixture of experts, equation (router).
#include "simd.h"

#include <math.h>

enum { CHAINS = 4 };            // sums of a score that do not wait for each other

// Sixteen weights, `step` numbers apart, widened.
static inline f32x16 weights16(const matrix *w, ptrdiff_t at, ptrdiff_t step, int n) {
    const float *plain = (const float *) w->values + at;
    const uint16_t *half = (const uint16_t *) w->values + at;
    if (step == 1 && n == LANES && w->kind == F32) return load16(plain);
    if (step == 1 && n == LANES && w->kind == BF16) return from_bf16(half);
    f32x16 v = {0};
    for (int l = 0; l < n; l++)
        v[l] = w->kind == F32 ? plain[l * step] : w->kind == BF16 ? from_bf16_one(half[l * step])
                                                                  : from_f16_one(half[l * step]);
    return v;
}

// The scores of n <= 16 experts from e on: x (D) times their columns of w.  A register holds either sixteen inputs of
// one expert or one input of sixteen experts, whichever lie side by side in memory.
static void scores16(float *score, const float *x, const matrix *w, int e, int n, int D) {
    f32x16 sums[CHAINS];
    if (w->in != 1) {
        memset(sums, 0, sizeof sums);
        for (int i = 0; i < D; i++) sums[i % CHAINS] += x[i] * weights16(w, i * w->in + e * w->out, w->out, n);
        store16(score, (sums[0] + sums[1]) + (sums[2] + sums[3]));
        return;
    }
    for (int j = 0; j < n; j++) {
        ptrdiff_t column = (e + j) * w->out;
        memset(sums, 0, sizeof sums);
        for (int i = 0; i < D; i += LANES) {
            int some = D - i < LANES ? D - i : LANES;
            f32x16 v = some == LANES ? load16(x + i) : load_some(x + i, some, 0.0f);
            sums[i / LANES % CHAINS] += v * weights16(w, column + i, 1, some);
        }
        score[j] = sum16((sums[0] + sums[1]) + (sums[2] + sums[3]));
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

// x (N, D), w_router (D, E)  ->  out_expert and out_gate (N, top_k)
void router(int64_t *out_expert, float *out_gate, const float *x, const matrix *w_router, int top_k, int N, int D, int E) {
    #pragma omp parallel for if ((size_t) N * D * E > SMALL)
    for (int n = 0; n < N; n++) {
        int64_t *expert = out_expert + (size_t) n * top_k;
        float *gate = out_gate + (size_t) n * top_k, score[LANES];      // first the best scores, in the end their gates
        for (int e = 0; e < E; e += LANES) {
            int some = E - e < LANES ? E - e : LANES;
            scores16(score, x + (size_t) n * D, w_router, e, some, D);
            for (int j = 0; j < some; j++) insert(expert, gate, e + j < top_k ? e + j : top_k, top_k, e + j, score[j]);
        }
        for (int i = 0; i < top_k; i++) {
            float small = expf(-fabsf(gate[i]));
            gate[i] = (gate[i] >= 0 ? 1.0f : small) / (1.0f + small);
        }
    }
}
