// The gradients of a matrix product and of the embedding table, equations (linear-backward) and (embed-backward).
#include "linear.h"
#include "memory.h"

// dy (N, O), x (N, I), w (I, O), not quantized  ->  out_x (N, I), out_w (I, O), out_bias (O) or NULL
void linear_backward(float *out_x, float *out_w, float *out_bias, const float *dy, const float *x, const matrix *w,
                     const float *bias, int N, int I, int O) {
    (void) bias;
    matrix w_t = transposed(w);
    matmul_packed(out_x, dy, &w_t, 0, NULL, N, O, I);
    memset(out_w, 0, sizeof(float) * (size_t) I * O);
    gemm_tn_accumulate(out_w, x, dy, N, I, O);
    if (!out_bias) return;
    arena memory = allocate(sizeof(float) * (size_t) N);
    if (!memory.base) return;
    float *ones = carve_floats(&memory, N);  // a sum over rows is a product with ones
    for (int n = 0; n < N; n++) ones[n] = 1.0f;
    memset(out_bias, 0, sizeof(float) * (size_t) O);
    gemm_tn_accumulate(out_bias, ones, dy, N, 1, O);
    release(&memory);
}

enum { CHANNELS_PER_TASK = 64 };

// dy (N, D), tokens (N) from 0 to V - 1  ->  out (V, D)
//
// The threads divide the channels, so that no two of them add to the same element.
void embed_backward(float *out, const float *dy, const int64_t *tokens, const matrix *embedding, int N, int D, int V) {
    (void) embedding;
    #pragma omp parallel for if ((size_t) N * D > PARALLEL_MIN)
    for (int d = 0; d < D; d += CHANNELS_PER_TASK) {
        size_t channels = (size_t) min_int(D - d, CHANNELS_PER_TASK);
        for (int v = 0; v < V; v++) memset(out + (size_t) v * D + d, 0, sizeof(float) * channels);
        for (int n = 0; n < N; n++) {
            float *row = out + (size_t) tokens[n] * D + d;
            for (size_t i = 0; i < channels; i++) row[i] += dy[(size_t) n * D + d + i];
        }
    }
}
