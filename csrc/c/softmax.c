// Softmax, equation (softmax).
#include "simd.h"

// x (N, S)  ->  out (N, S)
void softmax(float *out, const float *x, int N, int S) {
    #pragma omp parallel for if ((size_t) N * S > SMALL)
    for (int n = 0; n < N; n++) {
        const float *x_n = x + (size_t) n * S;
        float *out_n = out + (size_t) n * S;
        int whole = S - S % LANES, rest = S % LANES;
        f32x16 most = load_some(x_n + whole, rest, -__builtin_inff());
        for (int i = 0; i < whole; i += LANES) most = max_of(most, load16(x_n + i));
        float best = max16(most);                   // where x holds a NaN, its e^x is NaN, the sum and so the row
        f32x16 last = exp16(load_some(x_n + whole, rest, -__builtin_inff()) - best);
        double sums[LANES] = {0}, sum = 0.0;        // a float would drift over a vocabulary of 200,000
        for (int l = 0; l < rest; l++) sum += last[l];
        for (int i = 0; i < whole; i += LANES) {
            f32x16 e = exp16(load16(x_n + i) - best);
            store16(out_n + i, e);
            for (int l = 0; l < LANES; l++) sums[l] += e[l];
        }
        for (int l = 0; l < LANES; l++) sum += sums[l];
        float total = (float) sum;
        for (int i = 0; i < whole; i++) out_n[i] /= total;
        store_some(out_n + whole, last / total, rest);
    }
}
