// What training minimises, equation (cross-entropy).
#include "row.h"

#include <math.h>

// logits (N, V), targets (N) below V, negative ones ignored  ->  out (N), the loss of each row, 0 where ignored
void cross_entropy(double *out, const float *logits, const int64_t *targets, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        out[n] = 0.0;
        if (targets[n] < 0) continue;
        float best = row_max(x, V);
        out[n] = log(row_exp(NULL, x, best, V)) - ((double) x[targets[n]] - best);
    }
}

// dy, logits (N, V), targets (N), not all negative  ->  out (N, V)
void cross_entropy_backward(float *out, double dy, const float *logits, const int64_t *targets, int N, int V) {
    int learn = 0;
    for (int n = 0; n < N; n++) learn += targets[n] >= 0;
    float share = (float) (dy / learn);
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V;
        float *out_n = out + (size_t) n * V;
        if (targets[n] < 0) {
            memset(out_n, 0, sizeof(float) * (size_t) V);
            continue;
        }
        float inverse = (float) (1.0 / row_exp(out_n, x, row_max(x, V), V)), came = out_n[targets[n]] * inverse - 1.0f;
        for (int i = 0; i < V; i++) out_n[i] *= inverse * share;
        out_n[targets[n]] = came * share;
    }
}

// logits and teacher (N, V)  ->  out (N): the surprise in each row
void soft_cross_entropy(double *out, const float *logits, const float *teacher, int N, int V) {
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V, *y = teacher + (size_t) n * V;
        float best = row_max(x, V), top = row_max(y, V);
        double total = 0.0, sum = 0.0;
        for (int start = 0; start < V; start += 64 * LANES) {           // blocks: see row_exp
            int stop = V - start < 64 * LANES ? V : start + 64 * LANES;
            vec totals = {0}, sums = {0};
            for (int i = start; i < stop; i += LANES) {
                int some = stop - i < LANES ? stop - i : LANES;
                vec e = exp_of(load_some(y + i, some, -__builtin_inff()) - top);
                totals += e;
                sums += e * (best - load_some(x + i, some, best));
            }
            total += sum_lanes(totals), sum += sum_lanes(sums);
        }
        out[n] = log(row_exp(NULL, x, best, V)) + sum / total;
    }
}

// dy, logits and teacher (N, V)  ->  out (N, V)
void soft_cross_entropy_backward(float *out, double dy, const float *logits, const float *teacher, int N, int V) {
    float share = (float) (dy / N);
    #pragma omp parallel for if ((size_t) N * V > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x = logits + (size_t) n * V, *y = teacher + (size_t) n * V;
        float *out_n = out + (size_t) n * V, top = row_max(y, V);
        float mine = (float) (1.0 / row_exp(out_n, x, row_max(x, V), V)), theirs = (float) (1.0 / row_exp(NULL, y, top, V));
        for (int i = 0; i < V; i += LANES) {
            int some = V - i < LANES ? V - i : LANES;
            vec opinion = exp_of(load_some(y + i, some, top) - top) * theirs;
            store_some(out_n + i, (load_some(out_n + i, some, 0.0f) * mine - opinion) * share, some);
        }
    }
}
