// The training loss, equation (cross-entropy).
#include "row_ops.h"

#include <math.h>

// logits (N, V), targets (N) below V, negative ones ignored  ->  out (N), the loss of each row, 0 where ignored
void cross_entropy(double *out, const float *logits, const int64_t *targets, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        out[n] = 0.0;
        if (targets[n] < 0) continue;
        float max = row_max(x, V);
        out[n] = log(row_exp(NULL, x, max, V)) - ((double) x[targets[n]] - max);
    }
}

// dy, logits (N, V), targets (N), not all negative  ->  out (N, V)
void cross_entropy_backward(float *out, double dy, const float *logits, const int64_t *targets, int N, int V) {
    int count = 0;
    for (int n = 0; n < N; n++) count += targets[n] >= 0;
    float scale = (float) (dy / count);
    #pragma omp parallel for if ((size_t) N * V > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        float *out_n = out + (size_t) n * V;
        if (targets[n] < 0) {
            memset(out_n, 0, sizeof(float) * (size_t) V);
            continue;
        }
        float inverse = (float) (1.0 / row_exp(out_n, x, row_max(x, V), V));
        float at_target = out_n[targets[n]] * inverse - 1.0f;
        for (int i = 0; i < V; i++) out_n[i] *= inverse * scale;
        out_n[targets[n]] = at_target * scale;
    }
}

// The mean of (max - x) under the softmax of the teacher's logits y, which have the maximum y_max
static double mean_distance(const float *x, const float *y, float max, float y_max, int V) {
    double total = 0.0, sum = 0.0;
    for (int start = 0; start < V; start += EXP_BLOCK) {  // in blocks, as in row_exp
        int stop = V - start < EXP_BLOCK ? V : start + EXP_BLOCK;
        vec totals = {0}, sums = {0};
        for (int i = start; i < stop; i += LANES) {
            int n = min_int(stop - i, LANES);
            vec e = exp_vec(load_partial(y + i, n, -__builtin_inff()) - y_max);
            totals += e;
            sums += e * (max - load_partial(x + i, n, max));
        }
        total += reduce_add(totals), sum += reduce_add(sums);
    }
    return sum / total;
}

// logits and teacher (N, V)  ->  out (N): the cross entropy of each row
void soft_cross_entropy(double *out, const float *logits, const float *teacher, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V, *y = teacher + (size_t) n * V;
        float max = row_max(x, V), y_max = row_max(y, V);
        double distance = mean_distance(x, y, max, y_max, V);
        out[n] = log(row_exp(NULL, x, max, V)) + distance;
    }
}

// dy, logits and teacher (N, V)  ->  out (N, V)
void soft_cross_entropy_backward(float *out, double dy, const float *logits, const float *teacher, int N, int V) {
    float scale = (float) (dy / N);
    #pragma omp parallel for if ((size_t) N * V > PARALLEL_MIN)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V, *y = teacher + (size_t) n * V;
        float *out_n = out + (size_t) n * V, y_max = row_max(y, V);
        float inverse = (float) (1.0 / row_exp(out_n, x, row_max(x, V), V));
        float y_inverse = (float) (1.0 / row_exp(NULL, y, y_max, V));
        for (int i = 0; i < V; i += LANES) {
            int lanes = min_int(V - i, LANES);
            vec teacher_probs = exp_vec(load_partial(y + i, lanes, y_max) - y_max) * y_inverse;
            vec probs = load_partial(out_n + i, lanes, 0.0f) * inverse;
            store_partial(out_n + i, (probs - teacher_probs) * scale, lanes);
        }
    }
}
