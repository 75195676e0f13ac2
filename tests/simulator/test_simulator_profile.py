"""What a profile counts, for patterns of access whose counts are known, and the command that prints it."""
import numpy as np
import pytest
from cuda_text import compile_text, require_compiler, run

from tinyscout.cli import main
from tinyscout.simulator import Profile

require_compiler()

F32 = np.float32
READ = """const float *x, float *out) {{
    float value = x[{index}];
    out[threadIdx.x] = value; }}"""
SHARED = """float *out) {{
    __shared__ float tile[{size}];
    for (int i = threadIdx.x; i < {size}; i += 32) tile[i] = i;
    __syncthreads();
    float value = tile[{index}];
    out[threadIdx.x] = value; }}"""


def count_line(text, line, arguments, block=(32,)):
    """Run a kernel  ->  the counts of one of its lines"""
    profile = Profile()
    run(text, (1,), block, arguments, profile=profile)
    [counts] = [counts for location, counts in profile.lines.items() if location.endswith(f":{line}")]
    return counts


@pytest.mark.parametrize(("index", "sectors", "ideal"), [
    ("threadIdx.x", 4, 4),              # side by side: 128 bytes
    ("threadIdx.x + 1", 5, 4),          # off by one: a sector more
    ("threadIdx.x * 2", 8, 4),          # every second number
    ("threadIdx.x * 32", 32, 4),        # a column
    ("0", 1, 1),                        # all the same
])
def test_sectors_of_global_memory(index, sectors, ideal):
    counts = count_line(READ.format(index=index), 2, [np.zeros(1024, F32), np.zeros(32, F32)])
    assert (counts.requests, counts.sectors, counts.ideal_sectors) == (1, sectors, ideal)


def test_wide_loads_move_as_much_for_fewer_requests():
    text = "const float4 *x, float4 *out) {\n out[threadIdx.x] = x[threadIdx.x]; }"
    counts = count_line(text, 2, [np.zeros(256, F32), np.zeros(256, F32)], (64,))
    assert (counts.requests, counts.sectors, counts.ideal_sectors) == (4, 64, 64)


@pytest.mark.parametrize(("size", "index", "wavefronts"), [
    (32, "threadIdx.x", 1), (32, "31 - threadIdx.x", 1), (32, "5", 1),
    (64, "threadIdx.x * 2", 2),         # two lanes to a bank
    (1024, "threadIdx.x * 32", 32),     # all lanes to one bank: a column of a tile
    (1056, "threadIdx.x * 33", 1),      # the same column, each row padded by a number
])
def test_banks_of_shared_memory(size, index, wavefronts):
    counts = count_line(SHARED.format(size=size, index=index), 5, [np.zeros(32, F32)])
    assert (counts.wavefronts, counts.ideal_wavefronts) == (wavefronts, 1)


def test_lanes_of_a_branch():
    text = """float *out) {
        if (threadIdx.x % 4 == 0) {
            out[threadIdx.x] = 1;
        } }"""
    counts = count_line(text, 3, [np.zeros(64, F32)], (64,))
    assert counts.lanes / counts.instructions == 8


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scaled.cu"
    path.write_text("""extern "C" __global__ void scaled(float *out, const float *x, float by, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = by * x[i];
}
""")
    assert compile_text(path.read_text())
    return path


ARGUMENTS = ["out=f32[100]", "x=f32[100]", "by=f32:2", "n=i32:100"]


def test_the_command_prints_a_line_for_each_line(file, capsys):
    assert main(["profile", str(file), "scaled", "--grid", "2", "--block", "64", *ARGUMENTS]) == 0
    out = capsys.readouterr().out
    assert "if (i < n) out[i] = by * x[i];" in out
    assert "2 blocks of 64 threads; on sm_80" in out
    [row] = [line.split() for line in out.splitlines() if line.startswith("3 ")]
    assert row[3:6] == ["8", "26", "26"]            # a read and a write of 400 bytes by four warps


def test_the_command_says_what_is_wrong(file, capsys):
    wrong = [*ARGUMENTS[:3], "n=i32:101"]
    assert main(["profile", str(file), "scaled", "--grid", "2", "--block", "64", *wrong]) == 1
    assert capsys.readouterr().out == ("scaled.cu:3: block (1, 0, 0) thread (36, 0, 0): reads 4 bytes just past the "
                                       "end of argument 1 (float32, 400 bytes)\n")


@pytest.mark.parametrize(("arguments", "problem"), [
    (["scaled", "x=q8[4]"], "is not an argument such as"), (["scaled", "n=i32:1.5"], "'1.5' is not a valid i32"),
    (["scaled", "--grid", "0,x"], "is not a list of one to three sizes"), (["nope"], "no kernel nope, only scaled")])
def test_bad_arguments(file, arguments, problem, capsys):
    assert main(["profile", str(file), *arguments]) == 2
    assert problem in capsys.readouterr().err
