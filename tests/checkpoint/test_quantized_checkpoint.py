"""Quantized checkpoints: written in a stream, read without a copy, refused when damaged; 8-bit floats; the disk."""
import ctypes
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinyscout
from tinyscout import reference
from tinyscout.checkpoint import save_checkpoint
from tinyscout.checkpoint.quantize import quantization_error, quantize_checkpoint, quantize_weights
from tinyscout.checkpoint.safetensors_io import mmap_tensors
from tinyscout.cli import main
from tinyscout.config import layer_plan, tiny_config
from tinyscout.inference import prefetch
from tinyscout.inputs.tokenizer import train
from tinyscout.nn.weights import init_weights, named_arrays, tree_map
from tinyscout.reference import Quantized

BF16 = np.dtype(ml_dtypes.bfloat16)
CONFIG = tiny_config(hidden_dim=96, dense_dim=160, layers=layer_plan(4, moe_every=2))
FORMATS = [(4, 32), (4, 128), (8, 32), (8, 128)]


def leaves(weights):
    for path, w in named_arrays(weights):
        yield from ((f"{path}.{n}", leaf) for n, leaf in enumerate(w if isinstance(w, Quantized) else (w,)))


def are_identical(weights, other):
    pairs = list(zip(leaves(weights), leaves(other), strict=True))
    return all(p == q and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
               for (p, a), (q, b) in pairs)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A checkpoint in bfloat16 of several files, with a tokenizer."""
    directory = tmp_path_factory.mktemp("plain") / "model"
    tokenizer = train(["the lighthouse and the sea"], 320, progress=False)
    save_checkpoint(directory, init_weights(CONFIG), CONFIG, "bfloat16", 300_000, tokenizer.save)
    return directory


@pytest.mark.parametrize(("bits", "group"), FORMATS)
def test_in_a_stream_as_in_memory(plain, tmp_path, bits, group):
    report = quantize_checkpoint(plain, tmp_path / "quantized", bits, group)
    before, after = (tinyscout.load(directory) for directory in (plain, tmp_path / "quantized"))
    in_memory = quantize_weights(before.weights, bits, group)
    assert are_identical(after.weights, in_memory)
    assert after.tokenizer is not None
    assert after.config == before.config
    content = json.loads((tmp_path / "quantized/config.json").read_text())
    assert content["quantization_config"] == {"quant_method": "tinyscout", "bits": bits, "group": group}
    assert report.errors.keys() == quantization_error(before.weights, in_memory).keys()
    for path, error in quantization_error(before.weights, in_memory).items():
        np.testing.assert_allclose(report.errors[path], error, rtol=1e-4)
    assert report.bytes_after == sum(leaf.nbytes for _, leaf in leaves(after.weights))
    assert report.bytes_before == sum(leaf.nbytes for _, leaf in leaves(before.weights))
    assert not [name for name in os.listdir(tmp_path / "quantized") if name.startswith(".")]


def test_saved_and_loaded_again(tmp_path):
    model = replace(tinyscout.random_model(CONFIG), weights=quantize_weights(init_weights(CONFIG)))
    tinyscout.save(model, tmp_path)
    loaded = tinyscout.load(tmp_path)
    assert are_identical(loaded.weights, model.weights)
    tokens = np.arange(20)
    np.testing.assert_array_equal(loaded.logits(tokens), model.logits(tokens))
    widened = tinyscout.load(tmp_path, dtype="float32")                 # quantized weights stay quantized
    assert are_identical(widened.weights, model.weights)


def test_mapped_and_aligned(plain, tmp_path):
    """Nothing is copied, and every matrix begins with a cache line, as a kernel wants it."""
    quantize_checkpoint(plain, tmp_path / "quantized")
    for path, leaf in leaves(tinyscout.load(tmp_path / "quantized").weights):
        base = leaf
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap), path
        assert not leaf.flags.writeable
        if leaf.nbytes % 64 == 0:
            assert leaf.ctypes.data % 64 == 0, path


def test_the_safetensors_library_reads_the_files(plain, tmp_path):
    quantize_checkpoint(plain, tmp_path / "quantized", 8, 32)
    expected = load_file(tmp_path / "quantized/model.safetensors")
    tensors = mmap_tensors(tmp_path / "quantized")
    assert expected.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])
    prefix = "language_model.model.layers.1."
    assert tensors[prefix + "self_attn.q_proj.weight.values"].shape == (4, 16, 16, 4)
    assert tensors[prefix + "feed_forward.experts.gate_proj.values"].shape == (4, 6, 16, 16, 4)
    assert tensors[prefix + "feed_forward.experts.up_proj.scales"].dtype == BF16
    assert prefix + "feed_forward.experts.gate_up_proj" not in tensors


def edit_tensors(directory, change):
    tensors = {name: np.array(array) for name, array in mmap_tensors(directory).items()}
    change(tensors)
    (directory / "model.safetensors").unlink()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


NAME = "language_model.model.layers.1.self_attn.q_proj.weight"
DAMAGE = {
    "no scales": (lambda t: t.pop(f"{NAME}.scales"), r"calls for .*q_proj\.weight\.scales, which no file holds"),
    "no values": (lambda t: t.pop(f"{NAME}.values"), r"calls for .*q_proj\.weight, which no file holds"),
    "fewer scales": (lambda t: t.update({f"{NAME}.scales": t[f"{NAME}.scales"][:, :1]}), "contradicts the config"),
    "fewer values": (lambda t: t.update({f"{NAME}.values": t[f"{NAME}.values"][:3]}), "contradicts the config"),
    "other layout": (lambda t: t.update({f"{NAME}.values": t[f"{NAME}.values"].reshape(4, 16, 4, 8)}), "contradicts"),
    "other type": (lambda t: t.update({f"{NAME}.values": t[f"{NAME}.values"].view(np.int8)}), "contradicts"),
    "other scales": (lambda t: t.update({f"{NAME}.scales": t[f"{NAME}.scales"].astype(np.float16)}), "contradicts"),
    "one number": (lambda t: t.update({f"{NAME}.values": np.zeros((), np.uint8)}), "contradicts"),
    "integers alone": (lambda t: t.update({NAME: t.pop(f"{NAME}.values").reshape(-1, 64)[:64].view(np.int8),
                                           "x": t.pop(f"{NAME}.scales")}), "contradicts|int8 without"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_a_clear_error(plain, tmp_path, damage, capsys):
    change, message = damage
    quantize_checkpoint(plain, tmp_path / "quantized", 4, 32)
    edit_tensors(tmp_path / "quantized", change)
    with pytest.raises(ValueError, match=message):
        tinyscout.load(tmp_path / "quantized")
    assert main(["generate", "a", "--model", str(tmp_path / "quantized")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["info", str(tmp_path / "quantized")]) == 1


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.999])
def test_a_truncated_file_is_a_clear_error(plain, tmp_path, keep):
    quantize_checkpoint(plain, tmp_path / "quantized", 4, 32)
    file = tmp_path / "quantized/model.safetensors"
    raw = file.read_bytes()
    file.write_bytes(raw[:int(keep * len(raw)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or not safetensors"):
        tinyscout.load(tmp_path / "quantized")


def test_what_must_not_be_written(plain, tmp_path, capsys):
    quantized = tmp_path / "quantized"
    quantize_checkpoint(plain, quantized)
    before = {file.name: file.read_bytes() for file in quantized.iterdir()}
    for out in (quantized, plain):
        with pytest.raises(ValueError, match="already exists and is not empty"):
            quantize_checkpoint(plain, out)
    with pytest.raises(ValueError, match="quantized already"):
        quantize_checkpoint(quantized, tmp_path / "again")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        quantize_checkpoint(tmp_path, tmp_path / "other")
    bad = tmp_path / "bad"
    shutil.copytree(plain, bad)
    for file in bad.glob("model-*"):
        raw = bytearray(file.read_bytes())
        raw[-4096:] = b"\xff" * 4096                                    # NaN in bfloat16
        file.write_bytes(raw)
    with pytest.raises(ValueError, match="finite"):
        quantize_checkpoint(bad, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert {file.name: file.read_bytes() for file in quantized.iterdir()} == before
    assert main(["quantize", str(plain), "--bits", "4", "--out", str(quantized)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_command(plain, tmp_path, capsys):
    out = tmp_path / "quantized"
    assert main(["quantize", str(plain), "--bits", "8", "--out", str(out), "--check"]) == 0
    output = capsys.readouterr().out
    for text in ("attention", "experts", "dense", "output", "times smaller", "Logits of 64 tokens"):
        assert text in output
    assert main(["info", str(out)]) == 0
    assert "bytes in bfloat16, int8" in capsys.readouterr().out


@pytest.mark.parametrize("kv_dtype", ["float32", "bfloat16", "int8", "int4"])
def test_generating_with_a_quantized_model(tmp_path, capsys, kv_dtype):
    tokenizer = train(["the lighthouse and the sea"], 320, progress=False)
    ids = tokenizer.special
    config = replace(tiny_config(vision=False, vocab_size=tokenizer.vocab_size, hidden_dim=64),
                     bos_id=ids["<|begin_of_text|>"], stop_ids=(ids["<|eot|>"],))
    weights = quantize_weights(init_weights(config), 8)
    tinyscout.save(tinyscout.Model(config, weights, tokenizer, reference), tmp_path)
    command = ["generate", "the sea", "--model", str(tmp_path), "--max-tokens", "3", "--kv-dtype", kv_dtype, "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().out


MEMORY = """
import resource, sys, tracemalloc
from tinyscout.checkpoint.quantize import quantize_checkpoint
import tinyscout.checkpoint.quantize
tinyscout.checkpoint.quantize.CHUNK_SIZE = 1 << 16
tracemalloc.start()
quantize_checkpoint(sys.argv[1], sys.argv[2], 4, 32)
print(tracemalloc.get_traced_memory()[1])
"""


def test_constant_memory(tmp_path):
    """Twice the layers, the same memory: less than a tenth of a layer's largest tensor in float32."""
    peaks = []
    for layers in (2, 6):
        config = tiny_config(vision=False, dim=256, hidden_dim=512, n_experts=16, layers=layer_plan(layers),
                             vocab_size=512)
        tinyscout.save(tinyscout.random_model(config), tmp_path / f"{layers}", "bfloat16")
        done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / f"{layers}", tmp_path / f"{layers}-quantized"],
                              check=True, capture_output=True, text=True, cwd=Path(tinyscout.__file__).parents[1])
        peaks.append(int(done.stdout))
    largest = 16 * 256 * 512 * 4
    assert max(peaks) < largest / 2
    assert peaks[1] < peaks[0] * 1.2


# 8-bit floats

def to_fp8(array):
    """Rows (out, in) in e4m3, each with a scale: what a released FP8 checkpoint holds for a linear layer."""
    scale = np.abs(array).max(-1, keepdims=True) / np.float32(448)
    return (array / scale).astype(ml_dtypes.float8_e4m3fn), scale.astype(np.float32)


def split_experts_to_fp8(tensors):
    """A tensor for every expert, in 8-bit floats."""
    for name in [name for name in tensors if ".experts." in name]:
        stack = tensors.pop(name)
        base = name.rpartition(".")[0]
        matrices = {"gate_proj": stack[..., :stack.shape[-1] // 2], "up_proj": stack[..., stack.shape[-1] // 2:]} \
            if name.endswith("gate_up_proj") else {"down_proj": stack}
        for matrix, experts in matrices.items():
            for e, expert in enumerate(experts):
                q, scale = to_fp8(np.ascontiguousarray(expert.T))
                tensors[f"{base}.{e}.{matrix}.weight"] = q
                tensors[f"{base}.{e}.{matrix}.weight_scale"] = scale.astype(BF16)
                tensors[f"{base}.{e}.{matrix}.input_scale"] = np.ones(1, np.float32)


def stack_experts_in_fp8(tensors):
    """The stacked tensors in 8 bits, with a scale for every column."""
    for name in [name for name in tensors if ".experts." in name]:
        scale = np.abs(tensors[name]).max(-2, keepdims=True) / np.float32(448)
        tensors[name] = (tensors[name] / scale).astype(ml_dtypes.float8_e4m3fn)
        tensors[f"{name}_scale"] = scale


@pytest.mark.parametrize("change", [split_experts_to_fp8, stack_experts_in_fp8])
def test_8_bit_floats_are_read(tmp_path, change, recwarn):
    weights = init_weights(CONFIG)
    save_checkpoint(tmp_path, weights, CONFIG)
    edit_tensors(tmp_path, change)
    read = tinyscout.load(tmp_path).weights
    assert not recwarn.list
    for (path, w), (_, plain) in zip(named_arrays(read), named_arrays(weights), strict=True):
        if ".experts." in path:
            assert w.dtype == BF16
            largest = np.abs(plain).max(-2, keepdims=True)              # of a row of the linear layer: our column
            step = np.maximum(np.abs(plain) / 16, largest / 448 * 2 ** -9)      # e4m3: three bits, and denormals
            assert (np.abs(w.astype(np.float32) - plain) <= step * 1.02 + np.abs(plain) / 128).all(), path
        else:
            np.testing.assert_array_equal(w, plain)


def test_every_8_bit_float(tmp_path):
    """All 254 finite codes, by torch's own reading."""
    torch = pytest.importorskip("torch")
    config = tiny_config(vision=False, vocab_size=256, dim=64)
    save_checkpoint(tmp_path, init_weights(config), config)
    codes = np.tile(np.arange(256, dtype=np.uint8), 16).reshape(64, 64)
    codes[codes & 127 == 127] = 0
    scales = np.linspace(0.5, 2, 64, dtype=np.float32)[:, None]
    name = "model.layers.0.self_attn.q_proj.weight"
    edit_tensors(tmp_path, lambda t: t.update({name: codes.view(ml_dtypes.float8_e4m3fn), f"{name}_scale": scales}))
    expected = (torch.from_numpy(codes).view(torch.float8_e4m3fn).float() * torch.from_numpy(scales)).bfloat16()
    w_q = tinyscout.load(tmp_path).weights.text.blocks[0].attention.w_q
    np.testing.assert_array_equal(w_q.T.astype(np.float32), expected.float().numpy())


def test_8_bit_floats_become_4_bit_integers(tmp_path):
    save_checkpoint(tmp_path / "fp8", init_weights(CONFIG), CONFIG)
    edit_tensors(tmp_path / "fp8", split_experts_to_fp8)
    quantize_checkpoint(tmp_path / "fp8", tmp_path / "int4")
    assert are_identical(tinyscout.load(tmp_path / "int4").weights,
                         quantize_weights(tinyscout.load(tmp_path / "fp8").weights))


def test_8_bit_floats_need_scales(tmp_path):
    save_checkpoint(tmp_path, init_weights(CONFIG), CONFIG)
    edit_tensors(tmp_path, lambda t: (stack_experts_in_fp8(t),
                                      [t.pop(name) for name in list(t) if name.endswith("down_proj_scale")]))
    with pytest.raises(ValueError, match="down_proj_scale, which no file holds"):
        tinyscout.load(tmp_path)


# more model than memory

STREAMS = tiny_config(vision=False, dim=128, hidden_dim=512, n_experts=6, layers=layer_plan(4), vocab_size=64)

FORBIDDEN = """
import ctypes, mmap, sys
import numpy as np
import tinyscout
from tinyscout.inference import prefetch
from tinyscout.nn import scout

prefetch.SLOW_BLOCK_SECONDS = -1.0                        # reading ahead touches no expert either
model, chosen = tinyscout.load(sys.argv[1]), []
libc = ctypes.CDLL(None, use_errno=True)

class RecordingOps:
    def __getattr__(self, name):
        return getattr(model.ops, name)

    def experts(self, x, expert, *args):
        chosen.append(set(expert.ravel().tolist()))
        return model.ops.experts(x, expert, *args)

def forbid(array):
    begin = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    end = array.ctypes.data + sum((n - 1) * s for n, s in zip(array.shape, array.strides)) + array.itemsize
    length = end // mmap.PAGESIZE * mmap.PAGESIZE - begin
    assert length > 0
    assert libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(length), 0) == 0

first = scout.forward([3, 5], (), model.weights, model.config, None, RecordingOps())
for block, experts in zip(model.weights.text.blocks, chosen):
    assert 1 <= len(experts) <= 2
    for e in range(6):
        if (e in experts) == (sys.argv[2] == "chosen"):
            for w in block.feed_forward.experts:
                forbid(w.values[e] if isinstance(w, tuple) else w[e])
again = scout.forward([3, 5], (), model.weights, model.config)
print(np.array_equal(first, again))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")
@pytest.mark.parametrize("bits", [None, 4])
def test_only_chosen_experts_are_read(tmp_path, bits):
    """The pages of the others are forbidden: whoever looks there dies, as does whoever may not see the chosen."""
    directory = tmp_path / "plain"
    tinyscout.save(tinyscout.random_model(STREAMS), directory, "bfloat16")
    if bits:
        quantize_checkpoint(directory, tmp_path / "quantized", bits, 32)
        directory = tmp_path / "quantized"
    for forbidden, code, output in [("others", 0, "True"), ("chosen", -11, "")]:
        done = subprocess.run([sys.executable, "-c", FORBIDDEN, directory, forbidden], capture_output=True, text=True,
                              cwd=Path(tinyscout.__file__).parents[1])
        assert (done.returncode, done.stdout.strip()) == (code, output), done.stderr


def resident_pages(array):
    """Which pages of a mapped array are in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    begin = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    length = array.ctypes.data + array.nbytes - begin
    pages = (ctypes.c_ubyte * (-(-length // mmap.PAGESIZE)))()
    if libc.mincore(ctypes.c_void_p(begin), ctypes.c_size_t(length), pages):
        pytest.skip("no mincore")
    return np.array(pages) & 1


def test_reading_ahead_fetches_what_every_token_needs(tmp_path):
    tinyscout.save(tinyscout.random_model(STREAMS), tmp_path, "bfloat16")
    file = tmp_path / "model.safetensors"
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    block = tinyscout.load(tmp_path).weights.text.blocks[2]
    shared = block.feed_forward.shared.w_down
    if resident_pages(shared).all():
        pytest.skip("this file system does not let go of its pages")
    prefetch.prefetch(block)
    for _ in range(100):
        if resident_pages(shared).all():
            break
        time.sleep(0.02)
    assert resident_pages(shared).all()


@pytest.mark.parametrize("bits", [None, 8])
def test_reading_ahead_asks_for_no_expert(monkeypatch, bits):
    advised: list = []
    monkeypatch.setattr(prefetch, "madvise_willneed", advised.append)
    weights = init_weights(CONFIG)
    block = (quantize_weights(weights, bits) if bits else weights).text.blocks[1]
    prefetch.prefetch(block)
    experts = {id(leaf) for _, leaf in leaves(block.feed_forward.experts)}
    assert {id(leaf) for leaf in advised} == {id(leaf) for _, leaf in leaves(block)} - experts


def test_only_slow_layers_read_ahead(monkeypatch):
    prefetched: list = []
    monkeypatch.setattr(prefetch, "prefetch", prefetched.append)
    assert list(prefetch.prefetch_blocks("abc")) == ["a", "b", "c"]
    assert not prefetched
    monkeypatch.setattr(prefetch, "SLOW_BLOCK_SECONDS", -1.0)
    assert list(prefetch.prefetch_blocks("abc")) == ["a", "b", "c"]
    assert prefetched == ["c", "a"]


def test_arrays_of_no_file_are_left_alone():
    prefetch.prefetch(tree_map(np.asarray, init_weights(STREAMS)))
    prefetch.madvise_willneed(np.zeros(0))
