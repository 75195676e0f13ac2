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
