"""How far each mistake of tinyscout/laws/mistakes moves the logits of a small random model.

`python docs/mistakes.py` writes docs/mistakes.json, from which the chapters take their numbers.  It takes some seconds.
"""
import argparse
import datetime
import json
from pathlib import Path

import numpy as np

from tinyscout import reference
from tinyscout.bench.machine import describe_machine
from tinyscout.config import layer_plan, tiny_config
from tinyscout.inputs.image import PATCH, tile_layout
from tinyscout.laws.mistakes import MISTAKES, Setup
from tinyscout.nn.cache import Cache
from tinyscout.nn.scout import image_features
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import init_weights, tree_map
from tinyscout.progress import track
from tinyscout.reference import Quantized

FILE = Path(__file__).with_suffix(".json")
SEED = 0
CHUNK = 8           # tokens; also the floor of the temperature, as both are 8192 in Scout
TOKENS = 64         # of the prompt without images
PREFILL = 40        # the first of them, which are read together; the others one by one
GROUP = 32          # of the quantized weights
WITH_IMAGES = ("patches", "vision", "tiles", "fusion")      # chapters whose mistakes are seen in a prompt with images


def make_config():
    return tiny_config(layers=layer_plan(8), n_experts=5, hidden_dim=96, vocab_size=128, chunk_size=CHUNK,
                       attn_temperature_floor=float(CHUNK))


def make_weights(config, dtype=np.float64):
    """Random weights as `init_weights` has them, except that norms differ from one and biases from zero."""
    rng = np.random.default_rng(SEED)
    def perturb(w):
        return (w + 0.2 * rng.standard_normal(w.shape) if w.ndim == 1 else w).astype(dtype)
    return tree_map(perturb, init_weights(config, SEED))


def quantize_blocks(weights):
    """The matrices of the text model's blocks in four bits, those that divide into tiles and groups."""
    def quantize(w):
        fits = w.ndim > 1 and w.shape[-1] % 16 == 0 and w.shape[-2] % GROUP == 0
        return reference.quantize(w, 4, GROUP) if fits else w
    return weights._replace(text=weights.text._replace(blocks=tree_map(quantize, weights.text.blocks)))


def make_setups(dtype=np.float64):
    """{"text": a prompt of text, "images": two images and text, "int4": text, with weights in four bits}"""
    config, rng = make_config(), np.random.default_rng(SEED)
    weights = make_weights(config, dtype)
    text = rng.integers(0, 100, TOKENS)
    names = [*tile_layout(2, 2, config.vision), *tile_layout(1, 1, config.vision)]
    ids = {name: 100 + n for n, name in enumerate(dict.fromkeys(names))} | {PATCH: config.patch_id}
    tokens = np.concatenate([[ids[name] for name in names], text[:16]])
    size = config.vision.tile_size
    images = [rng.uniform(-1, 1, (n, 3, size, size)).astype(dtype) for n in (5, 1)]
    return {"text": Setup(reference, config, weights, text, []),
            "images": Setup(reference, config, weights, tokens, images),
            "int4": Setup(reference, config, quantize_blocks(weights), text, [])}


def setup_name(mistake):
    """The setup of `make_setups` in which a mistake is measured."""
    chapter = mistake.name.partition("/")[0]
    return "images" if chapter in WITH_IMAGES else "int4" if chapter == "quantization" else "text"


def compute_logits(setup):
    """The logits of a setup (T, V), in the dtype of its embedding.

    This is `forward` of nn/scout.py, except that pixels stay in float64 and that the backend dequantizes the weights.
    """
    ops, config, weights, tokens, images = setup
    dtype = weights.text.embedding.dtype
    weights = tree_map(lambda w: ops.dequantize(w, dtype) if isinstance(w, Quantized) else w, weights)
    x = ops.embed(tokens, weights.text.embedding, dtype)
    if images:
        x = ops.fuse(x, tokens == config.patch_id, image_features(images, weights, config, ops))
    cache, hidden = Cache(config.text), []
    for part in np.split(x, [len(x)] if images else range(PREFILL, len(x))):
        if len(part):
            with cache.transaction():
                hidden.append(text_model(part[None], weights.text, config.text, cache, ops)[0])
    return ops.linear(np.concatenate(hidden), weights.text.output)


def round_number(x):
    """Three digits; what rounding alone may change is zero."""
    return float(f"{x:.3g}") if x > 1e-12 else 0.0


def measure(mistake, setup, expected):
    """What a mistake does to the logits `expected` of a setup  ->  {name: number}"""
    logits = compute_logits(mistake.plant(setup))
    moved = np.abs(logits - expected).max(axis=1)
    agreement = float((logits.argmax(1) == expected.argmax(1)).mean())
    return {"logits": round_number(moved.max()), "agreement": round_number(agreement),
            **({} if setup.images else {"short prompt": round_number(moved[:CHUNK - 1].max())})}


def measure_all(mistakes):
    """The numbers of docs/mistakes.json for some mistakes."""
    setups = make_setups()
    expected = {name: compute_logits(setup) for name, setup in setups.items()}
    text = setups["text"].config.text
    logits = expected["text"]
    model = {"seed": SEED, "layers": len(text.layers), "dim": text.dim, "vocabulary": text.vocab_size, "chunk": CHUNK,
             "floor": CHUNK, "tokens": TOKENS, "tokens with images": len(expected["images"]),
             "typical logit": round_number(np.sqrt(np.square(logits).mean())),
             "largest logit": round_number(np.abs(logits).max())}
    rows = {m.name: measure(m, setups[setup_name(m)], expected[setup_name(m)]) for m in track(mistakes, "mistakes")}
    return {"model": model, "mistakes": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", metavar="TEXT", help="print those whose name contains TEXT, and write nothing")
    only = parser.parse_args().only
    results = measure_all([m for name, m in MISTAKES.items() if (only or "") in name])
    for name, row in results["mistakes"].items():
        print(f"{name:40}", "  ".join(f"{key} {value:<8g}" for key, value in row.items()))
    if only is None:
        note = {"date": datetime.date.today().isoformat(), "machine": describe_machine()}
        FILE.write_text(json.dumps(note | results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
