// Reductions over the threads of a warp, and of a block.  Every thread gets the result; all of them must call.
// A block has a multiple of 32 threads, and at most 1024.
#pragma once

constexpr int WARP = 32;
constexpr unsigned FULL_MASK = 0xffffffff;  // the lanes that take part

__device__ inline int lane() { return threadIdx.x % WARP; }
__device__ inline int warp() { return threadIdx.x / WARP; }
__device__ inline int warp_count() { return blockDim.x / WARP; }

struct Sum {
    template <typename T> static __device__ T of(T a, T b) { return a + b; }
};
struct Max {
    template <typename T> static __device__ T of(T a, T b) { return max(a, b); }
};

// In five steps (a butterfly): each lane combines its value with that of the lane whose number differs in one bit.
template <typename Op, typename T> __device__ T warp_reduce(T x) {
    for (int bit = WARP / 2; bit > 0; bit /= 2) x = Op::of(x, __shfl_xor_sync(FULL_MASK, x, bit));
    return x;
}

// First each warp reduces its own values; then every warp reduces the results of all warps.  Op::of(x, identity) = x.
template <typename Op, typename T> __device__ T block_reduce(T x, T identity) {
    __shared__ T warp_result[WARP];
    x = warp_reduce<Op>(x);
    if (lane() == 0) warp_result[warp()] = x;
    __syncthreads();
    x = warp_reduce<Op>(lane() < warp_count() ? warp_result[lane()] : identity);
    __syncthreads();  // or the next call would overwrite values that a slow warp still reads
    return x;
}

template <typename T> __device__ T block_sum(T x) { return block_reduce<Sum>(x, (T) 0); }
template <typename T> __device__ T block_max(T x) { return block_reduce<Max>(x, x); }

// The sum over the lanes up to and including this one.
template <typename T> __device__ T warp_inclusive_scan(T x) {
    for (int offset = 1; offset < WARP; offset *= 2) {
        T lower = __shfl_up_sync(FULL_MASK, x, offset);
        if (lane() >= offset) x += lower;
    }
    return x;
}
