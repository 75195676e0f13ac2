// A matrix product in packed tiles, equation (linear): what a register tile needs lies together before it is needed.
#include "threads.h"

#include "linear.h"
#include "tile.h"

enum { FEWEST = 64, MOST = 512 };       // rows that share what was packed: enough to be worth it; out stays in the cache
enum { ALONE = 1 << 20 };               // fewer products than this are done before a second thread has woken up

// out (N, columns) += x (N, depth) * panel, where the panel may be wider than what is left of out.
static void panel_of(float *out, const float *x, ptrdiff_t x_row, ptrdiff_t x_in, const float *panel, int N, int O,
                     int columns, int depth, ahead *soon) {
    if (columns >= PANEL) {
        if (x_in == 1) tile(out, O, x, x_row, panel, N, depth, soon);
        else tile_turned(out, O, x, x_in, panel, N, depth, soon);
        return;
    }
    for (int n = 0; n < N; n += ROWS, out += (size_t) ROWS * O, x += ROWS * x_row) {
        float edge[ROWS * PANEL] = {0};
        int rows = N - n < ROWS ? N - n : ROWS;
        if (x_in == 1) tile(edge, PANEL, x, x_row, panel, rows, depth, soon);
        else tile_turned(edge, PANEL, x, x_in, panel, rows, depth, soon);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) out[(size_t) r * O + c] += edge[r * PANEL + c];
    }
}

// One stripe of up to WIDE columns for N rows.  Its weights are packed once, DEPTH inputs at a time, widened and in
// the order of use, and stay in the cache while every row of x passes by.
static void stripe(float *out, const float *x, ptrdiff_t x_row, ptrdiff_t x_in, const matrix *w, ptrdiff_t at,
                   int N, int I, int O, int columns) {
    float packed[WIDE / PANEL][DEPTH * PANEL] __attribute__((aligned(64)));
    for (int i = 0; i < I; i += DEPTH) {
        int depth = I - i < DEPTH ? I - i : DEPTH, bytes = w->kind == F32 ? 4 : 2;
        for (int c = 0; c < columns; c += PANEL)
            pack(packed[c / PANEL], w->values, w->kind, at + i * w->in + c * w->out, w->in, w->out, depth, columns - c);
        // Rows that lie far apart: the machine does not guess the next ones by itself.
        int far = w->out == 1 && i + 2 * DEPTH <= I;
        ahead soon = {(const char *) w->values + (at + (i + DEPTH) * w->in) * bytes, w->in * bytes, far * columns * bytes / 64};
        for (int c = 0; c < columns; c += PANEL)
            panel_of(out + c, x + i * x_in, x_row, x_in, packed[c / PANEL], N, O, columns - c, depth, &soon);
    }
}

// Up to WIDE columns from o on of up to `rows` rows from n on, in an out that holds sums already where there is `more`.
static void piece(float *out, const float *x, ptrdiff_t x_row, ptrdiff_t x_in, const matrix *w, ptrdiff_t at,
                  const float *bias, int more, int n, int rows, int o, int N, int I, int O) {
    int some = N - n < rows ? N - n : rows, columns = O - o < WIDE ? O - o : WIDE;
    float *y = out + (size_t) n * O + o;
    for (int r = 0; !more && r < some; r++)
        for (int c = 0; c < columns; c++) y[(size_t) r * O + c] = bias ? bias[o + c] : 0.0f;
    stripe(y, x + n * x_row, x_row, x_in, w, at + o * w->out, some, I, O, columns);
}

// Stripes of columns and pieces of rows go to the threads.  Sums are never cut: the result does not depend on who computes.
// Who is one of several threads already takes all of it alone: a region within a region costs more than a small product.
static void in_stripes(float *out, const float *x, ptrdiff_t x_row, ptrdiff_t x_in, const matrix *w, ptrdiff_t at,
                       const float *bias, int more, int N, int I, int O) {
    if (among_threads() || (size_t) N * I * O <= ALONE) {
        for (int n = 0; n < N; n += MOST)
            for (int o = 0; o < O; o += WIDE) piece(out, x, x_row, x_in, w, at, bias, more, n, MOST, o, N, I, O);
        return;
    }
    taken cpus = {0};
    #pragma omp parallel
    {
        spread(&cpus);
        int64_t enough = ((int64_t) N * ((O + WIDE - 1) / WIDE) + 2 * threads() - 1) / (2 * threads());
        int rows = enough < FEWEST ? FEWEST : enough > MOST ? MOST : (int) enough;
        rows = (rows + ROWS - 1) / ROWS * ROWS;
        #pragma omp for schedule(dynamic) collapse(2)
        for (int n = 0; n < N; n += rows)
            for (int o = 0; o < O; o += WIDE) piece(out, x, x_row, x_in, w, at, bias, more, n, rows, o, N, I, O);
    }
}

void linear_packed(float *out, const float *x, const matrix *w, ptrdiff_t at, const float *bias, int N, int I, int O) {
    in_stripes(out, x, I, 1, w, at, bias, 0, N, I, O);
}

void turned_product(float *out, const float *x, const float *y, int N, int I, int O) {
    matrix plain = {.values = y, .kind = F32, .in = O, .out = 1};
    in_stripes(out, x, 1, I, &plain, 0, NULL, 1, I, N, O);
}

void linear_3(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    matrix plain = {.values = w, .kind = F32, .in = O, .out = 1};
    linear_packed(out, x, &plain, 0, bias, N, I, O);
}
