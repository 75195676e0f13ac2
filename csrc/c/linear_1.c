// A matrix product exactly as in the formula, equation (linear): one output and one multiplication at a time.
//
// Every addition waits for the one before it, and every weight is fetched again for every row of x.
#include "simd.h"

// x (N, I), w (I, O), bias (O) or NULL  ->  out (N, O)
void linear_1(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    #pragma omp parallel for if ((size_t) N * I * O > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        for (int o = 0; o < O; o++) {
            double sum = 0.0;  // a single float would drift over 5120 terms
            for (int i = 0; i < I; i++) sum += (double) x[(size_t) n * I + i] * w[(size_t) i * O + o];
            out[(size_t) n * O + o] = (float) sum + (bias ? bias[o] : 0.0f);
        }
    }
}
