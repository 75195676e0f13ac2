"""What transformers computed for three small models: kept in .npz files so that parity is checked without it.

The weights are not stored: they come from a hash of their name and place, the same on every machine.
`cd tests && python -m golden` makes the files anew (it needs the extra `parity`).
"""
import zlib
from pathlib import Path

import numpy as np

from tinyscout.config import RopeScaling, layer_plan, tiny_config
from tinyscout.nn.weights import build

HERE = Path(__file__).parent
CASES = {
    "scout": tiny_config(dim=32, head_dim=8, n_experts=5, hidden_dim=24, vocab_size=97, layers=layer_plan(8)),
    "maverick": tiny_config(dim=32, head_dim=8, n_experts=8, hidden_dim=24, vocab_size=97,
                            layers=layer_plan(8, moe_every=2),
                            qk_norm=False, rope_scaling=None),
    "text": tiny_config(vision=False, dim=48, n_heads=6, n_kv_heads=3, head_dim=8, n_experts=4, top_k=2, hidden_dim=24,
                        vocab_size=97, layers=layer_plan(4), rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64), chunk_size=5),
}
TILES = {"scout": [3, 1, 2], "maverick": [1], "text": []}      # of each image


def scrambled(text, shape):
    """Uniform numbers in [-1, 1) that depend on `text` alone (splitmix64)  ->  float64 of that shape"""
    x = np.arange(np.prod(shape, dtype=int), dtype=np.uint64) + np.uint64(zlib.crc32(text.encode()) << 32)
    with np.errstate(over="ignore"):
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0 ** -52 - 1


def weights(config):
    """Lively weights: matrices with standard deviation 0.15, norms around one."""
    def leaf(path, shape):
        values = scrambled(path, shape) * np.sqrt(3)
        near_one = len(shape) == 1 and "norm" in path and not path.endswith("bias")
        return (1 + 0.2 * values if near_one else 0.15 * values).astype(np.float32)
    return build(config, leaf)


def prompt(name):
    """Tokens with patch tokens in place, and tiles  ->  (T,) int64, list of (tiles, 3, h, w) float32"""
    config = CASES[name]
    tokens = ((scrambled(name, 45) + 1) / 2 * 80).astype(np.int64)
    images = []
    for n, tiles in enumerate(TILES[name]):
        size = config.vision.tile_size
        images.append(scrambled(f"{name} image {n}", (tiles, 3, size, size)).astype(np.float32))
        patches = np.full(tiles * config.vision.tokens_per_tile, config.patch_id)
        at = 9 * n + 4
        tokens = np.concatenate([tokens[:at], [config.image_start_id], patches, [config.image_end_id], tokens[at:]])
    return tokens, images
