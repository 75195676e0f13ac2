// Normalisation, equations (rms-norm) and (layer-norm).
#include "simd.h"

#include <math.h>

// The sum of (x - mean)^power over a row, power 1 or 2.  A single float would drift over 5120 terms, and each addition
// to a single double would wait for the one before: 2 * LANES doubles in parallel do neither.
INLINE double sum_powers(const float *x, double mean, int power, int D) {
    enum { SUMS = 2 * LANES };
    double sums[SUMS] = {0}, sum = 0.0;
    int i = 0;
    for (; i + SUMS <= D; i += SUMS)
        for (int l = 0; l < SUMS; l++) {
            double term = x[i + l] - mean;
            sums[l] += power == 2 ? term * term : term;
        }
    for (; i < D; i++) sum += power == 2 ? (x[i] - mean) * (x[i] - mean) : x[i] - mean;
    for (int l = 0; l < SUMS; l++) sum += sums[l];
    return sum;
}

// x (N, D), weight (D) or NULL  ->  out (N, D), which may be x
void rms_norm(float *out, const float *x, const float *weight, float eps, int N, int D) {
    #pragma omp parallel for if ((size_t) N * D > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x_n = x + (size_t) n * D;
        float *out_n = out + (size_t) n * D;
        float rstd = (float) (1.0 / sqrt(sum_powers(x_n, 0.0, 2, D) / D + eps));
        if (weight)
            for (int i = 0; i < D; i++) out_n[i] = x_n[i] * rstd * weight[i];
        else
            for (int i = 0; i < D; i++) out_n[i] = x_n[i] * rstd;
    }
}

// x (N, D), weight and bias (D)  ->  out (N, D)
void layer_norm(float *restrict out, const float *x, const float *weight, const float *bias, float eps, int N, int D) {
    #pragma omp parallel for if ((size_t) N * D > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x_n = x + (size_t) n * D;
        float *restrict out_n = out + (size_t) n * D;
        double mean = sum_powers(x_n, 0.0, 1, D) / D;
        // their sum is the mean, to twice the digits
        float mean_high = (float) mean, mean_low = (float) (mean - mean_high);
        float rstd = (float) (1.0 / sqrt(sum_powers(x_n, mean, 2, D) / D + eps));
        for (int i = 0; i < D; i++) out_n[i] = ((x_n[i] - mean_high) - mean_low) * rstd * weight[i] + bias[i];
    }
}
