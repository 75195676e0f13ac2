// Early fusion, equation (fuse): one block owns one token's row, and counts how many image tokens come before it.
#include "warp.cuh"

// x (T, D), mask (T) 0 or 1, features (number of ones in mask, D)  ->  out (T, D)
extern "C" __global__ void fuse(float *out, const float *x, const unsigned char *mask, const float *features, int T,
                                int D) {
    int t = blockIdx.x, feature = 0;
    for (int i = threadIdx.x; i < t; i += blockDim.x) feature += mask[i];
    feature = block_sum(feature);
    const float *row = mask[t] ? features + (size_t) feature * D : x + (size_t) t * D;
    for (int i = threadIdx.x; i < D; i += blockDim.x) out[(size_t) t * D + i] = row[i];
}
