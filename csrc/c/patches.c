// Patches, equations (patchify) and (pixel-shuffle): runs of memory are copied in another order.
#include "simd.h"

// tiles (B, C, h, w) of R rows and S columns of patches  ->  out (B, R * S, C * patch * patch)
void patchify(float *out, const float *tiles, int patch, int B, int C, int R, int S) {
    size_t run = (size_t) patch, square = run * run, w = run * S;
    #pragma omp parallel for collapse(2) if ((size_t) B * C * R * S * square > PARALLEL_MIN)
    for (int b = 0; b < B; b++) {
        for (int r = 0; r < R; r++) {
            float *to = out + ((size_t) b * R + r) * S * C * square;
            for (int s = 0; s < S; s++) {
                for (int c = 0; c < C; c++) {
                    const float *from = tiles + (((size_t) b * C + c) * R + r) * run * w + s * run;
                    for (size_t i = 0; i < run; i++, to += run) memcpy(to, from + i * w, sizeof(float) * run);
                }
            }
        }
    }
}

// x (B, P, D) on a grid of R * side by R * side  ->  out (B, R * R, side * side * D)
void pixel_shuffle(float *out, const float *x, int side, int B, int R, int D) {
    size_t run = (size_t) side * D, row = run * R;  // elements in a row of one token's square, and of the grid
    #pragma omp parallel for collapse(2) if ((size_t) B * R * side * row > PARALLEL_MIN)
    for (int b = 0; b < B; b++) {
        for (int r = 0; r < R; r++) {
            const float *from = x + ((size_t) b * R + r) * side * row;
            float *to = out + ((size_t) b * R + r) * side * row;
            for (int s = 0; s < R; s++)
                for (int i = 0; i < side; i++, to += run) memcpy(to, from + i * row + s * run, sizeof(float) * run);
        }
    }
}
