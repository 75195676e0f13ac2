// The gradients of normalisation, equations (rms-norm-backward) and (layer-norm-backward).
#include <math.h>

#include "memory.h"
#include "row_ops.h"

// The gradient of a weight is a sum over all rows: in floats over ROWS_PER_SUM rows each, and in doubles over these
// sums.  So it does not depend on the number of threads.
enum { ROWS_PER_SUM = 64 };

typedef struct {
    float *weight, *bias;  // (sums, D)
    double *total;         // (D)
} workspace;

static workspace workspace_in(arena *a, int N, int D) {
    size_t count = (size_t) (N + ROWS_PER_SUM - 1) / ROWS_PER_SUM * D;
    return (workspace) {carve_floats(a, count), carve_floats(a, count), carve(a, sizeof(double) * (size_t) D)};
}
static arena workspace_memory(int N, int D) {
    arena count = {0};
    workspace_in(&count, N, D);
    return allocate(count.used);
}

// sums (sums, D)  ->  out (D)
static void add_sums(float *out, const float *sums, double *total, int N, int D) {
    memset(total, 0, sizeof *total * (size_t) D);
    for (int n = 0; n < N; n += ROWS_PER_SUM)
        for (int d = 0; d < D; d++) total[d] += sums[(size_t) (n / ROWS_PER_SUM) * D + d];
    for (int d = 0; d < D; d++) out[d] = (float) total[d];
}

// The sums over a row of g x_hat and of g, with g = dy * weight, in several doubles in parallel; layer_norm passes `x -
// mean` for x_hat, and divides by the standard deviation afterwards
static void gradient_sums(double *g_x_hat, double *g, const float *dy, const float *weight, const float *x_hat, int D) {
    enum { SUMS = LANES };
    double products[SUMS] = {0}, sums[SUMS] = {0};
    int i = 0;
    for (; i + SUMS <= D; i += SUMS)
        for (int l = 0; l < SUMS; l++) {
            double term = (double) dy[i + l] * weight[i + l];
            products[l] += term * x_hat[i + l];
            sums[l] += term;
        }
    for (; i < D; i++) {
        double term = (double) dy[i] * weight[i];
        products[0] += term * x_hat[i];
        sums[0] += term;
    }
    for (int l = 0; l < SUMS; l++) *g_x_hat += products[l], *g += sums[l];
}

// One row: out = rstd * (g - x * mean(g x) / mean(x^2)) with g = dy * weight, and sum += dy * x * rstd
static void rms_norm_backward_row(float *restrict out, float *restrict sum, const float *dy, const float *x,
                                  const float *weight, float eps, int D) {
    double mean_square = dot(x, x, D) / D + eps;
    float rstd = (float) (1.0 / sqrt(mean_square));
    if (weight)
        for (int d = 0; d < D; d++) {
            sum[d] += dy[d] * (x[d] * rstd);
            out[d] = dy[d] * weight[d];
        }
    else memcpy(out, dy, sizeof(float) * (size_t) D);
    float along_x = (float) (dot(out, x, D) / D / mean_square);
    for (int d = 0; d < D; d++) out[d] = rstd * (out[d] - x[d] * along_x);
}

// dy and x (N, D), weight (D) or NULL  ->  out_x (N, D), out_weight (D) or NULL
void rms_norm_backward(float *restrict out_x, float *out_weight, const float *dy, const float *x, const float *weight,
                       float eps, int N, int D) {
    arena memory = weight ? workspace_memory(N, D) : (arena) {0};
    if (weight && !memory.base) return;
    workspace w = workspace_in(&memory, N, D);
    #pragma omp parallel for if ((size_t) N * D > PARALLEL_MIN)
    for (int block = 0; block < N; block += ROWS_PER_SUM) {
        float *sum = weight ? w.weight + (size_t) (block / ROWS_PER_SUM) * D : NULL;
        if (sum) memset(sum, 0, sizeof(float) * (size_t) D);
        for (int n = block; n < block + ROWS_PER_SUM && n < N; n++) {
            size_t row = (size_t) n * D;
            rms_norm_backward_row(out_x + row, sum, dy + row, x + row, weight, eps, D);
        }
    }
    if (weight) add_sums(out_weight, w.weight, w.total, N, D);
    release(&memory);
}

// One row: out = rstd * (g - mean(g) - x_hat * mean(g x_hat)) with g = dy * weight, sum += dy * x_hat, bias_sum += dy
static void layer_norm_backward_row(float *restrict out, float *restrict sum, float *restrict bias_sum, const float *dy,
                                    const float *x, const float *weight, float eps, int D) {
    double g_x_hat = 0.0, mean_g = 0.0, mean = 0.0;
    for (int d = 0; d < D; d++) mean += (double) x[d] / D;
    // their sum is the mean, to twice the digits
    float mean_high = (float) mean, mean_low = (float) (mean - mean_high);
    for (int d = 0; d < D; d++) out[d] = (x[d] - mean_high) - mean_low;
    float rstd = (float) (1.0 / sqrt(dot(out, out, D) / D + eps));
    gradient_sums(&g_x_hat, &mean_g, dy, weight, out, D);
    float along_x = (float) (g_x_hat / D * rstd);
    mean_g /= D;
    for (int d = 0; d < D; d++) {
        float x_hat = out[d] * rstd;
        sum[d] += dy[d] * x_hat;
        bias_sum[d] += dy[d];
        out[d] = rstd * ((float) ((double) dy[d] * weight[d] - mean_g) - x_hat * along_x);
    }
}

// dy and x (N, D), weight and bias (D)  ->  out_x (N, D), out_weight and out_bias (D)
void layer_norm_backward(float *restrict out_x, float *out_weight, float *out_bias, const float *dy, const float *x,
                         const float *weight, const float *bias, float eps, int N, int D) {
    (void) bias;
    arena memory = workspace_memory(N, D);
    if (!memory.base) return;
    workspace w = workspace_in(&memory, N, D);
    #pragma omp parallel for if ((size_t) N * D > PARALLEL_MIN)
    for (int block = 0; block < N; block += ROWS_PER_SUM) {
        size_t at = (size_t) (block / ROWS_PER_SUM) * D;
        memset(w.weight + at, 0, sizeof(float) * (size_t) D);
        memset(w.bias + at, 0, sizeof(float) * (size_t) D);
        for (int n = block; n < block + ROWS_PER_SUM && n < N; n++) {
            size_t row = (size_t) n * D;
            layer_norm_backward_row(out_x + row, w.weight + at, w.bias + at, dy + row, x + row, weight, eps, D);
        }
    }
    add_sums(out_weight, w.weight, w.total, N, D);
    add_sums(out_bias, w.bias, w.total, N, D);
    release(&memory);
}
