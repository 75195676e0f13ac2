// A matrix product as the formula says it, equation (linear): one thread owns one output.
//
// Every number of x is read once for each column and every weight once for each row, all from global memory.

enum { ACC_BLOCK = 256 };  // products that are added up before their sum joins the others: none drifts

// x (N, I), w (I, O) with the strides to its next input and output, bias (O) or null  ->  out (N, O)
extern "C" __global__ void linear_1(float *out, const float *x, const float *w, const float *bias, int N, int I, int O,
                                    long long in_stride, long long out_stride) {
    int o = blockIdx.y * blockDim.x + threadIdx.x, n = blockIdx.x;  // x, as only that may count beyond 65535
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
