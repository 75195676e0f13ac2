// The gradients of normalisation, equations (rms-norm-backward) and (layer-norm-backward).
#include <math.h>

#include "memory.h"
#include "row.h"

// The weights' gradients are sums over all rows: of ROWS rows each in floats, and of these sums in doubles.  They are the
// same whatever the number of threads.
enum { ROWS = 64 };
static size_t sum_count(int N, int D) { return (size_t) (N + ROWS - 1) / ROWS * D; }
static void add_up(float *out, const float *sums, double *total, int N, int D) {
    memset(total, 0, sizeof *total * (size_t) D);
    for (int n = 0; n < N; n += ROWS)
        for (int d = 0; d < D; d++) total[d] += sums[(size_t) (n / ROWS) * D + d];
    for (int d = 0; d < D; d++) out[d] = (float) total[d];
}

// The sums of dy * weight * x and of dy * weight over a row, in doubles side by side
static void moments(double *along, double *shift, const float *dy, const float *weight, const float *x, int D) {
    enum { SUMS = LANES };
    double products[SUMS] = {0}, sums[SUMS] = {0};
    int i = 0;
    for (; i + SUMS <= D; i += SUMS)
        for (int l = 0; l < SUMS; l++) {
            double term = (double) dy[i + l] * weight[i + l];
            products[l] += term * x[i + l];
            sums[l] += term;
        }
    for (; i < D; i++) {
        double term = (double) dy[i] * weight[i];
        products[0] += term * x[i];
        sums[0] += term;
    }
    for (int l = 0; l < SUMS; l++) *along += products[l], *shift += sums[l];
}

// dy and x (N, D), weight (D) or NULL  ->  out_x (N, D), out_weight (D) or NULL
void rms_norm_backward(float *restrict out_x, float *out_weight, const float *dy, const float *x, const float *weight, float eps,
                       int N, int D) {
    arena memory = {0};
    if (weight) memory = allocate(sizeof(float) * sum_count(N, D) + sizeof(double) * (size_t) D + CACHE_LINE);
    if (weight && !memory.base) return;
    double *total = carve(&memory, sizeof *total * (size_t) D);
    float *sums = carve_floats(&memory, sum_count(N, D));
    #pragma omp parallel for if ((size_t) N * D > SMALL)
    for (int first = 0; first < N; first += ROWS) {
        if (weight) memset(sums + (size_t) (first / ROWS) * D, 0, sizeof(float) * (size_t) D);
        for (int n = first; n < first + ROWS && n < N; n++) {
            const float *dy_n = dy + (size_t) n * D, *x_n = x + (size_t) n * D;
            float *restrict out_n = out_x + (size_t) n * D;
            double size = dot(x_n, x_n, D) / D + eps;
            float scale = (float) (1.0 / sqrt(size));
            if (weight) {
                float *restrict sum = sums + (size_t) (first / ROWS) * D;
                for (int d = 0; d < D; d++) {
                    sum[d] += dy_n[d] * (x_n[d] * scale);
                    out_n[d] = dy_n[d] * weight[d];
                }
            } else memcpy(out_n, dy_n, sizeof(float) * (size_t) D);
            float pull = (float) (dot(out_n, x_n, D) / D / size);               // along the row
            for (int d = 0; d < D; d++) out_n[d] = scale * (out_n[d] - x_n[d] * pull);
        }
    }
    if (weight) add_up(out_weight, sums, total, N, D);
    release(&memory);
}

// dy and x (N, D), weight and bias (D)  ->  out_x (N, D), out_weight and out_bias (D)
void layer_norm_backward(float *restrict out_x, float *out_weight, float *out_bias, const float *dy, const float *x,
                         const float *weight, const float *bias, float eps, int N, int D) {
    (void) bias;
    arena memory = allocate(2 * sizeof(float) * sum_count(N, D) + sizeof(double) * (size_t) D + 2 * CACHE_LINE);
    if (!memory.base) return;
    double *total = carve(&memory, sizeof *total * (size_t) D);
    float *sums = carve_floats(&memory, sum_count(N, D)), *bias_sums = carve_floats(&memory, sum_count(N, D));
    #pragma omp parallel for if ((size_t) N * D > SMALL)
    for (int first = 0; first < N; first += ROWS) {
        memset(sums + (size_t) (first / ROWS) * D, 0, sizeof(float) * (size_t) D);
        memset(bias_sums + (size_t) (first / ROWS) * D, 0, sizeof(float) * (size_t) D);
        for (int n = first; n < first + ROWS && n < N; n++) {
            const float *dy_n = dy + (size_t) n * D, *x_n = x + (size_t) n * D;
            float *restrict out_n = out_x + (size_t) n * D, *restrict sum = sums + (size_t) (first / ROWS) * D;
            float *restrict bias_sum = bias_sums + (size_t) (first / ROWS) * D;
            double along = 0.0, shift = 0.0, mean = 0.0;
            for (int d = 0; d < D; d++) mean += (double) x_n[d] / D;
            float middle = (float) mean, rest = (float) (mean - middle);        // together the mean, to twice the digits
            for (int d = 0; d < D; d++) out_n[d] = (x_n[d] - middle) - rest;
            float scale = (float) (1.0 / sqrt(dot(out_n, out_n, D) / D + eps));
            moments(&along, &shift, dy_n, weight, out_n, D);
            float pull = (float) (along / D * scale);
            shift /= D;
            for (int d = 0; d < D; d++) {
                float normal = out_n[d] * scale;
                sum[d] += dy_n[d] * normal;
                bias_sum[d] += dy_n[d];
                out_n[d] = scale * ((float) ((double) dy_n[d] * weight[d] - shift) - normal * pull);
            }
        }
    }
    add_up(out_weight, sums, total, N, D);
    add_up(out_bias, bias_sums, total, N, D);
    release(&memory);
}
