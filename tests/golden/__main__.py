"""Make the golden files anew with transformers (extra `parity`), in fp32 and eager."""
import tempfile
from pathlib import Path

import numpy as np
from parity import conftest, oracle  # noqa: F401  conftest before transformers

import golden  # run as `python -m golden` from tests/
import tinyscout
from tinyscout import reference


def main():
    for name, config in golden.CASES.items():
        tokens, images = golden.prompt(name)
        tiles = np.concatenate(images) if images else None
        with tempfile.TemporaryDirectory() as directory:
            tinyscout.save(tinyscout.Model(config, golden.weights(config), None, reference), directory)
            model = oracle.read(Path(directory))
        kept = {"logits": oracle.logits(model, tokens, tiles), "greedy": oracle.greedy(model, tokens, 24, tiles)}
        if tiles is not None:
            kept["features"] = oracle.features(model, tiles)
        np.savez_compressed(golden.HERE / f"{name}.npz", **kept)
        print(name, {key: np.shape(value) for key, value in kept.items()})


if __name__ == "__main__":
    main()
