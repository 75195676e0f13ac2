"""The simulated GPU: threads, memory, warps, and what it says of a kernel that is wrong."""
import numpy as np
import pytest
from cuda_text import compile_text, require_compiler, run
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyscout import simulator
from tinyscout.simulator import Fault

require_compiler()

I32, F32 = np.int32, np.float32


def numbers(n, dtype=F32, seed=0):
    return np.random.default_rng(seed).integers(-50, 50, n).astype(dtype)


# Threads

def test_every_thread_of_a_grid_in_three_dimensions_knows_its_indices():
    out = np.zeros((2, 3, 2, 2, 3, 5), I32)
    run("""int *out) {
        int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + threadIdx.x + 10 * threadIdx.y
            + 100 * threadIdx.z; }""", (2, 3, 2), (5, 3, 2), [out])
    block, z, y, x = np.meshgrid(np.arange(12), np.arange(2), np.arange(3), np.arange(5), indexing="ij")
    np.testing.assert_array_equal(out.ravel(), (block * 1000 + x + 10 * y + 100 * z).ravel())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 100), st.integers(1, 5), st.integers(0, 1000))
def test_nested_branches_and_loops_that_end_differently(threads, blocks, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 40, threads * blocks).astype(I32)
    out = np.zeros_like(x)
    run("""const int *x, int *out) {
        int i = blockIdx.x * blockDim.x + threadIdx.x, n = x[i], total = 0;
        if (n == 7) { out[i] = -1; return; }
        for (int j = 0; j < n; j++) {
            if (j % 3 == 0) continue;
            if (j > 25) break;
            int k = j;
            while (k > 1) { if (k % 2) { total += 5; k = 3 * k + 1; } else { total -= 1; k /= 2; } }
        }
        switch (n % 5) { case 0: total += 1; break; case 1: total *= 2; break; case 2: total -= 7;
                         case 3: total ^= 21; break; default: total = -total; }
        out[i] = total; }""", (blocks,), (threads,), [x, out])

    def expected(n):
        if n == 7:
            return -1
        total = 0
        for j in range(n):
            if j % 3 == 0:
                continue
            if j > 25:
                break
            while j > 1:
                total, j = (total + 5, 3 * j + 1) if j % 2 else (total - 1, j // 2)
        match n % 5:
            case 0:
                return total + 1
            case 1:
                return total * 2
            case 2 | 3:
                return (total - 7 * (n % 5 == 2)) ^ 21
        return -total
    np.testing.assert_array_equal(out, [expected(int(n)) for n in x])


def test_functions_local_arrays_and_constants():
    x, out = numbers(64, I32), np.zeros(64, I32)
    run("""
        __constant__ int table[4] = {3, 1, 4, 1};
        __device__ int counter = 40;
        __device__ __noinline__ int permute(const int *x, int n) {
            int local[8];
            for (int i = 0; i < 8; i++) local[(i * 3 + n) & 7] = x[i] + table[i & 3];
            return local[n & 7] * 10 + local[(n + 1) & 7]; }
        extern "C" __global__ void k(const int *x, int *out) {
            out[threadIdx.x] = permute(x + threadIdx.x % 8, threadIdx.x) + permute(x, 3) + counter; }""",
        (1,), (64,), [x, out])

    def permute(x, n):
        local = {(i * 3 + n) % 8: int(x[i]) + [3, 1, 4, 1][i % 4] for i in range(8)}
        return local[n % 8] * 10 + local[(n + 1) % 8]
    np.testing.assert_array_equal(out, [permute(x[n % 8:], n) + permute(x, 3) + 40 for n in range(64)])


def test_a_pointer_to_either_memory():
    x, out = numbers(64), np.zeros(64, F32)
    run("""const float *x, float *out, int half) {
        __shared__ float tile[64];
        tile[threadIdx.x] = 2 * x[threadIdx.x];
        __syncthreads();
        const float *from = threadIdx.x < half ? tile : x;
        out[threadIdx.x] = from[63 - threadIdx.x]; }""", (1,), (64,), [x, out, I32(20)])
    np.testing.assert_array_equal(out, np.where(np.arange(64) < 20, 2, 1) * x[::-1])


def test_a_null_pointer_and_numbers_of_every_size():
    out = np.zeros(2, np.float64)
    run("""double *out, const float *none, unsigned char a, short b, long long c, float d, double e) {
        out[0] = a + b + c + d + e; out[1] = none ? none[0] : -1.0; }""", (1,), (1,),
        [out, np.uint64(0), np.uint8(200), np.uint16(5), np.int64(1 << 20), F32(0.5), np.float64(0.25)])
    assert out.tolist() == [205.75 + 2.0 ** 20, -1]


def test_two_arguments_may_be_one_array():
    x = numbers(64)
    before = x.copy()
    run("const float *x, float *out) { out[threadIdx.x] = x[threadIdx.x] + 1; }", (1,), (64,), [x, x])
    np.testing.assert_array_equal(x, before + 1)


# Blocks and warps

SUM = """const float *x, float *out) {
    __shared__ float tile[256];
    int i = threadIdx.x;
    tile[i] = x[blockIdx.x * blockDim.x + i];
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (i < half) tile[i] += tile[i + half];
    }
    if (i == 0) out[blockIdx.x] = tile[0]; }"""


def test_a_sum_in_shared_memory():
    x, out = numbers(1024), np.zeros(4, F32)
    run(SUM, (4,), (256,), [x, out])
    np.testing.assert_array_equal(out, x.reshape(4, 256).sum(1))


def test_shuffles_and_votes():
    x, out = numbers(32, I32), np.zeros((12, 32), I32)
    run("""const int *x, int *out) {
        int v = x[threadIdx.x], all = 0xffffffff; int *o = out + threadIdx.x;
        o[0] = __shfl_sync(all, v, 5); o[32] = __shfl_up_sync(all, v, 3); o[64] = __shfl_down_sync(all, v, 3, 8);
        o[96] = __shfl_xor_sync(all, v, 9); o[128] = __shfl_sync(all, v, threadIdx.x / 2, 16);
        o[160] = __ballot_sync(all, v > 0); o[192] = __any_sync(all, v == 1000); o[224] = __all_sync(all, v < 1000);
        o[256] = __match_any_sync(all, v % 3); o[288] = __reduce_add_sync(all, v); o[320] = __reduce_min_sync(all, v);
        if (threadIdx.x & 1) { o[352] = __activemask(); __syncwarp(0xaaaaaaaa); } }""", (1,), (32,), [x, out])
    lane = np.arange(32)
    equal_lanes = [np.sum(1 << lane[np.fmod(x, 3) == v].astype(np.uint64)) for v in np.fmod(x, 3)]
    down = np.where(lane % 8 + 3 < 8, x[np.minimum(lane + 3, 31)], x)
    expected = [np.full(32, x[5]), np.where(lane < 3, x, x[lane - 3]), down, x[lane ^ 9],
                x[lane // 16 * 16 + lane // 2 % 16], np.full(32, np.sum((x > 0) << lane)), np.zeros(32), np.ones(32),
                np.array(equal_lanes), np.full(32, x.sum()), np.full(32, x.min()), (lane & 1) * 0xaaaaaaaa]
    np.testing.assert_array_equal(out.view(np.uint32), np.array(expected).astype(np.int64).astype(np.uint32))


def test_atomics_on_both_memories():
    x, out = np.abs(numbers(128, I32)), np.zeros(8, I32)
    f, before = np.zeros(1, F32), np.zeros(128, I32)
    out[3] = 1000
    run("""const int *x, int *out, float *f, int *before) {
        __shared__ int count;
        if (threadIdx.x == 0) count = 0;
        __syncthreads();
        int v = x[blockIdx.x * 64 + threadIdx.x];
        atomicAdd(&count, v); atomicMax(out + 2, v); atomicMin(out + 3, v); atomicOr(out + 4, v); atomicAdd(f, 0.5f);
        before[blockIdx.x * 64 + threadIdx.x] = atomicAdd(out + 5, 1);
        if (atomicCAS(out + 6, 0, threadIdx.x + 1) == 0) out[7 * (blockIdx.x == 0)] = 77;
        __syncthreads();
        if (threadIdx.x == 0) out[blockIdx.x] = count; }""", (2,), (64,), [x, out, f, before])
    assert out[:2].tolist() == x.reshape(2, 64).sum(1).tolist()
    assert out[2:].tolist() == [x.max(), x.min(), np.bitwise_or.reduce(x), 128, 1, 77]
    assert f[0] == 64
    assert sorted(before) == list(range(128))


def test_counts_over_a_block():
    x, out = numbers(96, I32), np.zeros((3, 96), I32)
    run("""const int *x, int *out) {
        int v = x[threadIdx.x]; out[threadIdx.x] = __syncthreads_count(v > 0);
        out[96 + threadIdx.x] = __syncthreads_or(v == 1000); out[192 + threadIdx.x] = __syncthreads_and(v < 1000); }""",
        (1,), (96,), [x, out])
    assert ([np.sum(x > 0), 0, 1] == out.T).all()


def test_a_named_barrier_of_two_warps():
    out = np.zeros(64, I32)
    run("""int *out) {
        __shared__ int box[32];
        int lane = threadIdx.x % 32;
        if (threadIdx.x < 32) { box[lane] = lane * lane;
            asm volatile("bar.arrive 1, 64;" ::: "memory"); out[lane] = 1; }
        else { asm volatile("bar.sync 1, 64;" ::: "memory"); out[32 + lane] = box[31 - lane]; } }""",
        (1,), (64,), [out])
    assert out.tolist() == [1] * 32 + [n * n for n in range(31, -1, -1)]


def test_early_ends_do_not_hold_up_a_barrier():
    x, out = numbers(128), np.zeros(128, F32)
    run("""const float *x, float *out) {
        __shared__ float tile[128];
        if (threadIdx.x >= 96) return;
        tile[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        out[threadIdx.x] = tile[95 - threadIdx.x]; }""", (1,), (128,), [x, out])
    np.testing.assert_array_equal(out, np.concatenate([x[95::-1], np.zeros(32, F32)]))


MMA = """#include <cuda_bf16.h>
extern "C" __global__ void k(const unsigned short *a, const unsigned short *b, float *out) {
    __shared__ __align__(16) unsigned short left[16 * 16], right[8 * 16];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) left[i] = a[i];
    for (int i = lane; i < 128; i += 32) right[i] = b[i];
    __syncwarp();
    unsigned x[4], y[2]; float d[4] = {1, 2, 3, 4};
    unsigned from = (unsigned)__cvta_generic_to_shared(left + lane % 16 * 16 + lane / 16 * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(from) : "memory");
    from = (unsigned)__cvta_generic_to_shared(right + lane % 16 * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
        : "=r"(y[0]), "=r"(y[1]) : "r"(from) : "memory");
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.KIND.KIND.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]),
        "r"(y[0]), "r"(y[1]));
    for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i]; }"""


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_a_product_of_matrices_in_a_warp(kind):
    a, b, out = numbers((16, 16)), numbers((16, 8), seed=1), np.zeros((16, 8), F32)
    halves = [x.astype(np.float16).view(np.uint16) if kind == "f16" else (x.view(np.uint32) >> 16).astype(np.uint16)
              for x in (a, b)]
    run(MMA.replace("KIND", kind), (1,), (32,), [*halves, out])
    np.testing.assert_array_equal(out, a @ b + np.tile([[1, 2]], (16, 4)) + 2 * (np.arange(16) >= 8)[:, None])


def test_a_product_of_bytes_in_a_warp():
    a, b, out = numbers((16, 32), np.int8), numbers((8, 32), np.int8, seed=1), np.zeros((16, 8), I32)
    run("""const unsigned *a, const unsigned *b, int *out) {
        int row = threadIdx.x / 4, four = threadIdx.x % 4; int d[4] = {0, 0, 0, 0};
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[row * 8 + four]), "r"(a[(row + 8) * 8 + four]),
            "r"(a[row * 8 + four + 4]), "r"(a[(row + 8) * 8 + four + 4]), "r"(b[row * 8 + four]),
            "r"(b[row * 8 + four + 4]));
        for (int i = 0; i < 4; i++) out[(row + i / 2 * 8) * 8 + four * 2 + i % 2] = d[i]; }""",
        (1,), (32,), [a, b, out])
    np.testing.assert_array_equal(out, a.astype(I32) @ b.T.astype(I32))


COPY = """const float *x, float *out, int valid) {
    __shared__ __align__(16) float tile[2][128];
    unsigned at = (unsigned)__cvta_generic_to_shared(tile[0] + threadIdx.x * 4), next = at + 512;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
        :: "r"(at), "l"(x + threadIdx.x * 4), "r"(valid) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(next), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + i] = tile[0][threadIdx.x * 4 + i];
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[128 + threadIdx.x] = tile[1][threadIdx.x * 4]; }"""


def test_asynchronous_copies():
    x, out = numbers(128), np.zeros(160, F32)
    run(COPY, (1,), (32,), [x, out, I32(8)])
    np.testing.assert_array_equal(out[:128], np.where(np.arange(128) % 4 < 2, x, 0))
    np.testing.assert_array_equal(out[128:], x[:32])


# What is wrong

LOCATION = r"\.cu:{}: block \({}, 0, 0\) thread \({}, 0, 0\): "
ARRAYS = [numbers(256), np.zeros(256, F32)]


def fault(text, pattern, arguments=None, grid=(1,), block=(64,), **options):
    with pytest.raises(Fault, match=pattern):
        run(text, grid, block, [a.copy() for a in ARRAYS] if arguments is None else arguments, **options)


def test_a_missing_barrier_is_a_race():
    fault(SUM.replace("__syncthreads();", ""), LOCATION.format(7, 0, r"\d+") + r"race: reads shared memory that thread "
          r"\(\d+, 0, 0\) of block \(0, 0, 0\) wrote at \w+\.cu:4, with no barrier in between", block=(256,))


def test_a_missing_barrier_before_the_next_round_is_a_race():
    fault("""const float *x, float *out) {
        __shared__ float tile[64];
        for (int round = 0; round < 2; round++) {
            tile[threadIdx.x] = x[threadIdx.x + round];
            __syncthreads();
            out[threadIdx.x] += tile[63 - threadIdx.x];
        } }""", LOCATION.format(4, 0, r"\d+") + "race: writes shared memory that .* read at .*:6, with no barrier")


def test_syncwarp_orders_a_warp_and_no_more():
    text = """const float *x, float *out) {
        __shared__ float tile[64];
        tile[threadIdx.x] = x[threadIdx.x];
        __syncwarp();
        out[threadIdx.x] = tile[threadIdx.x ^ MASK]; }"""
    run(text.replace("MASK", "1"), (1,), (64,), [a.copy() for a in ARRAYS])
    fault(text.replace("MASK", "32"), "race: reads shared memory")
    fault(text.replace("MASK", "1").replace("__syncwarp();", ""), "race: reads shared memory")


def test_blocks_race_in_global_memory():
    fault("const float *x, float *out) { out[threadIdx.x] = x[threadIdx.x]; }", LOCATION.format(1, 1, r"\d+") +
          r"race: writes argument 1 \(float32, 1024 bytes\) that thread .* of block \(0, 0, 0\) wrote|same instruction",
          grid=(2,))
    fault("const float *x, float *out) { if (blockIdx.x == 0) out[threadIdx.x] = 1;\n"
          "else if (threadIdx.x == 0) out[100] = out[0]; }",
          "race: (reads|writes) argument 1 .* with nothing in between", grid=(2,))


def test_two_threads_write_the_same_bytes():
    fault("const float *x, float *out) { out[threadIdx.x / 2] = 1; }",
          LOCATION.format(1, 0, 0) + "race: .* writes the same bytes of argument 1 .* in the same instruction")


def test_an_atomic_and_a_plain_access_race():
    fault("const float *x, float *out) { atomicAdd(out, 1.f); out[1 + threadIdx.x] = out[0]; }",
          "race: reads argument 1")


def test_reading_what_nobody_has_written():
    fault("const float *x, float *out) { __shared__ float tile[64]; if (threadIdx.x) tile[threadIdx.x] = 1;\n"
          "__syncthreads(); out[threadIdx.x] = tile[threadIdx.x]; }",
          LOCATION.format(2, 0, 0) + "reads uninitialised shared memory")
    text = "const float *x, float *out) { if (threadIdx.x != 5) out[threadIdx.x] = x[0];\nout[threadIdx.x] += 1; }"
    run(text, (1,), (64,), [a.copy() for a in ARRAYS])
    fault(text, LOCATION.format(2, 0, 5) + "reads uninitialised argument 1 ", unwritten=(1,))


def test_outside_an_array():
    text = "const float *x, float *out, int offset) { out[threadIdx.x] = x[(int)threadIdx.x + offset]; }"
    fault(text, LOCATION.format(1, 0, 0) + r"reads 4 bytes 16 bytes past the end of argument 0 \(float32, 1024 bytes\)",
          [*ARRAYS, I32(260)])
    fault(text, "reads 4 bytes just past the end", [*ARRAYS, I32(193)])
    fault(text, LOCATION.format(1, 0, 0) + "reads 4 bytes 8 bytes before the start of argument 0", [*ARRAYS, I32(-2)])
    fault("const float *x, float *out) { extern __shared__ float tile[]; tile[threadIdx.x] = 1; }",
          r"thread \(32, 0, 0\): writes 4 bytes just past the end of shared memory \(128 bytes\)", shared=128)
    fault(text, "nothing, an address before all arrays", [np.uint64(0), ARRAYS[1], I32(0)])


def test_misaligned():
    fault("const float *x, float *out) { *(float4 *)out = *(const float4 *)(x + 1); }",
          "reads 16 bytes at byte 4 of argument 0 .*, which is not aligned to 16 bytes", block=(1,))


def test_what_is_read_only_stays():
    x = ARRAYS[0].copy()
    x.flags.writeable = False
    fault("float *x, float *out) { x[threadIdx.x] = 1; }", "writes argument 0 .*, which is read only", [x, ARRAYS[1]])


def test_a_barrier_that_not_all_reach():
    fault("""const float *x, float *out) {
        if (threadIdx.x < 32) {
            __syncthreads();
        }
        out[threadIdx.x] = x[threadIdx.x]; }""", LOCATION.format(3, 0, 0) +
          r"divergent barrier: waits here for all threads of its block, but thread \(32, 0, 0\) of block .* has ended")
    fault("""const float *x, float *out) {
        if (threadIdx.x < 32) { out[0] = 1; __syncthreads(); out[1] = 1;
        } else {
            out[2] = 1; __syncthreads(); out[3] = 1; } }""", "same instruction|divergent barrier: .* waits at")


def test_a_deadlock():
    fault("""const float *x, float *out) {
        if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;");
        else asm volatile("bar.sync 2, 64;"); }""",
          r"deadlock: all threads wait: 32 threads, the first thread \(0, 0, 0\) of "
          r"block \(0, 0, 0\), wait at \w+\.cu:2; 32 threads, .* wait at \w+\.cu:3")


def test_an_endless_loop():
    fault("const float *x, volatile float *out) { while (out[0] == 0) out[1 + threadIdx.x] = 1; }",
          r"\.cu:1: block .* thread .*: exceeded the instruction limit", max_instructions=2000)


def test_lanes_that_take_no_part():
    fault("const float *x, float *out) { if (threadIdx.x < 16) "
          "out[threadIdx.x] = __shfl_sync(0xffff, x[threadIdx.x], 20); }",
          r"shuffle from thread \(20, 0, 0\) of block \(0, 0, 0\), which does not take part")
    fault("const float *x, float *out) { if (threadIdx.x < 16) "
          "out[threadIdx.x] = __shfl_sync(0xff, x[threadIdx.x], 0); }",
          r"thread \(8, 0, 0\): shfl by a lane that its own mask does not name")


def test_copies_that_nobody_waits_for():
    fault(COPY.replace("wait_group 1", "wait_group 2"),
          "reads shared memory that an asynchronous copy is still filling",
          [numbers(128), np.zeros(160, F32), I32(16)], block=(32,))


def test_a_trap_and_a_function_that_is_not_there():
    fault("const float *x, float *out) { if (threadIdx.x == 40) __trap(); }", LOCATION.format(1, 0, 40) + "trap")
    fault("const float *x, float *out) { if (threadIdx.x == 40) printf(\"%d\", 1); }",
          LOCATION.format(1, 0, 40) + "calls vprintf, which the simulator does not know")


@pytest.mark.parametrize(("arguments", "problem"), [
    ([np.zeros(4), np.zeros(4, F32), I32(1)], "argument 0 is an array of float64, but the kernel reads or writes f32"),
    ([np.zeros(4, I32), np.zeros(4, F32), I32(1)], "argument 0 is an array of int32"),
    ([np.zeros(4, F32), np.zeros(4, F32)], "2 arguments, but it takes 3"),
    ([np.zeros(4, F32), np.zeros(4, F32), 1], "argument 2 is a int: arguments are NumPy arrays and NumPy scalars"),
    ([np.zeros(4, F32), np.zeros(4, F32), np.int64(1)], "argument 2 is int64, but the parameter is u32"),
    ([np.zeros(4, F32), np.zeros(4, F32), F32(1)], "argument 2 is float32, but the parameter is u32"),
    ([np.zeros(4, F32), np.uint64(99), I32(1)], "argument 1 is a number, but the kernel uses it as an address"),
    ([np.zeros(4, F32), np.zeros(4, F32), np.zeros(1, I32)], "argument 2 is an array, but the parameter is a number"),
    ([np.zeros((4, 4), F32)[:, 1], np.zeros(4, F32), I32(1)], "argument 0 is not row-major"),
])
def test_arguments_that_do_not_fit(arguments, problem):
    fault("const float *x, float *out, int n) { out[threadIdx.x] = n * x[threadIdx.x]; }",
          problem, arguments, block=(4,))


def test_a_launch_that_cannot_be():
    text = "float *x) { x[0] = 1; }"
    fault(text, "1056 threads in a block, more than 1024", [np.zeros(1, F32)], block=(1056,))
    fault(text, "240000 bytes of shared memory, more than", [np.zeros(1, F32)], shared=240000)
    fault("extern \"C\" __global__ void __launch_bounds__(64) k(float *x) {}", "96 threads in a block, more than 64",
          [np.zeros(1, F32)], block=(96,))
    with pytest.raises(ValueError, match="no kernel nope, only k"):
        simulator.run(compile_text("extern \"C\" __global__ void k(float *x) {}"), "nope", (1,), (1,), 0, [])
