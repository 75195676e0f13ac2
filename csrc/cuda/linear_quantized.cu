// A product of few rows with a matrix of 8 or 4 bits, equation (quantized): one block owns a tile of 16 columns.
#include "quantized_matvec.cuh"

// x (N, I), w (I, O) as values and scales, bias (O) or null  ->  out (N, O), ROWS rows of it at a time
#define KIND(NAME, BITS, ROWS, Scale) \
extern "C" __global__ __launch_bounds__(BIT_THREADS) \
void linear_##NAME(float *out, const float *x, const unsigned char *values, const Scale *scales, const float *bias, \
                   int N, int I, int O, int group) { \
    int n = blockIdx.y * ROWS; \
    columns<BITS, ROWS>(out + (size_t) n * O, x + (size_t) n * I, values, scales, bias, 1.0f, min(ROWS, N - n), I, O, group); \
}
KIND(row_int8, 8, 1, float)
KIND(row_int4, 4, 1, float)
KIND(row_int8_bf16, 8, 1, bf16)
KIND(row_int4_bf16, 4, 1, bf16)
KIND(rows_int8, 8, 4, float)
KIND(rows_int4, 4, 4, float)
KIND(rows_int8_bf16, 8, 4, bf16)
KIND(rows_int4_bf16, 4, 4, bf16)
