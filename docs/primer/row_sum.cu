// The sum of each row: one block for a row, its threads in turns along it.
// x (N, D)  ->  out (N)
extern "C" __global__ void row_sum(float *out, const float *x, int D) {
    __shared__ float warp_sum[32];
    const float *row = x + blockIdx.x * D;
    float sum = 0.0f;
    // 1. Each thread adds its elements.
    for (int i = threadIdx.x; i < D; i += blockDim.x) sum += row[i];
    // 2. Each warp adds the sums of its threads.
    for (int bit = 16; bit > 0; bit /= 2) sum += __shfl_xor_sync(0xffffffff, sum, bit);
    if (threadIdx.x % 32 == 0) warp_sum[threadIdx.x / 32] = sum;
    __syncthreads();
    // 3. One thread adds the sums of the warps.
    if (threadIdx.x == 0) {
        for (int w = 1; w < blockDim.x / 32; w++) sum += warp_sum[w];
        out[blockIdx.x] = sum;
    }
}
