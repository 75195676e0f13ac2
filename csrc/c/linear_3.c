// A matrix product in packed tiles, equation (linear): what a register tile needs lies together before it is needed.
#include "tile.h"

// One stripe of up to WIDE columns for all rows.  Its weights are packed once, DEPTH inputs at a time, widened and in
// the order of use, and stay in the cache while every row of x passes by.
static void stripe(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias,
                   int N, int I, int O, int columns) {
    float packed[WIDE / PANEL][DEPTH * PANEL] __attribute__((aligned(64)));
    for (int n = 0; n < N; n++)
        for (int c = 0; c < columns; c++) out[(size_t) n * O + c] = bias ? bias[c] : 0.0f;
    for (int i = 0; i < I; i += DEPTH) {
        int depth = I - i < DEPTH ? I - i : DEPTH;
        for (int c = 0; c < columns; c += PANEL)
            pack(packed[c / PANEL], w->values, w->kind, at + i * w->in_ + c * w->out, w->in_, w->out, depth, columns - c);
        for (int n = 0; n < N; n += ROWS) {
            int rows = N - n < ROWS ? N - n : ROWS;
            for (int c = 0; c < columns; c += PANEL) {
                float *y = out + (size_t) n * O + c;
                const float *x_n = x + (size_t) n * I + i;
                if (columns - c >= PANEL) {
                    tile(y, O, x_n, I, packed[c / PANEL], rows, depth);
                    continue;
                }
                float edge[ROWS * PANEL] = {0};                     // the last panel may be wider than what is left
                for (int r = 0; r < rows; r++) memcpy(edge + r * PANEL, y + (size_t) r * O, 4 * (size_t) (columns - c));
                tile(edge, PANEL, x_n, I, packed[c / PANEL], rows, depth);
                for (int r = 0; r < rows; r++) memcpy(y + (size_t) r * O, edge + r * PANEL, 4 * (size_t) (columns - c));
            }
        }
    }
}

// x (N, I), w (I, O) of plain numbers in any layout from element `at` on, bias (O) or NULL  ->  out (N, O)
void linear_packed(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias, int N, int I, int O) {
    #pragma omp parallel for schedule(dynamic) if ((size_t) N * I * O > SMALL)
    for (int o = 0; o < O; o += WIDE)
        stripe(out + o, x, w, at + o * w->out, bias ? bias + o : NULL, N, I, O, O - o < WIDE ? O - o : WIDE);
}

void linear_3(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    matrix plain = {.values = w, .kind = F32, .in_ = O, .out = 1};
    linear_packed(out, x, &plain, 0, bias, N, I, O);
}
