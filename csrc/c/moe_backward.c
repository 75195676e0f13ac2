// The gradients of a mixture of experts, equation (experts-backward): tokens sorted by expert, some thousand at a time.
//
// First every block of rows goes through its expert forth and back; then each expert's weights collect what their rows
// left.  Either step has many small products: a thread takes whole ones, unless there are too few for all threads.
#include "threads.h"


#include "activation.h"
#include "linear.h"
#include "memory.h"
#include "row.h"
#include "sorted.h"

enum { AT_ONCE = 4096, BLOCK = 128 };       // sorted rows whose hidden numbers are kept; rows that go through together

// What some sorted rows leave for the weights: inputs and what comes down to outputs of the three products.
typedef struct {
    float *mine, *dy;                       // (AT_ONCE, D)
    float *hidden, *d_opened, *d_up;        // (AT_ONCE, F)
} kept;
static kept kept_in(arena *a, size_t rows, int D, int F) {
    return (kept) {
        .mine = carve_floats(a, rows * D),
        .dy = carve_floats(a, rows * D),
        .hidden = carve_floats(a, rows * F),
        .d_opened = carve_floats(a, rows * F),
        .d_up = carve_floats(a, rows * F),
    };
}

// All that a call needs, with scratch for each thread.
typedef struct {
    sorted sorted;
    kept kept;
    float *d_mine;              // (N * C, D)
    float *scratch;             // (threads, SCRATCH floats)
    size_t per_thread;
} work;
static work work_in(arena *a, int choices, int D, int E, int F) {
    work w = {.per_thread = BLOCK * ((size_t) F + 2 * (size_t) D)};
    w.sorted = sorted_in(a, choices, E);
    w.kept = kept_in(a, choices < AT_ONCE ? choices : AT_ONCE, D, F);
    w.d_mine = carve_floats(a, (size_t) choices * D);
    w.scratch = carve_floats(a, w.per_thread * most_threads());
    return w;
}

// Sorted rows `at` to at + rows - 1, all of expert e  ->  kept, from row `place` on, and d_mine (N * C, D) in its rows
static void block(float *d_mine, kept k, float *scratch, const float *dy, const float *x, const float *gate, const int *order,
                  int place, const matrix *w_gate, const matrix *w_up, const matrix *w_down, int e, int rows, int C, int D,
                  int F) {
    size_t n = (size_t) rows * F;
    float *d_hidden = scratch, *by_gate = d_hidden + n, *by_up = by_gate + (size_t) rows * D;
    matrix gate_back = turned(w_gate), up_back = turned(w_up), down_back = turned(w_down);
    k.mine += (size_t) place * D, k.dy += (size_t) place * D;
    k.hidden += (size_t) place * F, k.d_opened += (size_t) place * F, k.d_up += (size_t) place * F;
    for (int r = 0; r < rows; r++) {
        size_t token = (size_t) (order[r] / C) * D;
        for (int d = 0; d < D; d++) k.mine[(size_t) r * D + d] = x[token + d] * gate[order[r]];
        memcpy(k.dy + (size_t) r * D, dy + token, sizeof(float) * (size_t) D);
    }
    linear_packed(k.d_opened, k.mine, w_gate, e * w_gate->expert, NULL, rows, D, F);        // opened and up, so far
    linear_packed(k.d_up, k.mine, w_up, e * w_up->expert, NULL, rows, D, F);
    linear_packed(d_hidden, k.dy, &down_back, e * w_down->expert, NULL, rows, D, F);
    for (size_t i = 0; i < n; i += LANES) {
        vec g = read_at(k.d_opened, i, n), up = read_at(k.d_up, i, n), open = sigmoid_of(g), down = read_at(d_hidden, i, n);
        write_at(k.hidden, i, n, g * open * up);
        write_at(k.d_opened, i, n, swiglu_slope(down, g, up, open));
        write_at(k.d_up, i, n, down * g * open);
    }
    linear_packed(by_gate, k.d_opened, &gate_back, e * w_gate->expert, NULL, rows, F, D);
    linear_packed(by_up, k.d_up, &up_back, e * w_up->expert, NULL, rows, F, D);
    for (int r = 0; r < rows; r++)
        for (int d = 0; d < D; d++) d_mine[(size_t) order[r] * D + d] = by_gate[(size_t) r * D + d] + by_up[(size_t) r * D + d];
}

// The sorted rows from `begin` to end - 1: what they leave, and from it what the weights of their experts gain.
static void pass(const work *t, float *out_w_gate, float *out_w_up, float *out_w_down, const float *dy, const float *x,
                 const float *gate, const matrix *w_gate, const matrix *w_up, const matrix *w_down,
                 int begin, int end, int C, int D, int E, int F) {
    const sorted *s = &t->sorted;
    kept k = t->kept;
    int blocks = 0;
    for (int e = 0; e < E; e++) blocks += (rows_between(s, e, begin, end) + BLOCK - 1) / BLOCK;
    taken cpus = {0};
    #pragma omp parallel if (blocks > 1 && (size_t) (end - begin) * D * F > SMALL)
    {
        spread(&cpus);
        float *scratch = t->scratch + t->per_thread * thread();
        #pragma omp for schedule(dynamic) collapse(2)
        for (int e = 0; e < E; e++)
            for (int n = 0; n < AT_ONCE; n += BLOCK) {
                int at = first_between(s, e, begin), rows = rows_between(s, e, begin, end) - n;
                if (rows <= 0) continue;
                block(t->d_mine, k, scratch, dy, x, gate, s->order + at + n, at + n - begin, w_gate, w_up, w_down, e,
                      rows < BLOCK ? rows : BLOCK, C, D, F);
            }
    }
    #pragma omp parallel for schedule(dynamic) collapse(2) if ((size_t) (end - begin) * D * F > SMALL)
    for (int e = 0; e < E; e++)
        for (int which = 0; which < 3; which++) {
            int at = first_between(s, e, begin) - begin, rows = rows_between(s, e, begin, end);
            const float *mine = k.mine + (size_t) at * D;
            size_t w = (size_t) e * D * F, f = (size_t) at * F;
            if (rows <= 0) continue;
            if (which == 0) turned_product(out_w_gate + w, mine, k.d_opened + f, rows, D, F);
            if (which == 1) turned_product(out_w_up + w, mine, k.d_up + f, rows, D, F);
            if (which == 2) turned_product(out_w_down + w, k.hidden + f, k.dy + (size_t) at * D, rows, F, D);
        }
}

// dy and x (N, D), expert and gate (N, C), w_gate and w_up (E, D, F), w_down (E, F, D) of plain numbers  ->  one of each,
// but none for `expert`
void experts_backward(float *out_x, float *out_gate, float *out_w_gate, float *out_w_up, float *out_w_down, const float *dy,
                      const float *x, const int64_t *expert, const float *gate, const matrix *w_gate, const matrix *w_up,
                      const matrix *w_down, int N, int C, int D, int E, int F) {
    arena count = {0};
    work_in(&count, N * C, D, E, F);
    arena memory = allocate(count.used);
    if (!memory.base) return;
    work t = work_in(&memory, N * C, D, E, F);
    sort_by_expert(&t.sorted, expert, N * C, E);
    size_t weights = sizeof(float) * (size_t) E * D * F;
    memset(out_w_gate, 0, weights), memset(out_w_up, 0, weights), memset(out_w_down, 0, weights);
    for (int at = 0; at < N * C; at += AT_ONCE)
        pass(&t, out_w_gate, out_w_up, out_w_down, dy, x, gate, w_gate, w_up, w_down,
             at, N * C - at < AT_ONCE ? N * C : at + AT_ONCE, C, D, E, F);
    #pragma omp parallel for if ((size_t) N * C * D > SMALL)
    for (int n = 0; n < N; n++) {
        float *dx = out_x + (size_t) n * D;
        memset(dx, 0, sizeof(float) * (size_t) D);
        for (int i = n * C; i < (n + 1) * C; i++) {
            const float *back = t.d_mine + (size_t) i * D;
            out_gate[i] = (float) dot(back, x + (size_t) n * D, D);
            for (int d = 0; d < D; d++) dx[d] += back[d] * gate[i];
        }
    }
    release(&memory);
}
