// The sum of many rows, as a gradient of a weight or a bias is one: one block owns 32 columns, a lane each, and its warps
// share out the rows.  Nobody else adds to its columns: no atomics, and the same bits every time.
#pragma once

#include "warp.cuh"

enum { STRIPE_STRETCH = 16 };               // rows that are added up before their sum joins the others: none drifts

// The column of this lane; a warp reads 32 numbers side by side.
__device__ inline int stripe_column() { return blockIdx.x * WARP + lane(); }

// What all warps have of each lane's column, whole in the first warp.
__device__ inline float over_warps(float sum) {
    __shared__ float of_warp[WARP][WARP];
    of_warp[warp()][lane()] = sum;
    __syncthreads();
    for (int other = 1; warp() == 0 && other < warps(); other++) sum += of_warp[other][lane()];
    __syncthreads();                        // or the next call would overwrite what the first warp still reads
    return sum;
}

// The sum of term(n) for n below N, whole in the first warp.
template <typename Term> __device__ float sum_over_rows(int N, Term term) {
    float sum = 0.0f;
    for (int start = warp() * STRIPE_STRETCH; start < N; start += warps() * STRIPE_STRETCH) {
        float some = 0.0f;
        for (int n = start; n < min(N, start + STRIPE_STRETCH); n++) some += term(n);
        sum += some;
    }
    return over_warps(sum);
}
