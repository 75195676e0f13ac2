// A product of a few rows with a matrix quantized to 8 or 4 bits, equation (quantized): one block owns a tile of 16
// columns.
#include "quantized_matvec.cuh"

// x (N, I), w (I, O), bias (O) or null  ->  out (N, O), from row MAX_ROWS * blockIdx.y on
template <int MAX_ROWS, int BITS, class Scale>
__device__ void q_matvec_rows(float *out, const float *x, Quantized<BITS, Scale> w, const float *bias, int N, int O) {
    int n = blockIdx.y * MAX_ROWS;
    q_matvec_tile<MAX_ROWS>(out + (size_t) n * O, x + (size_t) n * w.I, w, bias, 1.0f, {min(MAX_ROWS, N - n), w.I, O});
}

#define LINEAR_QUANTIZED(NAME, MAX_ROWS, BITS, Scale) \
    extern "C" __global__ __launch_bounds__(Q_THREADS) \
    void linear_##NAME(float *out, const float *x, const unsigned char *values, const Scale *scales, \
                       const float *bias, int N, int I, int O, int group) { \
        q_matvec_rows<MAX_ROWS>(out, x, Quantized<BITS, Scale> {values, scales, group, I}, bias, N, O); \
    }
LINEAR_QUANTIZED(row_int8, 1, 8, float)
LINEAR_QUANTIZED(row_int4, 1, 4, float)
LINEAR_QUANTIZED(row_int8_bf16, 1, 8, bf16)
LINEAR_QUANTIZED(row_int4_bf16, 1, 4, bf16)
LINEAR_QUANTIZED(rows_int8, 4, 8, float)
LINEAR_QUANTIZED(rows_int4, 4, 4, float)
LINEAR_QUANTIZED(rows_int8_bf16, 4, 8, bf16)
LINEAR_QUANTIZED(rows_int4_bf16, 4, 4, bf16)
