"""Checkpoints: what is written is read again bit for bit, mapped and not copied, and nothing bad ever gets through."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import tinyscout
from tinyscout.checkpoint import load_config, load_weights, save_checkpoint
from tinyscout.checkpoint.config_json import config_to_hf
from tinyscout.checkpoint.hf_names import hf_name
from tinyscout.checkpoint.safetensors_io import mmap_file, mmap_tensors
from tinyscout.config import layer_plan, tiny_config
from tinyscout.nn.weights import abstract_weights, init_weights, named_arrays, to_file_layout, tree_map

CONFIG = tiny_config(layers=layer_plan(4, moe_every=2))
DTYPES = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
CONFIGS = {"multimodal": CONFIG, "text": tiny_config(vision=False), "tied": tiny_config(tie_embeddings=True),
           "tied text": tiny_config(vision=False, tie_embeddings=True)}


def are_identical(weights, other):
    """Are two trees equal bit for bit?"""
    pairs = list(zip(named_arrays(weights), named_arrays(other), strict=True))
    return all(p == q and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
               for (p, a), (q, b) in pairs)


def read(directory):
    return load_weights(directory, load_config(directory))


def snapshot(directory):
    """Every file under a directory with what it holds."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path, init_weights(CONFIG), CONFIG)
    return tmp_path


@pytest.mark.parametrize("shard_bytes", [10 ** 9, 50_000, 1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_round_trip(tmp_path, config, dtype, shard_bytes):
    weights = init_weights(config, 1, dtype)
    save_checkpoint(tmp_path, weights, config, shard_bytes=shard_bytes)
    defaults = {} if config.vision else {"patch_id": 200_092, "image_start_id": 200_080, "image_end_id": 200_081}
    assert load_config(tmp_path) == replace(config, **defaults)         # a file of text alone does not tell of images
    assert are_identical(read(tmp_path), weights)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert ("model.safetensors" in names) == (shard_bytes == 10 ** 9)
    assert ("model.safetensors.index.json" in names) == (shard_bytes < 10 ** 9)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype.name
    assert not [name for name in names if name.startswith(".")]


def test_who_may_read(saved):
    """Whoever may read one file may read all."""
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


def test_shards(saved):
    weights, tensors = init_weights(CONFIG), mmap_tensors(saved)
    total_bytes = sum(array.nbytes for array in tensors.values())
    save_checkpoint(saved, weights, CONFIG, "bfloat16", shard_bytes=60_000)
    files = sorted(saved.glob("model-*.safetensors"))
    assert len(files) > 3
    for n, file in enumerate(files, 1):
        assert file.name == f"model-{n:05d}-of-{len(files):05d}.safetensors"
        arrays = load_file(file).values()
        assert sum(array.nbytes for array in arrays) <= 60_000 or len(arrays) == 1
    index = json.loads((saved / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == total_bytes / 2
    assert set(index["weight_map"]) == set(tensors)
    assert not (saved / "model.safetensors").exists()


def test_dtypes_of_reading_and_writing(tmp_path):
    weights = init_weights(CONFIG)
    save_checkpoint(tmp_path, weights, CONFIG, "bfloat16")
    rounded = tree_map(lambda a: a.astype(ml_dtypes.bfloat16), weights)
    assert are_identical(read(tmp_path), rounded)
    for dtype in ("float32", np.float16, "bfloat16", np.float64):
        assert are_identical(load_weights(tmp_path, CONFIG, dtype), tree_map(lambda a: a.astype(dtype), rounded))  # noqa: B023
    for dtype in ("int8", "float31", object, "nonsense"):
        with pytest.raises(ValueError, match=r"cannot compute in .*: choose from float32, float16, bfloat16, float64"):
            load_weights(tmp_path, CONFIG, dtype)


def test_mixed_dtypes(tmp_path):
    weights = init_weights(CONFIG, dtype=ml_dtypes.bfloat16)
    weights = weights._replace(w_projector=np.asarray(weights.w_projector, np.float32))
    save_checkpoint(tmp_path, weights, CONFIG)
    assert are_identical(read(tmp_path), weights)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_mapped_and_not_read(saved):
    for path, array in named_arrays(read(saved)):
        base = array
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap), path
        assert not array.flags.writeable
        assert to_file_layout(path, array).flags.c_contiguous or path.endswith(("experts.w_gate", "experts.w_up"))


def test_the_layout_of_hf(saved):
    tensors, weights = mmap_tensors(saved), init_weights(CONFIG)
    block, vision_block = weights.text.blocks[1], weights.vision.blocks[0]
    prefix = "language_model.model.layers.1."
    np.testing.assert_array_equal(tensors[prefix + "self_attn.k_proj.weight"], block.attention.w_k.T)
    np.testing.assert_array_equal(tensors[prefix + "feed_forward.router.weight"], block.feed_forward.w_router.T)
    gate_up = tensors[prefix + "feed_forward.experts.gate_up_proj"]
    assert gate_up.shape == (4, 64, 96)                                 # (E, in, gate and up), not transposed
    np.testing.assert_array_equal(gate_up[..., :48], block.feed_forward.experts.w_gate)
    np.testing.assert_array_equal(gate_up[..., 48:], block.feed_forward.experts.w_up)
    np.testing.assert_array_equal(tensors[prefix + "feed_forward.experts.down_proj"], block.feed_forward.experts.w_down)
    np.testing.assert_array_equal(tensors["language_model.model.embed_tokens.weight"], weights.text.embedding)
    np.testing.assert_array_equal(tensors["vision_model.model.layers.0.mlp.fc1.weight"], vision_block.mlp.w_1.T)
    assert tensors["multi_modal_projector.linear_1.weight"].shape == (64, 48)
    assert tensors["vision_model.positional_embedding_vlm"].shape == (17, 32)
    assert hf_name("text.norm", False) == "model.norm.weight"
    assert len({hf_name(path, True) for path, _ in named_arrays(abstract_weights(CONFIG))}) == len(tensors)


def test_saving_over_what_is_mapped(saved):
    before = read(saved)
    copy = tree_map(np.array, before)
    save_checkpoint(saved, before, CONFIG, shard_bytes=50_000)          # one file becomes several ...
    assert are_identical(before, copy)
    assert are_identical(read(saved), copy)
    save_checkpoint(saved, tree_map(lambda a: a + a, read(saved)), CONFIG, "float16")       # ... and one again
    assert are_identical(read(saved), tree_map(lambda a: (a + a).astype(np.float16), copy))
    assert sorted(p.name for p in saved.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json"]


def test_other_files_are_left_alone(saved):
    others = {"tokenizer.json": "{}", "model.safetensors.backup": "x", "model_old.safetensors": "y", "notes.md": "z"}
    for name, text in others.items():
        (saved / name).write_text(text)
    tinyscout.save(tinyscout.random_model(CONFIG), saved)
    assert {name: (saved / name).read_text() for name in others} == others


def test_symlinked_files(saved, tmp_path_factory):
    """As in the Hub's cache, where a snapshot holds only links into a store of blobs."""
    save_checkpoint(saved, init_weights(CONFIG), CONFIG, shard_bytes=50_000)
    snapshots = tmp_path_factory.mktemp("snapshot")
    for n, path in enumerate(sorted(saved.iterdir())):
        path.rename(saved / f"blob{n}")
        (snapshots / path.name).symlink_to(saved / f"blob{n}")
    assert are_identical(read(snapshots), init_weights(CONFIG))
    blobs = snapshot(saved)
    save_checkpoint(snapshots, init_weights(CONFIG, 1), CONFIG)         # replaces the links, not what they point to
    assert snapshot(saved) == blobs
    assert are_identical(read(snapshots), init_weights(CONFIG, 1))


def test_the_one_file_comes_before_the_index(saved):
    (saved / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    assert are_identical(read(saved), init_weights(CONFIG))


def test_unaligned_files(saved):
    """Another writer need not pad its header: then the tensors are copied, since C wants them aligned."""
    raw = (saved / "model.safetensors").read_bytes()
    n = int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:8 + n]), separators=(",", ":")).encode()
    header += b" " * (1 - len(header) % 4 + 4)
    (saved / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + n:])
    weights = read(saved)
    assert all(array.flags.aligned for _, array in named_arrays(weights))
    assert are_identical(weights, init_weights(CONFIG))


def edit(directory, change):
    """Rewrite the tensors of a directory's only file."""
    tensors = {name: np.array(array) for name, array in mmap_tensors(directory).items()}
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a directory"):
        tinyscout.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        tinyscout.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(CONFIG)))
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        tinyscout.load(tmp_path)
    save_checkpoint(tmp_path, init_weights(CONFIG), CONFIG, shard_bytes=50_000)
    missing = sorted(tmp_path.glob("model-*"))[2]
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=missing.name):
        tinyscout.load(tmp_path)


def test_a_run_points_to_its_last_checkpoint(tmp_path):
    for step in ("step-000100", "step-000200"):
        save_checkpoint(tmp_path / step, init_weights(CONFIG), CONFIG)
    with pytest.raises(FileNotFoundError, match=r"no config\.json, but .*step-000200 does"):
        tinyscout.load(tmp_path)


def test_bad_config_names_its_directory(saved):
    (saved / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=f"{saved}.*gpt2"):
        tinyscout.load(saved)


def test_tensor_missing(saved):
    edit(saved, lambda tensors: tensors.pop("language_model.model.norm.weight"))
    with pytest.raises(ValueError, match=r"calls for language_model\.model\.norm\.weight, which no file holds"):
        tinyscout.load(saved)


@pytest.mark.parametrize("changes", [{"dim": 32}, {"vocab_size": 511}, {"n_experts": 8}, {"hidden_dim": 47},
                                     {"n_kv_heads": 4}, {"head_dim": 8}, {"dense_dim": 81}], ids=str)
def test_shape_contradicts_config(saved, changes):
    (saved / "config.json").write_text(json.dumps(config_to_hf(tiny_config(layers=CONFIG.text.layers, **changes))))
    with pytest.raises(ValueError, match="contradicts the config"):
        tinyscout.load(saved)


@pytest.mark.parametrize("shape", [(), (64,), (8, 8), (64, 1), (1, 64), (0,)])
def test_strange_shapes(saved, shape):
    for name in ("model.norm.weight", "model.layers.1.feed_forward.experts.gate_up_proj", "model.embed_tokens.weight"):
        if shape != (64,) or "norm" not in name:
            full = f"language_model.{name}"
            edit(saved, lambda tensors: tensors.update({full: np.zeros(shape, np.float32)}))  # noqa: B023
            with pytest.raises(ValueError, match="contradicts"):
                tinyscout.load(saved)


def test_more_tensors_than_wanted(saved):
    edit(saved, lambda tensors: tensors.update({"rope.freqs": np.zeros(3, np.float32)}))
    with pytest.warns(UserWarning, match=r"1 tensors are not part of the model, such as rope\.freqs"):
        tinyscout.load(saved)


def test_dtype_that_is_no_weight(saved):
    edit(saved, lambda tensors: tensors.update({"language_model.model.norm.weight": np.zeros(64, np.int64)}))
    with pytest.raises(ValueError, match=r"norm\.weight is I64; tinyscout reads F32, F16, BF16"):
        tinyscout.load(saved)


@pytest.mark.parametrize("file", [
    "../outside.safetensors", "/etc/hostname", "sub/model.safetensors", ".", "..", "", 3, None, ["a"], "a/../b"])
def test_index_that_leaves_the_directory(saved, file):
    shutil.copy(saved / "model.safetensors", saved.parent / "outside.safetensors")
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(ValueError, match="not a safetensors file in this directory"):
        tinyscout.load(saved)


@pytest.mark.parametrize("index", ["[]", "{", "{}", '{"weight_map": []}', '{"weight_map": 3}'])
def test_bad_index(saved, index):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"index\.json"):
        tinyscout.load(saved)


def test_index_that_lies(saved):
    save_checkpoint(saved, init_weights(CONFIG), CONFIG, shard_bytes=50_000)
    path = saved / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    names = list(index["weight_map"])
    index["weight_map"][names[0]] = index["weight_map"][names[-1]]
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="it is not there"):
        tinyscout.load(saved)


def write_file(path, header, body=b"\0" * 64, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)


def entry(low, high, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [low, high]}


BAD_HEADERS = {
    "empty": b"", "not json": b"abc", "list": [], "null": None, "no fields": {"a": {}},
    "outside": {"a": entry(0, 80, (20,))}, "gap": {"a": entry(0, 16), "b": entry(48, 64)},
    "overlap": {"a": entry(0, 48, (12,)), "b": entry(32, 64, (8,))}, "backwards": {"a": entry(64, 0, (16,))},
    "negative": {"a": entry(-64, 0, (16,))}, "short": {"a": entry(0, 64, (3,))},
    "long": {"a": entry(0, 64, (1000,))},
    "negative shape": {"a": entry(0, 64, (-4, -4))},
    "float shape": {"a": entry(0, 64, (16.0,))}, "overflowing shape": {"a": entry(0, 64, (2 ** 62, 2 ** 62))},
    "unknown dtype": {"a": entry(0, 64, (16,), "F99")}, "text shape": {"a": entry(0, 64, "16")},
    "huge number": b'{"a":{"dtype":"F32","shape":[' + b"9" * 4000 + b'],"data_offsets":[0,64]}}',
    "nan": b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,64]}}', "deep": b'{"a":' * 9999,
    "bad utf-8": b'{"\xff":1}'}


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_header(tmp_path, header):
    write_file(tmp_path / "bad.safetensors", header)
    with pytest.raises(ValueError, match=r"bad\.safetensors is damaged or not safetensors"):
        mmap_file(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("length", [0, 1, 10 ** 4, 10 ** 9, 2 ** 63, 2 ** 64 - 1, 2 ** 64 - 8])
def test_header_length_that_lies(tmp_path, length):
    write_file(tmp_path / "bad.safetensors", {"a": entry(0, 64, (16,))}, length=length)
    with pytest.raises(ValueError, match="damaged or not safetensors"):
        mmap_file(tmp_path / "bad.safetensors")


def test_every_truncation(tmp_path):
    path = tmp_path / "good.safetensors"
    save_file({"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 3), np.float16)}, path)
    raw = path.read_bytes()
    for n in range(len(raw)):
        (tmp_path / "cut.safetensors").write_bytes(raw[:n])
        with pytest.raises(ValueError, match="damaged or not safetensors"):
            mmap_file(tmp_path / "cut.safetensors")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 10 ** 6), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_flipped_bytes(tmp_path_factory, flips, in_header):
    """Either the damage is seen, or what is loaded has the right shapes: damaged numbers no format can tell."""
    directory = tmp_path_factory.getbasetemp() / "flipped"
    if not directory.exists():
        save_checkpoint(directory, init_weights(CONFIG), CONFIG)
        shutil.copy(directory / "model.safetensors", directory / "good")
    raw = bytearray((directory / "good").read_bytes())
    length = 8 + int.from_bytes(raw[:8], "little") if in_header else len(raw)
    for position, value in flips:
        raw[position % length] = value
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            weights = load_weights(directory, CONFIG)
        except ValueError:
            return
    expected = {path: array.shape for path, array in named_arrays(abstract_weights(CONFIG))}
    assert {path: array.shape for path, array in named_arrays(weights)} == expected
    assert all(array.dtype in DTYPES and array.tobytes() is not None for _, array in named_arrays(weights))


@pytest.mark.parametrize("dtype", ["float64", "int8", "nonsense"])
def test_dtype_that_no_file_holds(tmp_path, dtype):
    with pytest.raises(ValueError, match=r"cannot save .* as .*: choose from float32, float16, bfloat16"):
        save_checkpoint(tmp_path / "new", init_weights(CONFIG), CONFIG, dtype)
    assert not (tmp_path / "new").exists()


def test_what_must_not_be_saved(saved):
    before, weights = snapshot(saved), init_weights(CONFIG)
    large = weights._replace(w_projector=weights.w_projector * np.float32(1e9))
    tied = tiny_config(tie_embeddings=True)
    untied = init_weights(tied)
    untied = untied._replace(text=untied.text._replace(output=untied.text.output + 1))
    wide = tree_map(lambda a: a.astype(np.float64), weights)
    for args, message in [((wide, CONFIG), "cannot save .* as float64"),
                          ((weights, tiny_config(dim=32)), "config calls for"),
                          ((large, CONFIG, "float16"), "too large"), ((untied, tied), "not equal")]:
        with pytest.raises(ValueError, match=message):
            save_checkpoint(saved, *args)
        assert snapshot(saved) == before


FULL_DISK = """
import resource, sys
import tinyscout
from tinyscout.config import tiny_config
from tinyscout.checkpoint import save_checkpoint
from tinyscout.nn.weights import init_weights
directory, limit, shard_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
weights = init_weights(tiny_config(), seed=7)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    save_checkpoint(directory, weights, tiny_config(), shard_bytes=shard_bytes)
except OSError as error:
    print("OSError:", error)
"""


@pytest.mark.parametrize(("limit", "shard_bytes"), [(100_000, 10 ** 9), (70_000, 50_000), (300, 10 ** 9), (0, 50_000)])
def test_full_disk(tmp_path, limit, shard_bytes):
    """The system itself refuses to write more than `limit` bytes into a file, as it would on a full disk."""
    older = tmp_path / "older"
    save_checkpoint(older, init_weights(CONFIG), CONFIG, shard_bytes=100_000)
    before = snapshot(older)
    for directory in (older, tmp_path / "new"):
        done = subprocess.run([sys.executable, "-c", FULL_DISK, directory, str(limit), str(shard_bytes)], check=True,
                              text=True, capture_output=True, cwd=Path(tinyscout.__file__).parents[1])
        assert done.stdout.startswith("OSError:"), done
        assert len(done.stdout.splitlines()) == 1
    assert snapshot(older) == before
    assert are_identical(read(older), init_weights(CONFIG))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["older"]
    assert not list(older.glob(".*"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_move_that_fails_is_undone(saved, monkeypatch, error):
    """Whichever of the moves into place fails, before or after it is done, the older checkpoint is whole."""
    before, rename, weights = snapshot(saved), os.rename, init_weights(tiny_config(), 7)
    moves = [0]

    def fail_at(failure, source, target):       # a negative number: the move is done before it fails
        moves[0] += 1
        if moves[0] != abs(failure):
            rename(source, target)
        elif failure < 0:
            rename(source, target)
            raise error
        else:
            raise error

    for failure in range(-8, 9):
        if failure:
            moves[0] = 0
            with monkeypatch.context() as patch:
                patch.setattr(os, "rename", lambda source, target: fail_at(failure, source, target))  # noqa: B023
                with pytest.raises(type(error)):
                    save_checkpoint(saved, weights, tiny_config(), shard_bytes=300_000)
            assert snapshot(saved) == before, failure
            assert not list(saved.glob(".*")), failure
    save_checkpoint(saved, weights, tiny_config())
    assert are_identical(read(saved), weights)


def test_what_cannot_be_moved_back_is_not_deleted(saved, monkeypatch):
    before, rename = snapshot(saved), os.rename

    def fail_to_move_in(source, target):
        if Path(target).parent == saved:
            raise PermissionError("no")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_to_move_in)
        with pytest.raises(PermissionError):
            save_checkpoint(saved, init_weights(CONFIG), CONFIG)
    remaining = {Path(name).name: content for name, content in snapshot(saved).items()}
    assert remaining == before


def test_extra_files(saved):
    before = snapshot(saved)

    def fail(scratch):
        (scratch / "tokenizer.json").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(saved, init_weights(CONFIG, 1), CONFIG, write_extra=fail)
    assert snapshot(saved) == before
    save_checkpoint(saved, init_weights(CONFIG), CONFIG,
                    write_extra=lambda scratch: (scratch / "more.json").write_text("{}"))
    assert snapshot(saved) == before | {"more.json": b"{}"}


def test_a_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        save_checkpoint(tmp_path / "file", init_weights(CONFIG), CONFIG)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(("what", "mode"), [("model.safetensors", 0), ("config.json", 0), (".", 0o555)])
def test_files_that_may_not_be_read_or_written(what, mode):
    """Run as another user where the tests run as root, to whom nothing is forbidden."""
    code = ("import os, sys, tinyscout\nfrom tinyscout.config import tiny_config\n"
            "model = tinyscout.random_model(tiny_config())\n"
            "os.getuid() or os.setuid(65534)\n"
            "for act in (lambda: tinyscout.load(sys.argv[1]), lambda: tinyscout.save(model, sys.argv[1])):\n"
            "    try: act()\n    except OSError as error: print(type(error).__name__)")
    with tempfile.TemporaryDirectory() as directory:                    # pytest's own is closed to other users
        save_checkpoint(directory, init_weights(CONFIG), CONFIG)
        before = snapshot(Path(directory))
        Path(directory).chmod(0o755)
        Path(directory, what).chmod(mode)
        done = subprocess.run([sys.executable, "-c", code, directory], text=True, capture_output=True,
                              cwd=Path(tinyscout.__file__).parents[1])
        Path(directory).chmod(0o755)
        Path(directory, what).chmod(0o755)                              # so that it can be compared and deleted
        assert done.stdout.split() == ["PermissionError"] * (1 if what == "." else 2), done
        assert snapshot(Path(directory)) == before
