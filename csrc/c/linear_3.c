// A matrix product in packed tiles, equation (linear): what a register tile needs lies together before it is needed.
#include "tile.h"

// out (N, columns) += x (N, depth) * panel, where the panel may be wider than what is left of out.
static void panel_of(float *out, const float *x, const float *panel, int N, int I, int O, int columns, int depth) {
    if (columns >= PANEL) {
        tile(out, O, x, I, panel, N, depth);
        return;
    }
    for (int n = 0; n < N; n++, out += O, x += I) {
        float edge[PANEL] = {0};
        memcpy(edge, out, sizeof(float) * (size_t) columns);
        tile(edge, PANEL, x, I, panel, 1, depth);
        memcpy(out, edge, sizeof(float) * (size_t) columns);
    }
}

// Asks for the rows first to last - 1 of a stripe, so that they come from memory while something else is computed.
static void fetch(const matrix *w, ptrdiff_t at, int first, int last, int columns) {
    int bytes = w->kind == F32 ? 4 : 2;
    for (int i = first; i < last; i++)
        for (int c = 0; c < columns * bytes; c += 64)
            __builtin_prefetch((const char *) w->values + (at + i * w->in) * bytes + c, 0, 2);
}

// One stripe of up to WIDE columns for all rows.  Its weights are packed once, DEPTH inputs at a time, widened and in
// the order of use, and stay in the cache while every row of x passes by.
static void stripe(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias,
                   int N, int I, int O, int columns) {
    float packed[WIDE / PANEL][DEPTH * PANEL] __attribute__((aligned(64)));
    for (int n = 0; n < N; n++)
        for (int c = 0; c < columns; c++) out[(size_t) n * O + c] = bias ? bias[c] : 0.0f;
    for (int i = 0; i < I; i += DEPTH) {
        int depth = I - i < DEPTH ? I - i : DEPTH, next = I - i - depth < DEPTH ? I - i - depth : DEPTH;
        for (int c = 0; c < columns; c += PANEL)
            pack(packed[c / PANEL], w->values, w->kind, at + i * w->in + c * w->out, w->in, w->out, depth, columns - c);
        for (int c = 0; c < columns; c += PANEL) {
            if (w->out == 1)                        // rows that lie far apart: the machine does not guess the next
                fetch(w, at, i + depth + next * c / columns, i + depth + next * (c + PANEL) / columns, columns);
            panel_of(out + c, x + i, packed[c / PANEL], N, I, O, columns - c, depth);
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
    matrix plain = {.values = w, .kind = F32, .in = O, .out = 1};
    linear_packed(out, x, &plain, 0, bias, N, I, O);
}
