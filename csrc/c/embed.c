// The embedding table, equation (embed).
#include "simd.h"

// tokens (N) from 0 to V - 1, embedding (V, D) float32, bfloat16 or float16 in rows  ->  out (N, D)
void embed(float *out, const int64_t *tokens, const matrix *embedding, int N, int D) {
    #pragma omp parallel for if ((size_t) N * D > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        ptrdiff_t row = (ptrdiff_t) tokens[n] * embedding->in_stride;
        float *restrict out_n = out + (size_t) n * D;
        const uint16_t *half = (const uint16_t *) embedding->values + row;
        if (embedding->kind == F32) memcpy(out_n, (const float *) embedding->values + row, sizeof(float) * (size_t) D);
        else if (embedding->kind == F16)
            for (int i = 0; i < D; i++) out_n[i] = from_f16_scalar(half[i]);
        else {
            int i = 0;
            for (; i + LANES <= D; i += LANES) store(out_n + i, from_bf16(half + i));
            for (; i < D; i++) out_n[i] = from_bf16_scalar(half[i]);
        }
    }
}
