// The embedding table, equation (embed).
#include "simd.h"

// tokens (N) from 0 to V - 1, embedding (V, D) float32, bfloat16 or float16 in rows  ->  out (N, D)
void embed(float *out, const int64_t *tokens, const matrix *embedding, int N, int D) {
    #pragma omp parallel for if ((size_t) N * D > SMALL)
    for (int n = 0; n < N; n++) {
        ptrdiff_t row = (ptrdiff_t) tokens[n] * embedding->in_;
        float *out_n = out + (size_t) n * D;
        int i = 0;
        for (; i + LANES <= D; i += LANES) store(out_n + i, widened(embedding->values, row + i, embedding->kind));
        for (; i < D; i++) out_n[i] = widened_one(embedding->values, row + i, embedding->kind);
    }
}
