// The gradients of a mixture of experts, equation (experts-backward): tokens sorted by expert, in passes.
//
// In a pass of a few thousand rows, every block of rows first goes forward and backward through its expert; then the
// weight gradients of each expert are computed from the saved rows.  Both steps have many small products: a thread
// computes whole products, unless there are too few for all threads.
#include "threads.h"

#include "activation.h"
#include "expert_order.h"
#include "linear.h"
#include "memory.h"
#include "row_ops.h"

enum { ROWS_PER_PASS = 4096 };  // sorted rows whose activations are saved
enum { ROWS_PER_BLOCK = 128 };  // rows that go through an expert together

typedef struct {
    const matrix *gate, *up, *down;
} expert_weights;

typedef struct {
    int N, C, D, E, F;
} moe_shape;

typedef struct {
    const float *dy, *x, *gate;           // (N, D), (N, D), (N, C)
    float *out_gate, *out_up, *out_down;  // gradients of the weights
} moe_arrays;

// Saved by sorted rows for the gradients of the weights: inputs of the three products, gradients of their outputs.
typedef struct {
    float *x, *dy;                          // (rows, D): x is times its gate
    float *hidden, *d_gate_pre, *d_up_pre;  // (rows, F)
} activations;

static activations activations_in(arena *a, size_t rows, int D, int F) {
    return (activations) {
        .x = carve_floats(a, rows * D),
        .dy = carve_floats(a, rows * D),
        .hidden = carve_floats(a, rows * F),
        .d_gate_pre = carve_floats(a, rows * F),
        .d_up_pre = carve_floats(a, rows * F),
    };
}
static activations from_row(activations s, size_t row, const moe_shape *n) {
    size_t d = row * n->D, f = row * n->F;
    return (activations) {s.x + d, s.dy + d, s.hidden + f, s.d_gate_pre + f, s.d_up_pre + f};
}

typedef struct {
    expert_order sorted;
    activations saved;  // of a pass
    float *dx;          // (N * C, D): gradient of each choice's input, which is x times the gate
    float *scratch;     // (threads, scratch_floats): allocated once: page faults cost more than a block's products
} workspace;

static size_t scratch_floats(const moe_shape *n) { return ROWS_PER_BLOCK * ((size_t) n->F + 2 * (size_t) n->D); }

static workspace workspace_in(arena *a, const moe_shape *n) {
    int choices = n->N * n->C;
    return (workspace) {
        .sorted = expert_order_in(a, choices, n->E),
        .saved = activations_in(a, (size_t) min_int(choices, ROWS_PER_PASS), n->D, n->F),
        .dx = carve_floats(a, (size_t) choices * n->D),
        .scratch = carve_floats(a, scratch_floats(n) * (size_t) max_threads()),
    };
}

// hidden, d_gate_pre and d_up_pre from d_hidden, a vector at a time; the latter two hold gate and up at first
static void swiglu_both_ways(activations s, const float *d_hidden, size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        vec gate = load_at(s.d_gate_pre, i, n), up = load_at(s.d_up_pre, i, n), dy = load_at(d_hidden, i, n);
        vec sigmoid = sigmoid_vec(gate);
        store_at(s.hidden, i, n, gate * sigmoid * up);
        store_at(s.d_gate_pre, i, n, dswiglu_dgate(dy, gate, up, sigmoid));
        store_at(s.d_up_pre, i, n, dy * gate * sigmoid);
    }
}

// `rows` choices, all of expert e.
typedef struct {
    const int *choice;
    int e, rows;
} expert_rows;

// Some rows forward and backward through their expert  ->  saved (rows), dx (N * C, D) in these rows
static void backward_block(float *dx, activations saved, float *scratch, const moe_arrays *m, const expert_weights *w,
                           const moe_shape *n, expert_rows b) {
    int D = n->D, F = n->F, e = b.e, rows = b.rows;
    float *d_hidden = scratch, *dx_gate = d_hidden + (size_t) rows * F, *dx_up = dx_gate + (size_t) rows * D;
    matrix gate_t = transposed(w->gate), up_t = transposed(w->up), down_t = transposed(w->down);
    // x (rows, D): the chosen tokens times their gates, dy (rows, D)
    for (int r = 0; r < rows; r++) {
        size_t token = (size_t) (b.choice[r] / n->C) * D;
        for (int d = 0; d < D; d++) saved.x[(size_t) r * D + d] = m->x[token + d] * m->gate[b.choice[r]];
        memcpy(saved.dy + (size_t) r * D, m->dy + token, sizeof(float) * (size_t) D);
    }
    // forward: gate (rows, F) = x W_gate, up (rows, F) = x W_up, and d_hidden (rows, F) = dy W_down^T
    matmul_packed(saved.d_gate_pre, saved.x, w->gate, e, NULL, rows, D, F);
    matmul_packed(saved.d_up_pre, saved.x, w->up, e, NULL, rows, D, F);
    matmul_packed(d_hidden, saved.dy, &down_t, e, NULL, rows, D, F);
    swiglu_both_ways(saved, d_hidden, (size_t) rows * F);
    // dx (rows, D) = d_gate W_gate^T + d_up W_up^T
    matmul_packed(dx_gate, saved.d_gate_pre, &gate_t, e, NULL, rows, F, D);
    matmul_packed(dx_up, saved.d_up_pre, &up_t, e, NULL, rows, F, D);
    for (int r = 0; r < rows; r++)
        for (int d = 0; d < D; d++)
            dx[(size_t) b.choice[r] * D + d] = dx_gate[(size_t) r * D + d] + dx_up[(size_t) r * D + d];
}

// The sorted rows begin to end - 1 through their experts, a block at a time  ->  t->saved, t->dx
static void backward_rows(const workspace *t, const moe_arrays *m, const expert_weights *w, const moe_shape *n,
                          int begin, int end) {
    const expert_order *s = &t->sorted;
    int blocks = 0;
    for (int e = 0; e < n->E; e++) blocks += (run_length(s, e, begin, end) + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK;
    claimed_cpus cpus = {0};
    #pragma omp parallel if (blocks > 1 && (size_t) (end - begin) * n->D * n->F > PARALLEL_MIN)
    {
        move_to_free_core(&cpus);
        float *scratch = t->scratch + scratch_floats(n) * (size_t) thread_index();
        #pragma omp for schedule(dynamic) collapse(2)
        for (int e = 0; e < n->E; e++)
            for (int i = 0; i < ROWS_PER_PASS; i += ROWS_PER_BLOCK) {
                int at = run_begin(s, e, begin) + i, rows = run_length(s, e, begin, end) - i;
                if (rows <= 0) continue;
                expert_rows block = {s->order + at, e, min_int(rows, ROWS_PER_BLOCK)};
                backward_block(t->dx, from_row(t->saved, (size_t) (at - begin), n), scratch, m, w, n, block);
            }
    }
}

// Add the gradients of the sorted rows begin to end - 1 to the weight gradients of their experts.
static void add_weight_gradients(const workspace *t, const moe_arrays *m, const moe_shape *n, int begin, int end) {
    const expert_order *s = &t->sorted;
    int D = n->D, F = n->F;
    #pragma omp parallel for schedule(dynamic) collapse(2) if ((size_t) (end - begin) * D * F > PARALLEL_MIN)
    for (int e = 0; e < n->E; e++)
        for (int product = 0; product < 3; product++) {
            int rows = run_length(s, e, begin, end);
            if (rows <= 0) continue;
            activations saved = from_row(t->saved, (size_t) (run_begin(s, e, begin) - begin), n);
            size_t w = (size_t) e * D * F;
            if (product == 0) gemm_tn_accumulate(m->out_gate + w, saved.x, saved.d_gate_pre, rows, D, F);
            if (product == 1) gemm_tn_accumulate(m->out_up + w, saved.x, saved.d_up_pre, rows, D, F);
            if (product == 2) gemm_tn_accumulate(m->out_down + w, saved.hidden, saved.dy, rows, F, D);
        }
}

// dx of every choice  ->  out_x (N, D), the sum over a token's choices, and out_gate (N, C)
static void combine_choices(float *out_x, float *out_gate, const float *dx, const float *x, const float *gate,
                            const moe_shape *n) {
    int C = n->C, D = n->D;
    #pragma omp parallel for if ((size_t) n->N * C * D > PARALLEL_MIN)
    for (int t = 0; t < n->N; t++) {
        float *sum = out_x + (size_t) t * D;
        memset(sum, 0, sizeof(float) * (size_t) D);
        for (int i = t * C; i < (t + 1) * C; i++) {
            const float *dx_i = dx + (size_t) i * D;
            out_gate[i] = (float) dot(dx_i, x + (size_t) t * D, D);
            for (int d = 0; d < D; d++) sum[d] += dx_i[d] * gate[i];
        }
    }
}

// dy and x (N, D), expert and gate (N, C), w_gate and w_up (E, D, F), w_down (E, F, D), not quantized  ->  a gradient
// of each except `expert`
void experts_backward(float *out_x, float *out_gate, float *out_w_gate, float *out_w_up, float *out_w_down,
                      const float *dy, const float *x, const int64_t *expert, const float *gate, const matrix *w_gate,
                      const matrix *w_up, const matrix *w_down, int N, int C, int D, int E, int F) {
    moe_shape n = {N, C, D, E, F};
    expert_weights w = {w_gate, w_up, w_down};
    moe_arrays m = {dy, x, gate, out_w_gate, out_w_up, out_w_down};
    arena count = {0};
    workspace_in(&count, &n);
    arena memory = allocate(count.used);
    if (!memory.base) return;
    workspace t = workspace_in(&memory, &n);
    sort_by_expert(&t.sorted, expert, N * C, E);
    size_t bytes = sizeof(float) * (size_t) E * D * F;
    memset(out_w_gate, 0, bytes), memset(out_w_up, 0, bytes), memset(out_w_down, 0, bytes);
    for (int begin = 0; begin < N * C; begin += ROWS_PER_PASS) {
        int end = begin + min_int(N * C - begin, ROWS_PER_PASS);
        backward_rows(&t, &m, &w, &n, begin, end);
        add_weight_gradients(&t, &m, &n, begin, end);
    }
    combine_choices(out_x, out_gate, t.dx, x, gate, &n);
    release(&memory);
}
