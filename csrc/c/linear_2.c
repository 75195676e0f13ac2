// A matrix product in blocks, equation (linear): a vector of sums at a time, and four rows share each weight.
#include "simd.h"

enum { BLOCK_ROWS = 4, BLOCK_INPUTS = 256 };  // rows that share each weight; inputs of a partial sum

// x (N, I), w (I, O), bias (O) or NULL  ->  out (N, O)
void linear_2(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    int O_full = O - O % LANES;
    #pragma omp parallel for if ((size_t) N * I * O > PARALLEL_MIN)
    for (int n = 0; n < N; n += BLOCK_ROWS) {
        int rows = N - n < BLOCK_ROWS ? N - n : BLOCK_ROWS;
        for (int o = 0; o < O_full; o += LANES) {
            vec total[BLOCK_ROWS] = {{0}};
            for (int start = 0; start < I; start += BLOCK_INPUTS) {
                vec sum[BLOCK_ROWS] = {{0}};
                for (int i = start; i < I && i < start + BLOCK_INPUTS; i++)
                    for (int r = 0; r < rows; r++) sum[r] += x[(size_t) (n + r) * I + i] * load(w + (size_t) i * O + o);
                for (int r = 0; r < rows; r++) total[r] += sum[r];
            }
            vec bias_vec = bias ? load(bias + o) : (vec) {0};
            for (int r = 0; r < rows; r++) store(out + (size_t) (n + r) * O + o, total[r] + bias_vec);
        }
        for (int r = 0; r < rows; r++) {
            for (int o = O_full; o < O; o++) {
                double sum = 0.0;
                for (int i = 0; i < I; i++) sum += (double) x[(size_t) (n + r) * I + i] * w[(size_t) i * O + o];
                out[(size_t) (n + r) * O + o] = (float) sum + (bias ? bias[o] : 0.0f);
            }
        }
    }
}
