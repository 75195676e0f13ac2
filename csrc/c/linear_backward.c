// The gradients of a matrix product and of the table, equations (linear-backward) and (embed-backward).
#include "linear.h"
#include "memory.h"

// dy (N, O), x (N, I), w (I, O) of plain numbers  ->  out_x (N, I), out_w (I, O), out_bias (O) or NULL
void linear_backward(float *out_x, float *out_w, float *out_bias, const float *dy, const float *x, const matrix *w,
                     const float *bias, int N, int I, int O) {
    (void) bias;
    matrix back = turned(w);
    linear_packed(out_x, dy, &back, 0, NULL, N, O, I);
    memset(out_w, 0, sizeof(float) * (size_t) I * O);
    turned_product(out_w, x, dy, N, I, O);
    if (!out_bias) return;
    arena memory = allocate(sizeof(float) * (size_t) N);
    if (!memory.base) return;
    float *ones = carve_floats(&memory, N);                     // a sum over rows is a product with ones
    for (int n = 0; n < N; n++) ones[n] = 1.0f;
    memset(out_bias, 0, sizeof(float) * (size_t) O);
    turned_product(out_bias, ones, dy, N, 1, O);
    release(&memory);
}

// dy (N, D), tokens (N) from 0 to V - 1  ->  out (V, D)
//
// Each thread has channels of its own: two places of the same token never meet.
void embed_backward(float *out, const float *dy, const int64_t *tokens, const matrix *embedding, int N, int D, int V) {
    (void) embedding;
    enum { SHARE = 64 };
    #pragma omp parallel for if ((size_t) N * D > SMALL)
    for (int d = 0; d < D; d += SHARE) {
        size_t share = (size_t) (D - d < SHARE ? D - d : SHARE);
        for (int v = 0; v < V; v++) memset(out + (size_t) v * D + d, 0, sizeof(float) * share);
        for (int n = 0; n < N; n++) {
            float *row = out + (size_t) tokens[n] * D + d;
            for (size_t i = 0; i < share; i++) row[i] += dy[(size_t) n * D + d + i];
        }
    }
}
