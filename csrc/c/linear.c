// A matrix product with weights in any form, equation (linear): what is fastest depends on the rows of x.
#include "threads.h"

#include "linear.h"
#include "rows.h"

enum { AT_ONCE = 64, PIECE = 1024 };       // rows of x that pass a tile of few bits together; that are in bytes together

// Weights in bits: rows of x become bytes, then tiles of columns go to the threads.
static void product_of_bits(float *out, const float *x, const matrix *w, int expert, int N, int I, int O) {
    int rows = N < PIECE ? N : PIECE;
    arena count = {0};
    few_in(&count, I);
    arena memory = allocate((sizeof(few) + count.used) * (size_t) rows);
    if (!memory.base) return;
    few *bytes = carve(&memory, sizeof(few) * (size_t) rows);
    for (int r = 0; r < rows; r++) bytes[r] = few_in(&memory, I);
    taken cpus = {0};
    #pragma omp parallel if ((size_t) N * I * O > SMALL)
    {
        spread(&cpus);
        for (int n = 0; n < N; n += PIECE) {
            int some = N - n < PIECE ? N - n : PIECE;
            #pragma omp for
            for (int r = 0; r < some; r++) to_bytes(&bytes[r], x + (size_t) (n + r) * I, I, 0, I / GROUP);
            #pragma omp for schedule(dynamic)
            for (int tile = 0; tile < O / COLUMNS; tile += 4)
                for (int r = 0; r < some; r += AT_ONCE)
                    few_product(out + (size_t) (n + r) * O, bytes + r, w, expert, some - r < AT_ONCE ? some - r : AT_ONCE,
                                I, O, tile, O / COLUMNS < tile + 4 ? O / COLUMNS : tile + 4);
        }
    }
    release(&memory);
}

void product(float *out, const float *x, const matrix *w, int expert, const float *bias, int N, int I, int O) {
    if (!w->scales && (N >= FEW || !readable(w))) {
        linear_packed(out, x, w, expert * w->expert, bias, N, I, O);
        return;
    }
    if (w->scales) product_of_bits(out, x, w, expert, N, I, O);
    else {
        taken cpus = {0};
        atomic_int next = 0;
        #pragma omp parallel if ((size_t) N * I * O > SMALL)
        {
            spread(&cpus);
            for (int first, last; take(&next, w, I, O, &first, &last);)
                few_rows(out, x, NULL, w, expert, N, I, O, first, last);
        }
    }
    for (int n = 0; bias && n < N; n++)
        for (int o = 0; o < O; o++) out[(size_t) n * O + o] += bias[o];
}

// x (N, I), w (I, O) in any form, bias (O) or NULL  ->  out (N, O)
void linear(float *out, const float *x, const matrix *w, const float *bias, int N, int I, int O) {
    product(out, x, w, 0, bias, N, I, O);
}
