// Few rows times a matrix of plain numbers: every weight is read once, so memory sets the pace (decoding).
//
// Up to four rows of x at a time.  Neighbouring lanes read neighbouring weights, whichever way the matrix lies: where the
// weights of one output lie side by side, a warp owns an output and its lanes take turns along the inputs; where those of
// one input do, a lane owns an output and the warps of a block take turns along the inputs.
#pragma once

#include "bf16.cuh"

enum { ROW_THREADS = 256, WARPS = ROW_THREADS / 32, ROWS = 4, AT_ONCE = 8 };

template <class Number>
__device__ void along_inputs(float *out, const float *x, const Number *w, const float *bias,
                             float gate, int rows, int I, int O, long long across) {
    int o = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (o >= O) return;
    float sum[ROWS] = {};
    #pragma unroll 4
    for (int i = lane; i < I; i += 32) {
        float weight = widened(w[o * across + i]);
        #pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < rows) sum[r] += weight * x[(size_t) r * I + i];
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        for (int other = 16; other > 0; other /= 2) sum[r] += __shfl_xor_sync(0xffffffff, sum[r], other);
        if (r < rows && lane == 0) out[(size_t) r * O + o] = sum[r] * gate + (bias ? bias[o] : 0.0f);
    }
}

template <class Number>
__device__ void along_outputs(float *out, const float *x, const Number *w, const float *bias,
                             float gate, int rows, int I, int O, long long in) {
    __shared__ float part[WARPS][ROWS][32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, o = blockIdx.x * 32 + lane;
    float sum[ROWS] = {};
    for (int start = warp * AT_ONCE; o < O && start < I; start += WARPS * AT_ONCE) {
        float some[ROWS] = {};                      // one sum for all inputs would drift
        #pragma unroll
        for (int i = start; i < start + AT_ONCE; i++) {
            float weight = i < I ? widened(w[i * in + o]) : 0.0f;
            #pragma unroll
            for (int r = 0; r < ROWS; r++)
                if (r < rows && i < I) some[r] += weight * x[(size_t) r * I + i];
        }
        #pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r] += some[r];
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) part[warp][r][lane] = sum[r];
    __syncthreads();
    if (warp >= rows || o >= O) return;             // warp r joins what all warps have of row r
    float total = 0.0f;
    for (int other = 0; other < WARPS; other++) total += part[other][warp][lane];
    out[(size_t) warp * O + o] = total * gate + (bias ? bias[o] : 0.0f);
}

// x (rows, I), rows up to ROWS, w (I, O), times `gate`, plus bias (O) or null  ->  out (rows, O)
template <class Number>
__device__ void few_rows(float *out, const float *x, const Number *w, const float *bias, float gate, int rows, int I, int O,
                         long long in, long long across) {
    if (in == 1) along_inputs(out, x, w, bias, gate, rows, I, O, across);
    else along_outputs(out, x, w, bias, gate, rows, I, O, in);
}
