// The sum of two vectors: one thread for each element.
// x and y (N)  ->  out (N)
extern "C" __global__ void add(float *out, const float *x, const float *y, int N) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;  // the element of this thread
    if (i < N) out[i] = x[i] + y[i];                // false beyond the last element
}
