// A step of Muon, equations (muon) and (newton-schulz): of a stack of matrices each thread takes whole ones.
#include "threads.h"

#include <math.h>

#include "linear.h"
#include "memory.h"
#include "row.h"

// x (S, L), S <= L, with scratch: square and mix (S, S), more (S, L)  ->  x with singular values of about one
static void orthogonalize(float *x, float *square, float *mix, float *more, int S, int L) {
    const float a = 3.4445f, b = -4.7750f, c = 2.0315f;         // of x, x^3, x^5, as in the reference
    size_t small = (size_t) S * S, large = (size_t) S * L;
    float inverse = (float) (1.0 / (sqrt(dot(x, x, S * L)) + 1e-7));
    for (size_t i = 0; i < large; i++) x[i] *= inverse;
    for (int round = 0; round < 5; round++) {
        matrix x_back = {.values = x, .kind = F32, .in = 1, .out = L}, x_on = turned(&x_back);
        matrix squared = {.values = square, .kind = F32, .in = S, .out = 1};
        linear_packed(square, x, &x_back, 0, NULL, S, L, S);
        linear_packed(mix, square, &squared, 0, NULL, S, S, S);
        for (size_t i = 0; i < small; i++) mix[i] = b * square[i] + c * mix[i];
        linear_packed(more, mix, &x_on, 0, NULL, S, S, L);
        for (size_t i = 0; i < large; i++) x[i] = a * x[i] + more[i];
    }
}

typedef struct {
    float *x, *more, *square, *mix;
} work;
static work work_in(arena *a, int I, int O) {
    size_t S = I < O ? I : O, L = I < O ? O : I;
    return (work) {carve_floats(a, S * L), carve_floats(a, S * L), carve_floats(a, S * S), carve_floats(a, S * S)};
}

// w, g, m (I, O)  ->  out_w, out_m (I, O)
static void step(float *restrict out_w, float *restrict out_m, const float *w, const float *g, const float *m, double lr,
                 double momentum, double decay, int I, int O, work t) {
    int S = I < O ? I : O, L = I < O ? O : I;
    float *x = t.x;
    float old = (float) momentum, new = (float) (1 - momentum), keep = (float) (1 - lr * decay);
    float pace = (float) (lr * sqrt(O > I ? (double) O / I : 1.0));
    ptrdiff_t in = I > O ? 1 : O, out = I > O ? I : 1;          // x is g turned where that has fewer rows
    for (int i = 0; i < I; i++)
        for (int o = 0; o < O; o++) {
            size_t at = (size_t) i * O + o;
            out_m[at] = old * m[at] + new * g[at];
            x[i * in + o * out] = new * g[at] + old * out_m[at];        // a look ahead
        }
    orthogonalize(x, t.square, t.mix, t.more, S, L);
    for (int i = 0; i < I; i++)
        for (int o = 0; o < O; o++) out_w[(size_t) i * O + o] = keep * w[(size_t) i * O + o] - pace * x[i * in + o * out];
}

// w, g, m (N, I, O)  ->  out_w, out_m (N, I, O)
void muon_step(float *out_w, float *out_m, const float *w, const float *g, const float *m, double lr, double momentum,
               double decay, int N, int I, int O) {
    arena count = {0};
    work_in(&count, I, O);
    arena memory = allocate(count.used * (N == 1 ? 1 : most_threads()));
    if (!memory.base) return;
    if (N == 1) {                       // its products share themselves out
        step(out_w, out_m, w, g, m, lr, momentum, decay, I, O, work_in(&memory, I, O));
        release(&memory);
        return;
    }
    taken cpus = {0};
    #pragma omp parallel if ((size_t) N * I * O > SMALL)
    {
        spread(&cpus);
        arena part = arena_part(&memory, count.used, thread());
        work t = work_in(&part, I, O);
        #pragma omp for schedule(dynamic)
        for (int n = 0; n < N; n++) {
            size_t at = (size_t) n * I * O;
            step(out_w + at, out_m + at, w + at, g + at, m + at, lr, momentum, decay, I, O, t);
        }
    }
    release(&memory);
}
