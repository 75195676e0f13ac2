// What the threads of a warp, and of a block, hold together.  Every thread gets the result; all of them must call.
// A block has a multiple of 32 threads, and at most 1024.
#pragma once

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffff;        // the lanes that take part

__device__ inline int lane() { return threadIdx.x % WARP; }
__device__ inline int warp() { return threadIdx.x / WARP; }
__device__ inline int warps() { return blockDim.x / WARP; }

struct Sum { template <typename T> static __device__ T of(T a, T b) { return a + b; } };
struct Max { template <typename T> static __device__ T of(T a, T b) { return max(a, b); } };

// In five steps: each lane meets the one whose number differs in one bit, and both keep what they make together.
template <typename Join, typename T> __device__ T over_warp(T x) {
    for (int bit = WARP / 2; bit > 0; bit /= 2) x = Join::of(x, __shfl_xor_sync(ALL, x, bit));
    return x;
}

// First every warp by itself; then each of them joins what all warps have.  `none` is what changes nothing.
template <typename Join, typename T> __device__ T over_block(T x, T none) {
    __shared__ T of_warp[WARP];
    x = over_warp<Join>(x);
    if (lane() == 0) of_warp[warp()] = x;
    __syncthreads();
    x = over_warp<Join>(lane() < warps() ? of_warp[lane()] : none);
    __syncthreads();                        // or the next call would overwrite what a slow warp still reads
    return x;
}

template <typename T> __device__ T block_sum(T x) { return over_block<Sum>(x, (T) 0); }
template <typename T> __device__ T block_max(T x) { return over_block<Max>(x, x); }

// The sum over the lanes up to this one.
template <typename T> __device__ T up_to_lane(T x) {
    for (int back = 1; back < WARP; back *= 2) {
        T before = __shfl_up_sync(ALL, x, back);
        if (lane() >= back) x += before;
    }
    return x;
}
