// A matrix product as the formula says it, equation (linear): one thread owns one output.
//
// Every number of x is read once for each column and every weight once for each row, all from global memory.
#include "weight.cuh"

enum { STRETCH = 256 };                 // products that are added up before their sum joins the others: none drifts

// x (N, I), w (I, O) with `in` and `across` from one input and one output to the next, bias (O) or null  ->  out (N, O)
extern "C" __global__ void linear_1(float *out, const float *x, const float *w, const float *bias, int N, int I, int O,
                                    long long in, long long across) {
    int o = blockIdx.y * blockDim.x + threadIdx.x, n = blockIdx.x;       // x, as only that may count beyond 65535
    if (o >= O) return;
    float total = bias ? bias[o] : 0.0f;
    for (int start = 0; start < I; start += STRETCH) {
        float sum = 0.0f;
        for (int i = start; i < min(I, start + STRETCH); i++) sum += x[(size_t) n * I + i] * w[i * in + o * across];
        total += sum;
    }
    out[(size_t) n * O + o] = total;
}
