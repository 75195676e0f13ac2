// Sums over many rows, such as the gradient of a weight or a bias: one block owns 32 columns, one per lane, and its
// warps divide the rows.  Every sum is computed by one block: no atomics, and deterministic results.
#pragma once

#include "warp.cuh"

enum { ROWS_PER_PARTIAL = 16 };  // rows in a partial sum: partial sums do not drift

// The column of this lane; a warp reads 32 adjacent elements.
__device__ inline int lane_column() { return blockIdx.x * WARP + lane(); }

// The sum over all warps of each lane's value; complete in the first warp only.
__device__ inline float cross_warp_sum(float sum) {
    __shared__ float warp_sums[WARP][WARP];
    warp_sums[warp()][lane()] = sum;
    __syncthreads();
    for (int w = 1; warp() == 0 && w < warp_count(); w++) sum += warp_sums[w][lane()];
    __syncthreads();  // or the next call would overwrite sums that the first warp still reads
    return sum;
}

// The sum of term(n) for n below N; complete in the first warp only.
template <typename Term> __device__ float sum_over_rows(int N, Term term) {
    float sum = 0.0f;
    for (int start = warp() * ROWS_PER_PARTIAL; start < N; start += warp_count() * ROWS_PER_PARTIAL) {
        float partial = 0.0f;
        for (int n = start; n < min(N, start + ROWS_PER_PARTIAL); n++) partial += term(n);
        sum += partial;
    }
    return cross_warp_sum(sum);
}
