"""The public face: load, save, backends by name or module, and one clear error for each thing that is wrong."""
import sys
from types import ModuleType

import numpy as np
import pytest

import tinyscout
from tinyscout import reference
from tinyscout.config import tiny_config

TOKENS = [5, 3, 5, 8, 13]


@pytest.fixture
def directory(tmp_path):
    tinyscout.save(tinyscout.random_model(tiny_config(), seed=3), tmp_path / "model")
    return tmp_path / "model"


def test_what_a_model_holds(directory):
    model = tinyscout.load(directory)
    assert model.config.text.dim == model.weights.text.norm.shape[0] == 64
    assert model.ops is reference
    assert model.tokenizer is None
    logits = model.logits(TOKENS)
    assert logits.shape == (5, 512)
    assert logits.dtype == np.float32


def test_weights_stay_in_their_file(directory):
    """Opening a checkpoint reads nothing: every matrix is a view of the mapped file."""
    w = tinyscout.load(directory).weights.text.blocks[0].attention.w_q
    while w.base is not None and not isinstance(w, np.memmap):
        w = w.base
    assert isinstance(w, np.memmap) or w.__class__.__name__ == "mmap"


def test_dtype_converts_now(directory):
    half = tinyscout.load(directory, dtype="bfloat16")
    assert half.weights.text.norm.dtype.name == "bfloat16"
    whole = tinyscout.load(directory).logits(TOKENS)
    assert 0 < np.abs(half.logits(TOKENS) - whole).max() < 0.5
    assert tinyscout.load(directory, dtype="float64").logits(TOKENS).dtype == np.float32


def test_a_module_is_a_backend(directory):
    mine = ModuleType("mine")
    mine.__dict__.update({name: getattr(reference, name) for name in reference.__all__})
    calls = []
    mine.swiglu = lambda gate, up: calls.append(gate.shape) or reference.swiglu(gate, up)
    expected = tinyscout.load(directory).logits(TOKENS)
    np.testing.assert_array_equal(tinyscout.load(directory, mine).logits(TOKENS), expected)
    assert len(calls) == 4          # the shared expert of each layer


@pytest.mark.parametrize("backend", ["fortran", "", None, 3])
def test_an_unknown_backend(directory, backend):
    with pytest.raises(ValueError, match="numpy, c"):
        tinyscout.load(directory, backend)


def test_a_backend_that_is_not_built(directory, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tinyscout.kernels.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tinyscout._c", None)
    with pytest.raises(RuntimeError, match="not built here"):
        tinyscout.load(directory, "c")


def test_both_extensions_are_built():
    """Installing without a compiler leaves them out with no more than a warning; where tests run they must be there."""
    import tinyscout._bpe
    import tinyscout._c
    assert tinyscout._c.lib.linear
    assert tinyscout._bpe.Encoder


def test_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tinyscout.load(tmp_path / "nowhere")


@pytest.mark.parametrize(("tokens", "complaint"), [
    ([], "no tokens"), ([[1, 2]], "one row"), ([1.5], "integers"), ([512], "512 is outside"), ([-1], "-1 is outside"),
    (["a"], "integers"), ([511], "1 patch tokens"), (None, "one row"),
])
def test_wrong_tokens(tokens, complaint):
    model = tinyscout.random_model(tiny_config())
    with pytest.raises(ValueError, match=complaint):
        model.logits(tokens)
    with pytest.raises(ValueError, match=complaint):
        model.generate(tokens)


@pytest.mark.parametrize(("images", "complaint"), [
    ([np.zeros((1, 3, 56, 56))], "0 patch tokens"), ([np.zeros((3, 56, 56))], r"not \(3, 56, 56\)"),
    ([np.zeros((0, 3, 56, 56))], "tiles of shape"), ([np.zeros((1, 3, 28, 28))], "tiles of shape"),
    ([np.full((1, 3, 56, 56), np.nan)], "not finite"),
])
def test_wrong_images(images, complaint):
    with pytest.raises(ValueError, match=complaint):
        tinyscout.random_model(tiny_config()).logits(TOKENS, images)


def test_images_for_a_model_of_text():
    with pytest.raises(ValueError, match="no vision tower"):
        tinyscout.random_model(tiny_config(vision=False)).logits(TOKENS, [np.zeros((1, 3, 56, 56))])
