// A matrix product on tensor cores, equation (linear): one block owns 128 rows by 128 columns of the output.
//
// x, w and the output are bfloat16, sums float32.  Each of eight warps owns 64 by 32 of the tile in its registers, so
// that each fragment it loads is used by four mma (ptx.cuh):
//
//               32 columns    32         32         32
//     64 rows [  warp 0   |  warp 1  |  warp 2  |  warp 3  ]        a warp: 4 by 4 fragments d of 16 rows by 8 columns,
//     64      [  warp 4   |  warp 5  |  warp 6  |  warp 7  ]        from 4 fragments a of x and 4 fragments b of w
//
// A stage is 64 inputs; while one stage is multiplied, two are being copied from global to shared memory.  The plain
// form:
//
//     for (i = 0; i < I; i++)
//         for (r = 0; r < TILE; r++)
//             for (c = 0; c < TILE; c++) sum[r][c] += x[n + r][i] * w[i][o + c];
#include "ptx.cuh"

enum { THREADS = 256, TILE = 128, DEPTH = 64, STAGES = 3 };

// The pitch of a tile with rows of DEPTH or of TILE elements: 16 bytes more than a row needs, so that the eight rows of
// a matrix that ldmatrix reads begin in different banks.
enum { DEPTH_PITCH = DEPTH + 8, TILE_PITCH = TILE + 8 };
enum { X_ELEMENTS = TILE * DEPTH_PITCH, STAGE_ELEMENTS = X_ELEMENTS + TILE * DEPTH_PITCH };  // of x; of x and w

// x (N, I), w (I, O), or (O, I) in memory if TRANSPOSED, bias (O) or null  ->  out (N, O); a block has the TILE rows
// from n and the TILE columns from o on.
struct Product {
    bf16 *out;
    const bf16 *x, *w, *bias;
    int N, I, O, n, o;
};

// Start copying ROWS rows of COLUMNS elements, `stride` elements apart.  Elements with r >= rows or i >= columns become
// zeros; columns must be a multiple of 8.
template <int ROWS, int COLUMNS, int PITCH>
__device__ void copy_tile_async(bf16 *tile, const bf16 *from, long long stride, int rows, int columns) {
    #pragma unroll
    for (int c = threadIdx.x; c < ROWS * COLUMNS / 8; c += THREADS) {
        int r = c / (COLUMNS / 8), i = c % (COLUMNS / 8) * 8;
        bool is_inside = r < rows && i < columns;
        copy_async(tile + r * PITCH + i, is_inside ? from + r * stride + i : from, is_inside);
    }
}

// Start copying x (TILE, DEPTH) and w (DEPTH, TILE) of the inputs from i on, if there are any: always one group.
template <bool TRANSPOSED> __device__ void copy_stage_async(bf16 *stages, const Product &p, int i) {
    bf16 *x_tile = stages + i / DEPTH % STAGES * STAGE_ELEMENTS, *w_tile = x_tile + X_ELEMENTS;
    if (i < p.I) {
        const bf16 *x = p.x + (long long) p.n * p.I + i;
        copy_tile_async<TILE, DEPTH, DEPTH_PITCH>(x_tile, x, p.I, p.N - p.n, p.I - i);
        const bf16 *w = p.w + (TRANSPOSED ? (long long) p.o * p.I + i : (long long) i * p.O + p.o);
        if (TRANSPOSED) copy_tile_async<TILE, DEPTH, DEPTH_PITCH>(w_tile, w, p.I, p.O - p.o, p.I - i);
        else copy_tile_async<DEPTH, TILE, TILE_PITCH>(w_tile, w, p.O, p.I - i, p.O - p.o);
    }
    copy_commit();
}

// sum (64, 32) += this warp's rows of x_tile (TILE, DEPTH) times its columns of w_tile (DEPTH, TILE)
template <bool TRANSPOSED>
__device__ void stage_mma(float (&sum)[4][4][4], const bf16 *x_tile, const bf16 *w_tile, int row, int column) {
    #pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        unsigned a[4][4], b[2][4];
        #pragma unroll
        for (int m = 0; m < 4; m++) load_fragment_a(a[m], x_tile, DEPTH_PITCH, row + 16 * m, k);
        #pragma unroll
        for (int c = 0; c < 2; c++) {  // mma reads b by columns, as (O, I) is stored; ldmatrix transposes (I, O)
            if (TRANSPOSED) load_fragment_b(b[c], w_tile, DEPTH_PITCH, column + 16 * c, k);
            else load_fragment_b_transposed(b[c], w_tile, TILE_PITCH, k, column + 16 * c);
        }
        #pragma unroll
        for (int m = 0; m < 4; m++)
            #pragma unroll
            for (int c = 0; c < 4; c++) mma(sum[m][c], a[m], b[c / 2][c % 2 * 2], b[c / 2][c % 2 * 2 + 1]);
    }
}

// out (TILE, TILE) = sum + bias, through shared memory, so that whole rows are written
__device__ void write_tile(bf16 *tile, const float (&sum)[4][4][4], const Product &p, int row, int column) {
    int lane = threadIdx.x % 32;
    #pragma unroll
    for (int m = 0; m < 4; m++)
        #pragma unroll
        for (int c = 0; c < 4; c++)
            #pragma unroll
            for (int h = 0; h < 2; h++) {  // the fragment's upper and lower eight rows
                int r = row + 16 * m + 8 * h + lane / 4, at = column + 8 * c + lane % 4 * 2, o = p.o + at;
                float low = p.bias && o < p.O ? to_float(p.bias[o]) : 0.0f;
                float high = p.bias && o + 1 < p.O ? to_float(p.bias[o + 1]) : 0.0f;
                unsigned pair = pack_bf16x2(sum[m][c][2 * h] + low, sum[m][c][2 * h + 1] + high);
                *(unsigned *) (tile + r * TILE_PITCH + at) = pair;
            }
    __syncthreads();
    for (int c = threadIdx.x; c < TILE * TILE / 8; c += THREADS) {
        int r = c / (TILE / 8), at = c % (TILE / 8) * 8;
        if (p.n + r < p.N && p.o + at < p.O)
            *(uint4 *) (p.out + (long long) (p.n + r) * p.O + p.o + at) = *(const uint4 *) (tile + r * TILE_PITCH + at);
    }
}

template <bool TRANSPOSED> __device__ void tensor_core_matmul(const Product &p) {
    extern __shared__ __align__(16) bf16 stages[];
    int warp = threadIdx.x / 32, row = warp / 4 * 64, column = warp % 4 * 32;  // of this warp's part of the tile
    for (int i = 0; i < (STAGES - 1) * DEPTH; i += DEPTH) copy_stage_async<TRANSPOSED>(stages, p, i);

    float sum[4][4][4] = {};  // fragments d of 16 rows by 8 columns each
    for (int i = 0; i < p.I; i += DEPTH) {
        copy_wait<STAGES - 2>();
        __syncthreads();  // the oldest stage has arrived, and the one before it is no longer in use
        copy_stage_async<TRANSPOSED>(stages, p, i + (STAGES - 1) * DEPTH);
        const bf16 *x_tile = stages + i / DEPTH % STAGES * STAGE_ELEMENTS, *w_tile = x_tile + X_ELEMENTS;
        stage_mma<TRANSPOSED>(sum, x_tile, w_tile, row, column);
    }
    copy_wait<0>();
    __syncthreads();  // all stages are free: the output goes through them
    write_tile(stages, sum, p, row, column);
}

// x (N, I), w (I, O), bias (O) or null, I and O multiples of 8  ->  out (N, O)
extern "C" __global__ __launch_bounds__(THREADS)
void linear_3(bf16 *out, const bf16 *x, const bf16 *w, const bf16 *bias, int N, int I, int O) {
    tensor_core_matmul<false>({out, x, w, bias, N, I, O, (int) blockIdx.y * TILE, (int) blockIdx.x * TILE});
}

// The same for a w that is stored as (O, I), as most matrices of a checkpoint are.
extern "C" __global__ __launch_bounds__(THREADS)
void linear_3_transposed(bf16 *out, const bf16 *x, const bf16 *w, const bf16 *bias, int N, int I, int O) {
    tensor_core_matmul<true>({out, x, w, bias, N, I, O, (int) blockIdx.y * TILE, (int) blockIdx.x * TILE});
}
