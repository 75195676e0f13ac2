// A step of Muon, equations (muon) and (newton-schulz): each thread updates whole matrices of a stack.
#include "threads.h"

#include <math.h>

#include "linear.h"
#include "memory.h"
#include "row_ops.h"

enum { NEWTON_SCHULZ_STEPS = 5 };

// For one matrix of S x L elements, S <= L: w (I, O) or its transpose, whichever has fewer rows.
typedef struct {
    float *x, *tmp;              // (S, L)
    float *square, *polynomial;  // (S, S)
} workspace;

static workspace workspace_in(arena *a, int I, int O) {
    size_t S = I < O ? I : O, L = I < O ? O : I;
    return (workspace) {carve_floats(a, S * L), carve_floats(a, S * L), carve_floats(a, S * S), carve_floats(a, S * S)};
}

typedef struct {
    double lr, momentum, decay;
    int I, O;
} step_sizes;

// w->x (S, L) becomes a matrix with the same singular vectors and singular values of about one.
static void orthogonalize(const workspace *w, int S, int L) {
    const float a = 3.4445f, b = -4.7750f, c = 2.0315f;  // of x, x^3, x^5, as in the reference
    float *x = w->x;
    size_t n_small = (size_t) S * S, n = (size_t) S * L;
    float inverse = (float) (1.0 / (sqrt(dot(x, x, S * L)) + 1e-7));
    for (size_t i = 0; i < n; i++) x[i] *= inverse;
    for (int step = 0; step < NEWTON_SCHULZ_STEPS; step++) {
        matrix x_view = row_major(x, L), x_t = transposed(&x_view), square = row_major(w->square, S);
        // polynomial (S, S) = b A + c A^2 with A = x x^T
        matmul_packed(w->square, x, &x_t, 0, NULL, S, L, S);
        matmul_packed(w->polynomial, w->square, &square, 0, NULL, S, S, S);
        for (size_t i = 0; i < n_small; i++) w->polynomial[i] = b * w->square[i] + c * w->polynomial[i];
        // x = a x + polynomial x
        matmul_packed(w->tmp, w->polynomial, &x_view, 0, NULL, S, S, L);
        for (size_t i = 0; i < n; i++) x[i] = a * x[i] + w->tmp[i];
    }
}

// w, g, m (I, O)  ->  out_w, out_m (I, O)
static void step_matrix(float *restrict out_w, float *restrict out_m, const float *w, const float *g, const float *m,
                        const step_sizes *p, const workspace *t) {
    int I = p->I, O = p->O, S = I < O ? I : O, L = I < O ? O : I;
    float old = (float) p->momentum, new = (float) (1 - p->momentum), decayed = (float) (1 - p->lr * p->decay);
    float scaled_lr = (float) (p->lr * sqrt(O > I ? (double) O / I : 1.0));
    ptrdiff_t in = I > O ? 1 : O, out = I > O ? I : 1;  // strides of x: the transpose if that has fewer rows
    float *x = t->x;
    for (int i = 0; i < I; i++)
        for (int o = 0; o < O; o++) {
            size_t at = (size_t) i * O + o;
            out_m[at] = old * m[at] + new * g[at];
            x[i * in + o * out] = new * g[at] + old * out_m[at];  // Nesterov momentum
        }
    orthogonalize(t, S, L);
    for (int i = 0; i < I; i++)
        for (int o = 0; o < O; o++) {
            size_t at = (size_t) i * O + o;
            out_w[at] = decayed * w[at] - scaled_lr * x[i * in + o * out];
        }
}

// w, g, m (N, I, O)  ->  out_w, out_m (N, I, O)
void muon_step(float *out_w, float *out_m, const float *w, const float *g, const float *m, double lr, double momentum,
               double decay, int N, int I, int O) {
    step_sizes sizes = {lr, momentum, decay, I, O};
    arena count = {0};
    workspace_in(&count, I, O);
    arena memory = allocate(count.used * (N == 1 ? 1 : max_threads()));
    if (!memory.base) return;
    if (N == 1) {  // its products use all threads
        workspace t = workspace_in(&memory, I, O);
        step_matrix(out_w, out_m, w, g, m, &sizes, &t);
        release(&memory);
        return;
    }
    claimed_cpus cpus = {0};
    #pragma omp parallel if ((size_t) N * I * O > PARALLEL_MIN)
    {
        move_to_free_core(&cpus);
        arena part = arena_part(&memory, count.used, thread_index());
        workspace t = workspace_in(&part, I, O);
        #pragma omp for schedule(dynamic)
        for (int n = 0; n < N; n++) {
            size_t at = (size_t) n * I * O;
            step_matrix(out_w + at, out_m + at, w + at, g + at, m + at, &sizes, &t);
        }
    }
    release(&memory);
}
