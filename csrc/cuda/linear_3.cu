// A matrix product on tensor cores, equation (linear): one block owns 128 rows by 128 columns of the output.
//
// x, w and the output are bfloat16, sums float32.  Each of eight warps owns 64 by 32 of the tile in its registers, so that
// what it loads for one mma (ptx.cuh) serves four others.  64 inputs make a stage; while one is multiplied, two are on
// their way from global to shared memory.
#include "ptx.cuh"

enum { THREADS = 256, TILE = 128, DEPTH = 64, STAGES = 3, PITCH = DEPTH + 8, WIDE_PITCH = TILE + 8 };

// 16 bytes more than a row needs, PITCH and WIDE_PITCH: the eight rows of a matrix then begin in different banks.
enum { OF_X = TILE * PITCH, STAGE = OF_X + TILE * PITCH };      // numbers of x in a stage; of x and w

// Begin to copy a stage of `most` rows of `wide` numbers, each row `step` after the one before.  Zeros arrive where
// r >= rows or i >= columns; the caller has columns a multiple of 8.
template <int most, int wide, int pitch>
__device__ void stage(bf16 *tile, const bf16 *from, long long step, int rows, int columns) {
    #pragma unroll
    for (int c = threadIdx.x; c < most * wide / 8; c += THREADS) {
        int r = c / (wide / 8), i = c % (wide / 8) * 8;
        bool any = r < rows && i < columns;
        copy_async(tile + r * pitch + i, any ? from + r * step + i : from, any);
    }
}

// TURNED: w lies as (O, I), as most of a checkpoint's matrices do.  Otherwise ldmatrix turns it on its way.
template <bool TURNED>
__device__ void product(bf16 *out, const bf16 *x, const bf16 *w, const bf16 *bias, int N, int I, int O) {
    extern __shared__ __align__(16) bf16 memory[];
    int n = blockIdx.y * TILE, o = blockIdx.x * TILE, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row = warp / 4 * 64, column = warp % 4 * 32;            // of this warp's part
    auto fetch = [&](int i) {
        bf16 *to = memory + i / DEPTH % STAGES * STAGE;
        if (i < I) {
            stage<TILE, DEPTH, PITCH>(to, x + (long long) n * I + i, I, N - n, I - i);
            if (TURNED) stage<TILE, DEPTH, PITCH>(to + OF_X, w + (long long) o * I + i, I, O - o, I - i);
            else stage<DEPTH, TILE, WIDE_PITCH>(to + OF_X, w + (long long) i * O + o, O, I - i, O - o);
        }
        copy_commit();
    };
    for (int i = 0; i < (STAGES - 1) * DEPTH; i += DEPTH) fetch(i);

    float sum[4][4][4] = {};                        // 16 rows by 8 columns each: ptx.cuh says which lane has which
    for (int i = 0; i < I; i += DEPTH) {
        copy_wait<STAGES - 2>();
        __syncthreads();                            // the oldest stage is here, and nobody reads the one before it any more
        fetch(i + (STAGES - 1) * DEPTH);
        const bf16 *of_x = memory + i / DEPTH % STAGES * STAGE, *of_w = of_x + OF_X;
        #pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned a[4][4], b[2][4];
            #pragma unroll
            for (int m = 0; m < 4; m++) ldmatrix(a[m], of_x + (row + 16 * m + lane % 16) * PITCH + k + lane / 16 * 8);
            #pragma unroll
            for (int c = 0; c < 2; c++) {
                if (TURNED) ldmatrix(b[c], of_w + (column + 16 * c + lane / 16 * 8 + lane % 8) * PITCH + k + lane / 8 % 2 * 8);
                else ldmatrix_transposed(b[c], of_w + (k + lane % 16) * WIDE_PITCH + column + 16 * c + lane / 16 * 8);
            }
            #pragma unroll
            for (int m = 0; m < 4; m++)
                #pragma unroll
                for (int c = 0; c < 4; c++) mma(sum[m][c], a[m], b[c / 2][c % 2 * 2], b[c / 2][c % 2 * 2 + 1]);
        }
    }
    copy_wait<0>();
    __syncthreads();                                // all stages are done with: the output goes through them, in whole rows
    #pragma unroll
    for (int m = 0; m < 4; m++)
        #pragma unroll
        for (int c = 0; c < 4; c++)
            #pragma unroll
            for (int h = 0; h < 2; h++) {
                int r = row + 16 * m + 8 * h + lane / 4, at = column + 8 * c + lane % 4 * 2;
                float low = bias && o + at < O ? widened(bias[o + at]) : 0.0f;
                float high = bias && o + at + 1 < O ? widened(bias[o + at + 1]) : 0.0f;
                unsigned pair = rounded_pair(sum[m][c][2 * h] + low, sum[m][c][2 * h + 1] + high);
                *(unsigned *) (memory + r * WIDE_PITCH + at) = pair;
            }
    __syncthreads();
    for (int c = threadIdx.x; c < TILE * TILE / 8; c += THREADS) {
        int r = c / (TILE / 8), at = c % (TILE / 8) * 8;
        if (n + r < N && o + at < O)
            *(uint4 *) (out + (long long) (n + r) * O + o + at) = *(const uint4 *) (memory + r * WIDE_PITCH + at);
    }
}

// x (N, I), w (I, O), bias (O) or null, I and O multiples of 8  ->  out (N, O)
extern "C" __global__ __launch_bounds__(THREADS)
void linear_3(bf16 *out, const bf16 *x, const bf16 *w, const bf16 *bias, int N, int I, int O) {
    product<false>(out, x, w, bias, N, I, O);
}

// The same of a w that lies in memory as (O, I).
extern "C" __global__ __launch_bounds__(THREADS)
void linear_3_turned(bf16 *out, const bf16 *x, const bf16 *w, const bf16 *bias, int N, int I, int O) {
    product<true>(out, x, w, bias, N, I, O);
}
