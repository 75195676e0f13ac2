// Root-mean-square normalisation, equation (rms-norm).
#include "simd.h"

#include <math.h>

// x (N, D), weight (D) or NULL  ->  out (N, D)
void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D) {
    #pragma omp parallel for if ((size_t) N * D > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x_n = x + (size_t) n * D;
        float *out_n = out + (size_t) n * D;
        double sum = 0.0;                           // one float would drift over 5120 terms
        for (int i = 0; i < D; i++) sum += (double) x_n[i] * x_n[i];
        float scale = (float) (1.0 / sqrt(sum / D + eps));
        for (int i = 0; i < D; i++) out_n[i] = x_n[i] * scale * (weight ? weight[i] : 1.0f);
    }
}
