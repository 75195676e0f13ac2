// A matrix product in packed tiles, equation (linear): what a register tile needs lies together before it is needed.
#include "threads.h"

#include "linear.h"
#include "tile.h"

// out (N, columns) += x (N, depth) * panel, where the panel may be wider than what is left of out.
static void panel_of(float *out, const float *x, const float *panel, int N, int I, int O, int columns, int depth,
                     ahead *soon) {
    if (columns >= PANEL) {
        tile(out, O, x, I, panel, N, depth, soon);
        return;
    }
    for (int n = 0; n < N; n++, out += O, x += I) {
        float edge[PANEL] = {0};
        memcpy(edge, out, sizeof(float) * (size_t) columns);
        tile(edge, PANEL, x, I, panel, 1, depth, soon);
        memcpy(out, edge, sizeof(float) * (size_t) columns);
    }
}

// One stripe of up to WIDE columns for all rows.  Its weights are packed once, DEPTH inputs at a time, widened and in
// the order of use, and stay in the cache while every row of x passes by.
static void stripe(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias,
                   int N, int I, int O, int columns) {
    float packed[WIDE / PANEL][DEPTH * PANEL] __attribute__((aligned(64)));
    for (int n = 0; n < N; n++)
        for (int c = 0; c < columns; c++) out[(size_t) n * O + c] = bias ? bias[c] : 0.0f;
    for (int i = 0; i < I; i += DEPTH) {
        int depth = I - i < DEPTH ? I - i : DEPTH, bytes = w->kind == F32 ? 4 : 2;
        for (int c = 0; c < columns; c += PANEL)
            pack(packed[c / PANEL], w->values, w->kind, at + i * w->in + c * w->out, w->in, w->out, depth, columns - c);
        // Rows that lie far apart: the machine does not guess the next ones by itself.
        int far = w->out == 1 && i + 2 * DEPTH <= I;
        ahead soon = {(const char *) w->values + (at + (i + DEPTH) * w->in) * bytes, w->in * bytes, far * columns * bytes / 64};
        for (int c = 0; c < columns; c += PANEL)
            panel_of(out + c, x + i, packed[c / PANEL], N, I, O, columns - c, depth, &soon);
    }
}

// x (N, I), w (I, O) of plain numbers in any layout from element `at` on, bias (O) or NULL  ->  out (N, O)
void linear_packed(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias, int N, int I, int O) {
    taken cpus = {0};
    #pragma omp parallel if ((size_t) N * I * O > SMALL)
    {
        spread(&cpus);
        #pragma omp for schedule(dynamic)
        for (int o = 0; o < O; o += WIDE)
            stripe(out + o, x, w, at + o * w->out, bias ? bias + o : NULL, N, I, O, O - o < WIDE ? O - o : WIDE);
    }
}

void linear_3(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    matrix plain = {.values = w, .kind = F32, .in = O, .out = 1};
    linear_packed(out, x, &plain, 0, bias, N, I, O);
}
