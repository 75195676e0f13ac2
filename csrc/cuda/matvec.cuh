// A matrix-vector product, of up to four vectors at a time.  Every weight is read once, so memory is the limit.
//
// Neighbouring lanes read neighbouring weights in both memory orders: if the weights of one output are contiguous, a
// warp owns an output and its lanes divide the inputs; if those of one input are, a lane owns an output and the warps
// of a block divide the inputs.  The plain form:
//
//     for (r = 0; r < rows; r++)
//         for (o = 0; o < O; o++) {
//             for (i = 0, sum = 0; i < I; i++) sum += x[r][i] * w[i][o];
//             out[r][o] = sum * gate + bias[o];
//         }
#pragma once

#include "weight.cuh"

enum { MATVEC_THREADS = 256, WARPS = MATVEC_THREADS / 32, ROWS = 4, INPUTS_PER_PARTIAL = 8 };

// x (rows, I), rows up to ROWS, and O outputs.
struct MatvecSize {
    int rows, I, O;
};

template <class Number>
__device__ void matvec_inputs_contiguous(float *out, const float *x, Plain<Number> w, const float *bias, float gate,
                                         MatvecSize size) {
    int o = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (o >= size.O) return;
    float sum[ROWS] = {};
    #pragma unroll 4
    for (int i = lane; i < size.I; i += 32) {
        float weight = to_float(w.values[o * w.out_stride + i]);
        #pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < size.rows) sum[r] += weight * x[(size_t) r * size.I + i];
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        for (int bit = 16; bit > 0; bit /= 2) sum[r] += __shfl_xor_sync(0xffffffff, sum[r], bit);
        if (r < size.rows && lane == 0) out[(size_t) r * size.O + o] = sum[r] * gate + (bias ? bias[o] : 0.0f);
    }
}

template <class Number>
__device__ void matvec_outputs_contiguous(float *out, const float *x, Plain<Number> w, const float *bias, float gate,
                                          MatvecSize size) {
    __shared__ float warp_sums[WARPS][ROWS][32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, o = blockIdx.x * 32 + lane, I = size.I;
    float sum[ROWS] = {};
    for (int start = warp * INPUTS_PER_PARTIAL; o < size.O && start < I; start += WARPS * INPUTS_PER_PARTIAL) {
        float partial[ROWS] = {};  // one sum for all inputs would drift
        #pragma unroll
        for (int i = start; i < start + INPUTS_PER_PARTIAL; i++) {
            float weight = i < I ? to_float(w.values[i * w.in_stride + o]) : 0.0f;
            #pragma unroll
            for (int r = 0; r < ROWS; r++)
                if (r < size.rows && i < I) partial[r] += weight * x[(size_t) r * I + i];
        }
        #pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r] += partial[r];
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) warp_sums[warp][r][lane] = sum[r];
    __syncthreads();
    if (warp >= size.rows || o >= size.O) return;  // warp r adds up all warps' sums of row r
    float total = 0.0f;
    for (int w = 0; w < WARPS; w++) total += warp_sums[w][warp][lane];
    out[(size_t) warp * size.O + o] = total * gate + (bias ? bias[o] : 0.0f);
}

// x (rows, I), w (I, O), times `gate`, plus bias (O) or null  ->  out (rows, O)
template <class Number>
__device__ void matvec(float *out, const float *x, Plain<Number> w, const float *bias, float gate, MatvecSize size) {
    if (w.are_inputs_contiguous()) matvec_inputs_contiguous(out, x, w, bias, gate, size);
    else matvec_outputs_contiguous(out, x, w, bias, gate, size);
}
