// A matrix product in blocks, equation (linear): the sums of a whole register at a time, and four rows of x share each weight.
#include "simd.h"

enum { BLOCK = 4, STRETCH = 256 };      // rows of x; inputs that are added up before their sum joins the others

// x (N, I), w (I, O), bias (O) or NULL  ->  out (N, O)
void linear_2(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    int whole = O - O % LANES;
    #pragma omp parallel for if ((size_t) N * I * O > SMALL)
    for (int n = 0; n < N; n += BLOCK) {
        int rows = N - n < BLOCK ? N - n : BLOCK;
        for (int o = 0; o < whole; o += LANES) {
            vec total[BLOCK] = {{0}};
            for (int start = 0; start < I; start += STRETCH) {
                vec sum[BLOCK] = {{0}};
                for (int i = start; i < I && i < start + STRETCH; i++)
                    for (int r = 0; r < rows; r++) sum[r] += x[(size_t) (n + r) * I + i] * load(w + (size_t) i * O + o);
                for (int r = 0; r < rows; r++) total[r] += sum[r];
            }
            vec extra = bias ? load(bias + o) : (vec) {0};
            for (int r = 0; r < rows; r++) store(out + (size_t) (n + r) * O + o, total[r] + extra);
        }
        for (int r = 0; r < rows; r++) {
            for (int o = whole; o < O; o++) {
                double sum = 0.0;
                for (int i = 0; i < I; i++) sum += (double) x[(size_t) (n + r) * I + i] * w[(size_t) i * O + o];
                out[(size_t) (n + r) * O + o] = (float) sum + (bias ? bias[o] : 0.0f);
            }
        }
    }
}
