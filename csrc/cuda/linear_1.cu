// A matrix product exactly as in the formula, equation (linear): one thread owns one output.
//
// Every element of x is read once for each column and every weight once for each row, all from global memory.

enum { ACC_BLOCK = 256 };  // products in a partial sum: partial sums do not drift

// x (N, I), w (I, O) with the strides to its next input and output, bias (O) or null  ->  out (N, O)
extern "C" __global__ void linear_1(float *out, const float *x, const float *w, const float *bias, int N, int I, int O,
                                    long long in_stride, long long out_stride) {
    int o = blockIdx.y * blockDim.x + threadIdx.x, n = blockIdx.x;  // only grid.x may exceed 65535
    if (o >= O) return;
    float total = bias ? bias[o] : 0.0f;
    for (int start = 0; start < I; start += ACC_BLOCK) {
        float sum = 0.0f;
        for (int i = start; i < min(I, start + ACC_BLOCK); i++)
            sum += x[(size_t) n * I + i] * w[i * in_stride + o * out_stride];
        total += sum;
    }
    out[(size_t) n * O + o] = total;
}
