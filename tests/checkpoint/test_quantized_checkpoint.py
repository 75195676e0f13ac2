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
from tinyscout.inputs.tokenizer import train
from tinyscout.inference import prefetch
from tinyscout.nn.weights import init_weights, named_arrays, tree_map
from tinyscout.reference import Quantized

BF16 = np.dtype(ml_dtypes.bfloat16)
CONFIG = tiny_config(hidden_dim=96, dense_dim=160, layers=layer_plan(4, moe_every=2))
FORMS = [(4, 32), (4, 128), (8, 32), (8, 128)]


def leaves(weights):
    for path, w in named_arrays(weights):
        yield from ((f"{path}.{n}", leaf) for n, leaf in enumerate(w if isinstance(w, Quantized) else (w,)))


def same(ours, theirs):
    pairs = list(zip(leaves(ours), leaves(theirs), strict=True))
    return all(p == q and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
               for (p, a), (q, b) in pairs)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A checkpoint in bfloat16 of several files, with a tokenizer."""
    directory = tmp_path_factory.mktemp("plain") / "model"
    tokenizer = train(["the lighthouse and the sea"], 320, progress=False)
    save_checkpoint(directory, init_weights(CONFIG), CONFIG, "bfloat16", 300_000, tokenizer.save)
    return directory


@pytest.mark.parametrize(("bits", "group"), FORMS)
def test_in_a_stream_as_in_memory(plain, tmp_path, bits, group):
    report = quantize_checkpoint(plain, tmp_path / "few", bits, group)
    before, after = (tinyscout.load(directory) for directory in (plain, tmp_path / "few"))
    in_memory = quantize_weights(before.weights, bits, group)
    assert same(after.weights, in_memory)
    assert after.tokenizer is not None
    assert after.config == before.config
    told = json.loads((tmp_path / "few/config.json").read_text())
    assert told["quantization_config"] == {"quant_method": "tinyscout", "bits": bits, "group": group}
    assert report.errors.keys() == quantization_error(before.weights, in_memory).keys()
    for path, loss in quantization_error(before.weights, in_memory).items():
        np.testing.assert_allclose(report.errors[path], loss, rtol=1e-4)
    assert report.bytes_after == sum(leaf.nbytes for _, leaf in leaves(after.weights))
    assert report.bytes_before == sum(leaf.nbytes for _, leaf in leaves(before.weights))
    assert not [name for name in os.listdir(tmp_path / "few") if name.startswith(".")]


@pytest.mark.parametrize("at_once", [1, 1 << 23])
def test_saved_and_loaded_again(tmp_path, at_once):
    few = replace(tinyscout.random_model(CONFIG), weights=quantize_weights(init_weights(CONFIG)))
    tinyscout.save(few, tmp_path)
    again = tinyscout.load(tmp_path)
    assert same(again.weights, few.weights)
    tokens = np.arange(20)
    np.testing.assert_array_equal(again.logits(tokens), few.logits(tokens))
    wide = tinyscout.load(tmp_path, dtype="float32")                    # what is quantized stays so
    assert same(wide.weights, few.weights)


def test_mapped_and_aligned(plain, tmp_path):
    """Nothing is copied, and every matrix begins with a cache line, as a kernel wants it."""
    quantize_checkpoint(plain, tmp_path / "few")
    for path, leaf in leaves(tinyscout.load(tmp_path / "few").weights):
        base = leaf
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap), path
        assert not leaf.flags.writeable
        if leaf.nbytes % 64 == 0:
            assert leaf.ctypes.data % 64 == 0, path


def test_their_library_reads_our_files(plain, tmp_path):
    quantize_checkpoint(plain, tmp_path / "few", 8, 32)
    theirs, ours = load_file(tmp_path / "few/model.safetensors"), mmap_tensors(tmp_path / "few")
    assert theirs.keys() == ours.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    at = "language_model.model.layers.1."
    assert ours[at + "self_attn.q_proj.weight.values"].shape == (4, 16, 16, 4)
    assert ours[at + "feed_forward.experts.gate_proj.values"].shape == (4, 6, 16, 16, 4)
    assert ours[at + "feed_forward.experts.up_proj.scales"].dtype == BF16
    assert at + "feed_forward.experts.gate_up_proj" not in ours


def edited(directory, change):
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
    quantize_checkpoint(plain, tmp_path / "few", 4, 32)
    edited(tmp_path / "few", change)
    with pytest.raises(ValueError, match=message):
        tinyscout.load(tmp_path / "few")
    assert main(["generate", "a", "--model", str(tmp_path / "few")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["info", str(tmp_path / "few")]) == 1


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.999])
def test_a_truncated_file_is_a_clear_error(plain, tmp_path, keep):
    quantize_checkpoint(plain, tmp_path / "few", 4, 32)
    file = tmp_path / "few/model.safetensors"
    raw = file.read_bytes()
    file.write_bytes(raw[:int(keep * len(raw)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or not safetensors"):
        tinyscout.load(tmp_path / "few")


def test_what_must_not_be_written(plain, tmp_path, capsys):
    few = tmp_path / "few"
    quantize_checkpoint(plain, few)
    before = {file.name: file.read_bytes() for file in few.iterdir()}
    for out in (few, plain):
        with pytest.raises(ValueError, match="there already and not empty"):
            quantize_checkpoint(plain, out)
    with pytest.raises(ValueError, match="quantized already"):
        quantize_checkpoint(few, tmp_path / "fewer")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        quantize_checkpoint(tmp_path, tmp_path / "other")
    bad = tmp_path / "bad"
    shutil.copytree(plain, bad)
    for file in bad.glob("model-*"):
        raw = bytearray(file.read_bytes())
        raw[-4096:] = b"\xff" * 4096                                    # NaN in bfloat16
        file.write_bytes(raw)
    with pytest.raises(ValueError, match="finite"):
        quantize_checkpoint(bad, tmp_path / "fewer")
    assert not (tmp_path / "fewer").exists()
    assert {file.name: file.read_bytes() for file in few.iterdir()} == before
    assert main(["quantize", str(plain), "--weights", "int4", "--out", str(few)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_the_command(plain, tmp_path, capsys):
    out = tmp_path / "few"
    assert main(["quantize", str(plain), "--weights", "int8", "--out", str(out), "--check"]) == 0
    said = capsys.readouterr().out
    for text in ("attention", "experts", "dense", "output", "times smaller", "Scores of 64 tokens"):
        assert text in said
    assert main(["info", str(out)]) == 0
    assert "bytes in bfloat16, int8" in capsys.readouterr().out


@pytest.mark.parametrize("kv", ["float32", "bfloat16", "int8", "int4"])
def test_writing_with_few_bits(tmp_path, capsys, kv):
    tokenizer = train(["the lighthouse and the sea"], 320, progress=False)
    ids = tokenizer.special
    config = replace(tiny_config(vision=False, vocab_size=tokenizer.vocab_size, hidden_dim=64),
                     bos_id=ids["<|begin_of_text|>"], stop_ids=(ids["<|eot|>"],))
    few = quantize_weights(init_weights(config), 8)
    tinyscout.save(tinyscout.Model(config, few, tokenizer, reference), tmp_path)
    assert main(["generate", "the sea", "--model", str(tmp_path), "--max-tokens", "3", "--kv", kv, "--quiet"]) == 0
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
        done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / f"{layers}", tmp_path / f"{layers}-few"],
                              check=True, capture_output=True, text=True, cwd=Path(tinyscout.__file__).parents[1])
        peaks.append(int(done.stdout))
    largest = 16 * 256 * 512 * 4
    assert max(peaks) < largest / 2
    assert peaks[1] < peaks[0] * 1.2


# 8-bit floats

def eight(array):
    """Rows (out, in) in e4m3, each with a scale: what a released FP8 checkpoint holds for a linear layer."""
    scale = np.abs(array).max(-1, keepdims=True) / np.float32(448)
    return (array / scale).astype(ml_dtypes.float8_e4m3fn), scale.astype(np.float32)


def apart(tensors):
    """Every expert on its own, in 8 bits."""
    for name in [name for name in tensors if ".experts." in name]:
        stack = tensors.pop(name)
        base = name.rpartition(".")[0]
        parts = {"gate_proj": stack[..., :stack.shape[-1] // 2], "up_proj": stack[..., stack.shape[-1] // 2:]} \
            if name.endswith("gate_up_proj") else {"down_proj": stack}
        for kind, part in parts.items():
            for e in range(len(part)):
                q, scale = eight(np.ascontiguousarray(part[e].T))
                tensors[f"{base}.{e}.{kind}.weight"] = q
                tensors[f"{base}.{e}.{kind}.weight_scale"] = scale.astype(BF16)
                tensors[f"{base}.{e}.{kind}.input_scale"] = np.ones(1, np.float32)


def together(tensors):
    """The stacked tensors in 8 bits, with a scale for every column."""
    for name in [name for name in tensors if ".experts." in name]:
        scale = np.abs(tensors[name]).max(-2, keepdims=True) / np.float32(448)
        tensors[name] = (tensors[name] / scale).astype(ml_dtypes.float8_e4m3fn)
        tensors[f"{name}_scale"] = scale


@pytest.mark.parametrize("change", [apart, together])
def test_8_bit_floats_are_read(tmp_path, change, recwarn):
    weights = init_weights(CONFIG)
    save_checkpoint(tmp_path, weights, CONFIG)
    edited(tmp_path, change)
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
    edited(tmp_path, lambda t: t.update({"model.layers.0.self_attn.q_proj.weight": codes.view(ml_dtypes.float8_e4m3fn),
                                         "model.layers.0.self_attn.q_proj.weight_scale": scales}))
    theirs = (torch.from_numpy(codes).view(torch.float8_e4m3fn).float() * torch.from_numpy(scales)).bfloat16()
    ours = tinyscout.load(tmp_path).weights.text.blocks[0].attention.w_q
    np.testing.assert_array_equal(ours.T.astype(np.float32), theirs.float().numpy())


def test_8_bit_floats_become_4_bit_integers(tmp_path):
    save_checkpoint(tmp_path / "eight", init_weights(CONFIG), CONFIG)
    edited(tmp_path / "eight", apart)
    quantize_checkpoint(tmp_path / "eight", tmp_path / "four")
    assert same(tinyscout.load(tmp_path / "four").weights,
                quantize_weights(tinyscout.load(tmp_path / "eight").weights))


def test_8_bit_floats_need_scales(tmp_path):
    save_checkpoint(tmp_path, init_weights(CONFIG), CONFIG)
    edited(tmp_path, lambda t: (together(t), [t.pop(name) for name in list(t) if name.endswith("down_proj_scale")]))
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

class Watching:
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

first = scout.forward([3, 5], (), model.weights, model.config, None, Watching())
for block, ours in zip(model.weights.text.blocks, chosen):
    assert 1 <= len(ours) <= 2
    for e in range(6):
        if (e in ours) == (sys.argv[2] == "chosen"):
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
        quantize_checkpoint(directory, tmp_path / "few", bits, 32)
        directory = tmp_path / "few"
    for which, code, said in [("others", 0, "True"), ("chosen", -11, "")]:
        done = subprocess.run([sys.executable, "-c", FORBIDDEN, directory, which], capture_output=True, text=True,
                              cwd=Path(tinyscout.__file__).parents[1])
        assert (done.returncode, done.stdout.strip()) == (code, said), done.stderr


def in_memory(array):
    """Which pages of a mapped array the system holds."""
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
    if in_memory(shared).all():
        pytest.skip("this file system does not let go of its pages")
    prefetch.prefetch(block)
    for _ in range(100):
        if in_memory(shared).all():
            break
        time.sleep(0.02)
    assert in_memory(shared).all()


@pytest.mark.parametrize("bits", [None, 8])
def test_reading_ahead_asks_for_no_expert(monkeypatch, bits):
    asked: list = []
    monkeypatch.setattr(prefetch, "madvise_willneed", asked.append)
    weights = init_weights(CONFIG)
    block = (quantize_weights(weights, bits) if bits else weights).text.blocks[1]
    prefetch.prefetch(block)
    experts = {id(leaf) for _, leaf in leaves(block.feed_forward.experts)}
    assert {id(leaf) for leaf in asked} == {id(leaf) for _, leaf in leaves(block)} - experts


def test_only_slow_layers_read_ahead(monkeypatch):
    asked: list = []
    monkeypatch.setattr(prefetch, "prefetch", asked.append)
    assert list(prefetch.prefetch_blocks("abc")) == ["a", "b", "c"]
    assert not asked
    monkeypatch.setattr(prefetch, "SLOW_BLOCK_SECONDS", -1.0)
    assert list(prefetch.prefetch_blocks("abc")) == ["a", "b", "c"]
    assert asked == ["c", "a"]


def test_arrays_of_no_file_are_left_alone():
    prefetch.prefetch(tree_map(np.asarray, init_weights(STREAMS)))
    prefetch.madvise_willneed(np.zeros(0))
