// Softmax, equation (softmax).
#include "row_ops.h"

// x (N, S)  ->  out (N, S)
void softmax(float *out, const float *x, int N, int S) {
    #pragma omp parallel for if ((size_t) N * S > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x_n = x + (size_t) n * S;
        float *out_n = out + (size_t) n * S, total = (float) row_exp(out_n, x_n, row_max(x_n, S), S);
        for (int i = 0; i < S; i++) out_n[i] /= total;
    }
}

// dy and x (N, S)  ->  out (N, S)
void softmax_backward(float *out, const float *dy, const float *x, int N, int S) {
    #pragma omp parallel for if ((size_t) N * S > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *dy_n = dy + (size_t) n * S, *x_n = x + (size_t) n * S;
        float *out_n = out + (size_t) n * S, total = (float) row_exp(out_n, x_n, row_max(x_n, S), S);
        for (int i = 0; i < S; i++) out_n[i] /= total;
        float mean = (float) dot(dy_n, out_n, S);
        for (int i = 0; i < S; i++) out_n[i] *= dy_n[i] - mean;
    }
}
