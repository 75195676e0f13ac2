// A matrix product, equation (linear).
#include "simd.h"

enum { TILE = 4 };

// `rows` rows of x against `columns` rows of w.  Each number loaded serves a whole row or column of products; every
// product has 16 partial sums, which fill a vector register and keep the rounding error small.  Called with
// constants only, so that the compiler unrolls the loops and keeps `sums` in registers.
static inline __attribute__((always_inline)) void tile(float *out, const float *x, const float *w, const float *bias,
                                                       int rows, int columns, int I, int O) {
    float sums[TILE][TILE][LANES] = {{{0}}};
    int whole = I - I % LANES;
    for (int i = 0; i < whole; i += LANES)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                for (int l = 0; l < LANES; l++)
                    sums[r][c][l] += x[(size_t) r * I + i + l] * w[(size_t) c * I + i + l];
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++) {
            float sum = bias ? bias[c] : 0.0f;
            for (int i = whole; i < I; i++) sum += x[(size_t) r * I + i] * w[(size_t) c * I + i];
            for (int l = 0; l < LANES; l++) sum += sums[r][c][l];
            out[(size_t) r * O + c] = sum;
        }
    }
}

// All rows of x against up to 4 rows of w.
static void column(float *out, const float *x, const float *w, const float *bias,
                             int columns, int N, int I, int O) {
    int n = 0;
    if (columns == TILE) {
        for (; n + TILE <= N; n += TILE) tile(out + (size_t) n * O, x + (size_t) n * I, w, bias, TILE, TILE, I, O);
        for (; n < N; n++) tile(out + (size_t) n * O, x + (size_t) n * I, w, bias, 1, TILE, I, O);
    }
    for (; n < N; n++)
        for (int c = 0; c < columns; c++)
            tile(out + (size_t) n * O + c, x + (size_t) n * I, w + (size_t) c * I, bias ? bias + c : NULL, 1, 1, I, O);
}

// x (N, I), w (O, I) as a checkpoint stores it, bias (O) or NULL  ->  out (N, O)
void linear(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    #pragma omp parallel for if ((size_t) N * I * O > SMALL)
    for (int o = 0; o < O; o += TILE) {
        column(out + o, x, w + (size_t) o * I, bias ? bias + o : NULL, O - o < TILE ? O - o : TILE, N, I, O);
    }
}
