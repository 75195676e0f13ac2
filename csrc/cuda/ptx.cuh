// The instructions that CUDA C++ does not expose, each in one small function.  No other file contains PTX.
#pragma once

#include "bf16.cuh"

// An address in shared memory as those instructions take it: in bytes from the start of shared memory.
__device__ inline unsigned shared_address(const void *p) { return (unsigned) __cvta_generic_to_shared(p); }

// d (16, 8) += a (16, 16) * b (16, 8), by all 32 lanes: m16n8k16.  Lane l holds a fragment of each matrix; with
// g = l / 4 and t = l % 4 * 2, these are the elements in
//
//         a: columns t, t+1   t+8, t+9         b: column g          d: columns t, t+1
//     row g    [ a[0] ]       [ a[2] ]     rows t, t+1   [ b0 ]      row g    [ d[0] d[1] ]
//     row g+8  [ a[1] ]       [ a[3] ]     rows t+8, t+9 [ b1 ]      row g+8  [ d[2] d[3] ]
//
// Two bfloat16 share a register of a and b, the first in its low half.  d of a product has the layout of a: two
// fragments of d, rounded in pairs, are the fragment a of the next product.
__device__ inline void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices from shared memory, in the layout of mma: lane l passes the address of row l % 8 of matrix l / 8.
__device__ inline void ldmatrix(unsigned (&r)[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same, each matrix transposed as it is loaded.
__device__ inline void ldmatrix_transposed(unsigned (&r)[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The fragment a of the 16 x 16 elements from (row, column) on of a tile whose rows are `pitch` elements long.
__device__ inline void load_fragment_a(unsigned (&a)[4], const bf16 *tile, int pitch, int row, int column) {
    int lane = threadIdx.x % 32;
    ldmatrix(a, tile + (row + lane % 16) * pitch + column + lane / 16 * 8);
}

// The fragments b of 16 x 16 elements: b[0] and b[1] of the first eight columns, b[2] and b[3] of the others.  The tile
// holds their transpose from (row, column) on ...
__device__ inline void load_fragment_b(unsigned (&b)[4], const bf16 *tile, int pitch, int row, int column) {
    int lane = threadIdx.x % 32;
    ldmatrix(b, tile + (row + lane / 16 * 8 + lane % 8) * pitch + column + lane / 8 % 2 * 8);
}

// ... or the elements themselves.
__device__ inline void load_fragment_b_transposed(unsigned (&b)[4], const bf16 *tile, int pitch, int row, int column) {
    int lane = threadIdx.x % 32;
    ldmatrix_transposed(b, tile + (row + lane % 16) * pitch + column + lane / 16 * 8);
}

// Start copying 16 bytes from global to shared memory, bypassing the registers; zeros instead unless `valid`.
__device__ inline void copy_async(void *to, const void *from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
}

// Make the copies started since the last commit one group.
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most `groups` of this thread's groups are pending.  Other threads' copies need a barrier as well.
template <int groups> __device__ inline void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Two to the power of x, to about 22 bits; zero for minus infinity.
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two floats rounded to bfloat16 (to nearest, ties to even), `low` in the low half.
__device__ inline unsigned pack_bf16x2(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
