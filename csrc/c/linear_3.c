// A matrix product in packed tiles, equation (linear): the weights are packed in the order of use.
//
// The loops, from the outside: blocks of rows and blocks of NC columns (which the threads divide), KC inputs of a
// block, which are packed once, panels of NR columns, and MR rows (gemm_tile.h).
#include "threads.h"

#include "gemm_tile.h"
#include "linear.h"

enum { MIN_ROWS_PER_BLOCK = 64, MAX_ROWS_PER_BLOCK = 512 };  // to be worth packing; for out to stay in the cache
enum { SERIAL_MAX_PRODUCTS = 1 << 20 };                      // fewer take less time than starting a thread

// out (N, O) = x (N, I) w (I, O) + bias, or out += x w
typedef struct {
    float *out;
    x_rows x;
    block_view w;
    const float *bias;
    int accumulate, N, I, O;
} gemm;

// out (N, columns) += x (N, depth) * panel (depth, NR), of which only the first `columns` columns are stored.
static void multiply_panel(const gemm *g, float *out, const float *x, const float *panel, int N, int columns, int depth,
                           prefetch_hint *prefetch) {
    ptrdiff_t row = g->x.row_stride, in = g->x.in_stride;
    if (columns >= NR) {
        if (in == 1) gemm_tile(out, g->O, x, row, panel, N, depth, prefetch);
        else gemm_tile_t(out, g->O, x, in, panel, N, depth, prefetch);
        return;
    }
    for (int n = 0; n < N; n += MR, out += (size_t) MR * g->O, x += MR * row) {
        float edge[MR * NR] = {0};
        int rows = min_int(N - n, MR);
        if (in == 1) gemm_tile(edge, NR, x, row, panel, rows, depth, prefetch);
        else gemm_tile_t(edge, NR, x, in, panel, rows, depth, prefetch);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) out[(size_t) r * g->O + c] += edge[r * NR + c];
    }
}

// Columns o to o + columns - 1 of rows n to n + N - 1.  The weights are packed once, KC inputs at a time, as floats in
// the order of use, and stay in the cache for all rows of x.
static void multiply_column_block(const gemm *g, int n, int N, int o, int columns) {
    float packed[NC / NR][KC * NR] __attribute__((aligned(64)));
    float *out = g->out + (size_t) n * g->O + o;
    const float *x = g->x.values + n * g->x.row_stride;
    int bytes = g->w.kind == F32 ? 4 : 2;
    for (int i = 0; i < g->I; i += KC) {
        int depth = min_int(g->I - i, KC);
        for (int c = 0; c < columns; c += NR) {
            block_view w = g->w;
            w.offset += i * w.in_stride + (o + c) * w.out_stride;
            pack_panel(packed[c / NR], w, depth, columns - c);
        }
        // If rows of w are far apart, the hardware does not prefetch the next KC of them.
        int is_far = g->w.out_stride == 1 && i + 2 * KC <= g->I;
        ptrdiff_t next = g->w.offset + o * g->w.out_stride + (i + KC) * g->w.in_stride;
        prefetch_hint prefetch = {(const char *) g->w.values + next * bytes, g->w.in_stride * bytes,
                                  is_far * columns * bytes / 64};
        for (int c = 0; c < columns; c += NR)
            multiply_panel(g, out + c, x + i * g->x.in_stride, packed[c / NR], N, columns - c, depth, &prefetch);
    }
}

// Up to NC columns from o on of up to `max_rows` rows from n on.
static void multiply_block(const gemm *g, int n, int max_rows, int o) {
    int rows = min_int(g->N - n, max_rows), columns = min_int(g->O - o, NC);
    float *out = g->out + (size_t) n * g->O + o;
    for (int r = 0; !g->accumulate && r < rows; r++)
        for (int c = 0; c < columns; c++) out[(size_t) r * g->O + c] = g->bias ? g->bias[o + c] : 0.0f;
    multiply_column_block(g, n, rows, o, columns);
}

// Blocks of rows and columns go to the threads.  A sum is never split between threads, so the result does not depend on
// their number.  Inside a parallel region, the calling thread computes the product alone: a nested region would cost
// more.
static void matmul_blocked(const gemm *g) {
    if (in_parallel() || (size_t) g->N * g->I * g->O <= SERIAL_MAX_PRODUCTS) {
        for (int n = 0; n < g->N; n += MAX_ROWS_PER_BLOCK)
            for (int o = 0; o < g->O; o += NC) multiply_block(g, n, MAX_ROWS_PER_BLOCK, o);
        return;
    }
    claimed_cpus cpus = {0};
    #pragma omp parallel
    {
        move_to_free_core(&cpus);
        // two blocks for each thread
        int64_t column_blocks = (g->O + NC - 1) / NC, blocks = 2 * thread_count();
        int64_t wanted = (g->N * column_blocks + blocks - 1) / blocks;
        int rows = wanted < MIN_ROWS_PER_BLOCK   ? MIN_ROWS_PER_BLOCK
                   : wanted > MAX_ROWS_PER_BLOCK ? MAX_ROWS_PER_BLOCK
                                                 : (int) wanted;
        rows = round_up(rows, MR);
        #pragma omp for schedule(dynamic) collapse(2)
        for (int n = 0; n < g->N; n += rows)
            for (int o = 0; o < g->O; o += NC) multiply_block(g, n, rows, o);
    }
}

void matmul_packed(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O) {
    block_view view = {w->values, w->kind, expert * w->expert_stride, w->in_stride, w->out_stride};
    matmul_blocked(&(gemm) {.out = out, .x = {x, I, 1}, .w = view, .bias = bias, .N = N, .I = I, .O = O});
}

void gemm_tn_accumulate(float *out, const float *x, const float *y, int N, int I, int O) {
    matmul_blocked(&(gemm) {.out = out, .x = {x, 1, I}, .w = rows_view(y, O), .accumulate = 1, .N = I, .I = N, .O = O});
}

void linear_3(float *out, const float *x, const float *w, const float *bias, int N, int I, int O) {
    matrix view = row_major(w, O);
    matmul_packed(out, x, &view, 0, bias, N, I, O);
}
