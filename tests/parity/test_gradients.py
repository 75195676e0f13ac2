"""Twelve random Llama 4 models: the loss and every weight's gradient against autograd through transformers, in fp32."""
import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `parity`)")
pytest.importorskip("transformers", reason="transformers is not installed (extra `parity`)")
import torch

import tinyscout
from tinyscout.checkpoint.hf_names import hf_name
from tinyscout.nn.weights import named_arrays, to_file_layout
from tinyscout.train.loss_and_grad import Batch, loss_and_grad

from . import oracle

CLOSE = 1e-4        # of a gradient's length
BACKENDS = ["numpy", "c"]


def batch_of(seed, vision):
    """Two rows of 40 tokens, with an image of one or two tiles in each, and a third of the targets left out."""
    rng = np.random.default_rng(seed)
    tokens, tiles = rng.integers(3, 94, (2, 40)), None
    if vision:
        for row, n in enumerate((1, 2)):
            tokens[row, 5:5 + 4 * n] = 96
        tiles = rng.standard_normal((3, 3, 56, 56)).astype(np.float32)
    return Batch(tokens, np.where(rng.random((2, 40)) < 0.3, -100, rng.integers(3, 94, (2, 40))), tiles)


def autograd(model, batch):
    """transformers' loss and {name: gradient}."""
    inputs = {"input_ids": torch.from_numpy(batch.tokens)}
    if batch.tiles is not None:
        inputs["pixel_values"] = torch.from_numpy(batch.tiles)
    logits = model(**inputs, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten())
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def theirs_of(path, gradients, multimodal):
    """The gradient that autograd has for one of our weights, in our layout."""
    name = hf_name(path, multimodal)
    prefixes = ("model.", "") if multimodal else ("",)
    g = next(gradients[prefix + stem] for prefix in prefixes
             for stem in (name, name.replace("language_model.model.", "language_model.")) if prefix + stem in gradients)
    if name.endswith("gate_up_proj"):
        g = np.split(g, 2, axis=-1)[path.endswith("w_up")]
    return to_file_layout(path, g)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vision", [False, True], ids=["text", "multimodal"])
@pytest.mark.parametrize("seed", range(6))
def test_gradients(seed, vision, backend, tmp_path):
    model = oracle.make(oracle.random_config(seed, vision), seed)
    model.save_pretrained(tmp_path)
    batch = batch_of(seed, vision)
    loss, gradients = autograd(model, batch)
    ours = tinyscout.load(tmp_path, backend, "float32")
    lesson = loss_and_grad(batch, ours.weights, ours.config, ops=ours.ops)
    assert sum(lesson.losses) == pytest.approx(loss, rel=1e-5)
    compared = 0
    for path, g in named_arrays(lesson.gradients):
        expected = theirs_of(path, gradients, vision)
        error = np.linalg.norm(g - expected) / np.linalg.norm(expected)
        assert error < CLOSE, f"{path}: off by {error:.2g} of its length"
        compared += g.size
    assert compared == sum(p.numel() for p in model.parameters() if p.grad is not None)
