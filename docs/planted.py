"""Faults planted in the CUDA kernels while the book is built, for the traps of cuda_linear.md and cuda_attention.md."""
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tinyscout import reference, simulator
from tinyscout.kernels import nvrtc
from tinyscout.kernels.cuda import matrix, versions
from tinyscout.kernels.launch import Launch, convert_arguments, parse_parameters
from tinyscout.simulator import Fault, Profile

FEW, MANY = 72, 200             # rows and outputs, and inputs: four stages of linear_3.cu
T, H, K, D = 150, 2, 1, 64      # queries, heads, key heads and channels: several tiles of keys


def random_array(seed, is_bf16, *shape):
    """Normal numbers as float32, or as the bits of bfloat16."""
    x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if is_bf16 else x


def as_floats(x):
    return (x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x


def run_planted(file, name, launch, out, inputs, arguments, fault):
    """Run a kernel of csrc/cuda in the simulator after a change  ->  its Profile.  Raises Fault.

    fault: (file, text, replacement), or None
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(nvrtc.SOURCE_DIR, Path(scratch) / "cuda")
        if fault:
            changed, old, new = fault
            text = (copy / changed).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise ValueError(f"{changed} has {old!r} {text.count(old)} times")
            (copy / changed).write_text(text.replace(old, new), encoding="utf-8")
        ptx = nvrtc.compile_ptx(copy / file)
    profile = Profile()
    simulator.run(ptx, name, *launch, convert_arguments(name, parse_parameters(ptx, name), (out, *inputs, *arguments)),
                  profile=profile)
    return profile


def message(run, out, expected):
    """The simulator's message, or how far the result is off."""
    try:
        run()
    except Fault as fault:
        return str(fault)
    error = np.abs(as_floats(out) - expected).max()
    return f"nothing; the result is off by up to {error:.2g}"


def break_linear(step, *fault):
    """What the simulator says of linear_1, 2 or 3 after a change."""
    is_bf16, name = step == 3, f"linear_{step}"
    x, w = random_array(0, is_bf16, FEW, MANY), random_array(1, is_bf16, MANY, FEW)
    out = np.zeros((FEW, FEW), x.dtype)
    launch, strides = getattr(versions, f"{name}_launch")(FEW, FEW), [] if is_bf16 else [FEW, 1]
    arguments = [None, FEW, MANY, FEW, *strides]
    return message(lambda: run_planted(f"{name}.cu", name, launch, out, [x, w], arguments, fault or None), out,
                   as_floats(x) @ as_floats(w))


def break_attention(step, *fault):
    """What the simulator says of grouped_query_attention_1, 2 or 3 after a change."""
    is_bf16 = step == 3
    q, k, v = (random_array(n, is_bf16, 1, T, heads, D) for n, heads in enumerate((H, K, K)))
    name, out = f"grouped_query_attention_{step}" + is_bf16 * f"_{D}", np.zeros_like(q)
    launch = (versions.attention_1_launch(1, T, H), matrix.attention_2_launch(1, T, H, K, D),
              versions.attention_3_launch(1, T, H, K, D))[step - 1]
    arguments = [True, 0, 0, 1, T, T, H, K, D]
    return message(lambda: run_planted(f"attention_{step}.cu", name, launch, out, [q, k, v], arguments, fault or None),
                   out, reference.grouped_query_attention(*map(as_floats, (q, k, v))))


def break_decoding(*fault, splits=4):
    """What the simulator says of attention_split_kv.cu after a change: one query over T keys."""
    q, k, v = (random_array(n, False, 1, tokens, heads, D) for n, (tokens, heads) in
               enumerate(((1, H), (T, K), (T, K))))
    partials, out = np.zeros((H, splits, D + 2), np.float32), np.zeros_like(q)

    def run():
        run_planted("attention_split_kv.cu", "attention_split_kv", Launch((splits, K, 1), (128,)), partials, [q, k, v],
                    [True, 0, 0, 1, 1, T, H, K, D], fault or None)
        run_planted("attention_split_kv.cu", "attention_combine", Launch((H,), (128,)), out, [partials], [splits, D],
                    fault or None)
    return message(run, out, reference.grouped_query_attention(q, k, v))
