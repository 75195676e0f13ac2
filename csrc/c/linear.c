// A matrix product with weights in any format, equation (linear): the fastest method depends on the number of rows.
#include "threads.h"

#include "linear.h"
#include "matvec.h"
#include "memory.h"
#include "work_claim.h"

enum { ROWS_PER_TILE_PASS = 64 };          // rows of x that use a quantized tile while it is in the cache
enum { ROWS_PER_QUANTIZED_BLOCK = 1024 };  // rows of x that are quantized at a time: bounds the memory
enum { COLUMNS_PER_TASK = 4 * TILE_COLUMNS };

NOINLINE void multiply_quantized(const matvec *p, range outputs) { q_matmul_range(p, outputs); }
NOINLINE void multiply_plain(const matvec *p, range outputs) { matvec_range(p, outputs); }

// The first `rows` rows of p.x, which are already quantized, times all tiles, which the threads of the region divide.
static void multiply_tiles(matvec p, int rows) {
    #pragma omp for schedule(dynamic)
    for (int o = 0; o < p.O; o += COLUMNS_PER_TASK)
        for (int r = 0; r < rows; r += ROWS_PER_TILE_PASS) {
            matvec part = p;
            part.out += (size_t) r * p.O, part.x_q8 += r, part.N = min_int(rows - r, ROWS_PER_TILE_PASS);
            multiply_quantized(&part, (range) {o, min_int(o + COLUMNS_PER_TASK, p.O)});
        }
}

// Quantized weights: rows of x are quantized to int8 as well, then the threads divide the tiles of columns.
static void matmul_quantized(matvec p) {
    int block = min_int(p.N, ROWS_PER_QUANTIZED_BLOCK);
    arena memory = allocate(q8_rows_bytes(block, p.I));
    if (!memory.base) return;
    q8_row *quantized = q8_rows_in(&memory, block, p.I);
    claimed_cpus cpus = {0};
    #pragma omp parallel if ((size_t) p.N * p.I * p.O > PARALLEL_MIN)
    {
        move_to_free_core(&cpus);
        for (int n = 0; n < p.N; n += ROWS_PER_QUANTIZED_BLOCK) {
            int rows = min_int(p.N - n, ROWS_PER_QUANTIZED_BLOCK);
            #pragma omp for
            for (int r = 0; r < rows; r++) quantize_row_q8(&quantized[r], p.x + (size_t) (n + r) * p.I, p.I);
            matvec part = p;
            part.out += (size_t) n * p.O, part.x_q8 = quantized;
            multiply_tiles(part, rows);
        }
    }
    release(&memory);
}

// A few rows and unquantized weights: the threads claim outputs.
static void matmul_small_batch(const matvec *p) {
    claimed_cpus cpus = {0};
    atomic_int claimed = 0;
    #pragma omp parallel if ((size_t) p->N * p->I * p->O > PARALLEL_MIN)
    {
        move_to_free_core(&cpus);
        for (range r; claim_outputs(&claimed, p->w, p->I, p->O, &r);) multiply_plain(p, r);
    }
}

void matmul(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O) {
    matvec p = {.out = out, .x = x, .w = w, .expert = expert, .N = N, .I = I, .O = O};
    if (w->scales) matmul_quantized(p);
    else if (N > MATVEC_MAX_ROWS || !is_streamable(w)) {
        matmul_packed(out, x, w, expert, bias, N, I, O);
        return;
    } else matmul_small_batch(&p);
    for (int n = 0; bias && n < N; n++)
        for (int o = 0; o < O; o++) out[(size_t) n * O + o] += bias[o];
}

// x (N, I), w (I, O) in any format, bias (O) or NULL  ->  out (N, O)
void linear(float *out, const float *x, const matrix *w, const float *bias, int N, int I, int O) {
    matmul(out, x, w, 0, bias, N, I, O);
}
