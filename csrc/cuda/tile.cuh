// A tile of a matrix product in float32: 64 rows by 64 columns, of which each of 256 threads has 4 by 4 in registers.
#pragma once

enum { THREADS = 256, TILE = 64, DEPTH = 16, PITCH = TILE + 4, STRETCH = 256 };

// The tile's x and w pass through shared memory, DEPTH inputs at a time: what is read there once serves 64 sums, and what
// is read from there into a register four.  x(r, i) and w(i, c) give the numbers of row r and column c of the tile, zero
// where there is none; x_along_inputs and along_inputs: how neighbouring threads shall ask for them.  STRETCH inputs are added up before their
// sum joins the others, so that none drifts.  This thread's: rows 4 * (threadIdx.x / 16), columns 4 * (threadIdx.x % 16).
template <bool x_along_inputs = true, class X, class W>
__device__ void multiply(float (&total)[4][4], int I, bool along_inputs, X x, W w) {
    __shared__ __align__(16) float of_x[DEPTH][PITCH], of_w[DEPTH][PITCH];
    int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    for (int start = 0; start < I; start += STRETCH) {
        float sum[4][4] = {};
        for (int i = start; i < min(I, start + STRETCH); i += DEPTH) {
            #pragma unroll
            for (int n = 0; n < TILE * DEPTH / THREADS; n++) {
                int c = n * THREADS + threadIdx.x;
                int deep = x_along_inputs ? c % DEPTH : c / TILE, wide = x_along_inputs ? c / DEPTH : c % TILE;
                of_x[deep][wide] = i + deep < I ? x(wide, i + deep) : 0.0f;
                deep = along_inputs ? c % DEPTH : c / TILE, wide = along_inputs ? c / DEPTH : c % TILE;
                of_w[deep][wide] = i + deep < I ? w(i + deep, wide) : 0.0f;
            }
            __syncthreads();                        // the stage is whole
            #pragma unroll
            for (int k = 0; k < DEPTH; k++) {
                float4 a = *(const float4 *) &of_x[k][row], b = *(const float4 *) &of_w[k][column];
                float of_a[4] = {a.x, a.y, a.z, a.w}, of_b[4] = {b.x, b.y, b.z, b.w};
                #pragma unroll
                for (int r = 0; r < 4; r++)
                    #pragma unroll
                    for (int c = 0; c < 4; c++) sum[r][c] += of_a[r] * of_b[c];
            }
            __syncthreads();                        // nobody reads it any more
        }
        #pragma unroll
        for (int r = 0; r < 4; r++)
            #pragma unroll
            for (int c = 0; c < 4; c++) total[r][c] += sum[r][c];
    }
}

// put(row, column, sum) of all that this thread has of the tile.
template <class Put> __device__ void each(const float (&sum)[4][4], Put put) {
    #pragma unroll
    for (int r = 0; r < 4; r++)
        #pragma unroll
        for (int c = 0; c < 4; c++) put(threadIdx.x / 16 * 4 + r, threadIdx.x % 16 * 4 + c, sum[r][c]);
}
