// A tile of a matrix product in float32: 64 rows by 64 columns, of which each of 256 threads has 4 by 4 in registers.
//
// The plain form, for the tile whose first row is row 0 and first column column 0:
//
//     for (r = 0; r < TILE; r++)
//         for (c = 0; c < TILE; c++)
//             for (i = 0; i < I; i++) out[r][c] += x(r, i) * w(i, c);
#pragma once

enum { THREADS = 256, TILE = 64, DEPTH = 16, PITCH = TILE + 4, ACC_BLOCK = 256 };

// The tile's x and w pass through shared memory, DEPTH inputs at a time: an element read into it once serves 64 sums,
// and an element read from it into a register serves four.  x(r, i) and w(i, c) give the elements of row r and column c
// of the tile, zero outside of the matrix.  X_INPUTS_CONTIGUOUS and w_inputs_contiguous: neighbouring threads read
// neighbouring inputs, not neighbouring rows or columns.  Partial sums of ACC_BLOCK inputs prevent drift.  out: from
// row 4 * (threadIdx.x / 16) and column 4 * (threadIdx.x % 16) of the tile on.
template <bool X_INPUTS_CONTIGUOUS = true, class X, class W>
__device__ void tile_matmul(float (&out)[4][4], int I, bool w_inputs_contiguous, X x, W w) {
    __shared__ __align__(16) float x_tile[DEPTH][PITCH], w_tile[DEPTH][PITCH];
    int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    for (int start = 0; start < I; start += ACC_BLOCK) {
        float sum[4][4] = {};
        for (int i = start; i < min(I, start + ACC_BLOCK); i += DEPTH) {
            // x_tile (DEPTH, TILE) = x^T and w_tile (DEPTH, TILE) = w, of inputs i to i + DEPTH - 1
            #pragma unroll
            for (int n = 0; n < TILE * DEPTH / THREADS; n++) {
                int e = n * THREADS + threadIdx.x;
                int k = X_INPUTS_CONTIGUOUS ? e % DEPTH : e / TILE, at = X_INPUTS_CONTIGUOUS ? e / DEPTH : e % TILE;
                x_tile[k][at] = i + k < I ? x(at, i + k) : 0.0f;
                k = w_inputs_contiguous ? e % DEPTH : e / TILE, at = w_inputs_contiguous ? e / DEPTH : e % TILE;
                w_tile[k][at] = i + k < I ? w(i + k, at) : 0.0f;
            }
            __syncthreads();  // both tiles are complete
            // sum (4, 4) += four rows of x times four columns of w
            #pragma unroll
            for (int k = 0; k < DEPTH; k++) {
                float4 a = *(const float4 *) &x_tile[k][row], b = *(const float4 *) &w_tile[k][column];
                float x_row[4] = {a.x, a.y, a.z, a.w}, w_column[4] = {b.x, b.y, b.z, b.w};
                #pragma unroll
                for (int r = 0; r < 4; r++)
                    #pragma unroll
                    for (int c = 0; c < 4; c++) sum[r][c] += x_row[r] * w_column[c];
            }
            __syncthreads();  // they are no longer in use
        }
        #pragma unroll
        for (int r = 0; r < 4; r++)
            #pragma unroll
            for (int c = 0; c < 4; c++) out[r][c] += sum[r][c];
    }
}

// Calls put(row, column, y) for every output of the tile that this thread has.
template <class Put> __device__ void for_each_output(const float (&out)[4][4], Put put) {
    #pragma unroll
    for (int r = 0; r < 4; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) put(threadIdx.x / 16 * 4 + r, threadIdx.x % 16 * 4 + c, out[r][c]);
}
