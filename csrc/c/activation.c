// Activations, equations (sigmoid), (swiglu) and (gelu).
#include "activation.h"

// x (N, D)  ->  out (N, D)
void sigmoid(float *out, const float *x, int N, int D) {
    size_t n = (size_t) N * D;
    #pragma omp parallel for if (n > PARALLEL_MIN)
    for (size_t i = 0; i < n; i += LANES) store_at(out, i, n, sigmoid_vec(load_at(x, i, n)));
}

// dy and x (N, D)  ->  out (N, D)
void sigmoid_backward(float *out, const float *dy, const float *x, int N, int D) {
    size_t n = (size_t) N * D;
    #pragma omp parallel for if (n > PARALLEL_MIN)
    for (size_t i = 0; i < n; i += LANES) {
        vec y = sigmoid_vec(load_at(x, i, n));
        store_at(out, i, n, load_at(dy, i, n) * y * (1.0f - y));
    }
}

// gate and up (N, F)  ->  out (N, F)
void swiglu(float *out, const float *gate, const float *up, int N, int F) {
    size_t n = (size_t) N * F;
    #pragma omp parallel for if (n > PARALLEL_MIN)
    for (size_t i = 0; i < n; i += LANES) {
        vec g = load_at(gate, i, n);
        store_at(out, i, n, g * sigmoid_vec(g) * load_at(up, i, n));
    }
}

// dy, gate and up (N, F)  ->  out_gate and out_up (N, F)
void swiglu_backward(float *out_gate, float *out_up, const float *dy, const float *gate, const float *up, int N,
                     int F) {
    size_t n = (size_t) N * F;
    #pragma omp parallel for if (n > PARALLEL_MIN)
    for (size_t i = 0; i < n; i += LANES) {
        vec d = load_at(dy, i, n), g = load_at(gate, i, n), sigmoid = sigmoid_vec(g);
        store_at(out_gate, i, n, dswiglu_dgate(d, g, load_at(up, i, n), sigmoid));
        store_at(out_up, i, n, d * g * sigmoid);
    }
}

// The probability that a normal variable exceeds x >= 0: erfc(z) / 2 for z = x / sqrt(2), as t q(t) e^(-z z) / 2 with
// t = 2 / (2 + z).  The polynomial q is fitted for z up to 9, where t is 2/11, in u from -1 to 1: its error is 2e-8.
static inline vec normal_tail(vec x) {
    static const float q[] = {5.38645008e-6f,  -4.53619541e-5f, -1.81285679e-6f, 5.24963951e-4f, -5.07825695e-4f,
                              -5.76512981e-3f, 5.21848677e-3f,  9.86546949e-2f,  3.23939532e-1f, 5.77977061e-1f};
    const float min_t = 2.0f / 11, to_256ths = ROUND_MAGIC / 256;
    x = min_vec(x, splat(12.7279221f));  // 9 sqrt(2): beyond it, the tail of 2e-37 is negligible
    vec t = 2.0f / (2.0f + x * 0.707106781f), u = (2.0f * t - (1 + min_t)) / (1 - min_t), sum = splat(q[0]);
    for (size_t i = 1; i < sizeof q / sizeof *q; i++) sum = sum * u + q[i];
    vec high = (x + to_256ths) - to_256ths;  // 12 bits: its square is exact, so e^(-x x / 2) loses no digits
    return 0.5f * t * sum * exp_vec(-0.5f * high * high) * exp_vec(-0.5f * (x - high) * (x + high));
}

// x (N, D)  ->  out (N, D)
void gelu(float *out, const float *x, int N, int D) {
    size_t n = (size_t) N * D;
    #pragma omp parallel for if (n > PARALLEL_MIN)
    for (size_t i = 0; i < n; i += LANES) {
        vec v = load_at(x, i, n), tail = normal_tail(abs_vec(v));
        store_at(out, i, n, v * select_vec(splat(0.0f) > v, tail, 1.0f - tail));
    }
}

// dy and x (N, D)  ->  out (N, D)
void gelu_backward(float *out, const float *dy, const float *x, int N, int D) {
    size_t n = (size_t) N * D;
    #pragma omp parallel for if (n > PARALLEL_MIN)
    for (size_t i = 0; i < n; i += LANES) {
        vec v = load_at(x, i, n), tail = normal_tail(abs_vec(v)), density = 0.398942280f * exp_vec(-0.5f * v * v);
        store_at(out, i, n, load_at(dy, i, n) * (select_vec(splat(0.0f) > v, tail, 1.0f - tail) + v * density));
    }
}
