"""The loss at each position of long texts, compared with the same tokens read in short windows."""
import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tinyscout.inference.long_context import logits_at
from tinyscout.nn.text import text_model
from tinyscout.progress import track

MAX_BATCH_TOKENS = 1 << 14      # tokens of windows that are computed together


class TextSample(NamedTuple):
    """The losses at some positions of one text, in nats."""

    positions: np.ndarray       # (n,) int64
    nll: np.ndarray             # (n,) float64: of the token after each position, read in the long text
    window_nll: np.ndarray      # (n,) float64: of the same tokens, read in short windows
    n_bytes: np.ndarray         # (n,) int: number of bytes of these tokens


def measure_texts(model, tokens, bos_id, context, window, *, n_texts=8, n_positions=512, seed=0):
    """Measure evenly spaced texts of `context` tokens, whole and in windows  ->  list of TextSample

    model Model, tokens (n,) of text to read, bos_id id of <|begin_of_text|>, n_positions in each of `position_bins`
    """
    rng, byte_counts, samples = np.random.default_rng(seed), count_token_bytes(model), []
    starts = np.linspace(0, len(tokens) - context - 1, n_texts).astype(np.int64)
    for start in track(starts, "Texts"):
        row = tokens[start:start + context + 1].copy()
        row[0] = bos_id
        positions = sample_positions(rng, position_bins(window, context), n_positions)
        targets = row[positions + 1].astype(np.int64)
        logits = logits_at(row[:-1], positions, model.weights, model.config, model.ops)
        nll = token_nll(model, logits, targets)
        window_logits = logits_in_windows(row[:-1], positions, window, bos_id, model)
        window_nll = token_nll(model, window_logits, targets)
        samples.append(TextSample(positions, nll, window_nll, byte_counts[targets]))
    return samples


def position_bins(window, context):
    """Bins of positions that double in size, the first as long as a window: list of (first, last + 1)."""
    edges = [0, window]
    while edges[-1] < context:
        edges.append(min(2 * edges[-1], context))
    return list(pairwise(edges))


def sample_positions(rng, bins, max_per_bin):
    """Sample at most `max_per_bin` positions of each bin, in order: (n,) int64."""
    return np.concatenate([np.sort(low + rng.choice(high - low, min(max_per_bin, high - low), replace=False))
                           for low, high in bins])


def count_token_bytes(model):
    """Number of bytes of each token: (V,) int, 0 for special tokens."""
    counts, tokenizer = np.zeros(model.config.text.vocab_size, np.int64), model.tokenizer
    for spelling, id in tokenizer.tokens.items():
        counts[id] = len(spelling)
    return counts


def token_nll(model, logits, targets):
    """The negative log-likelihood of each target, in nats: logits (n, V), targets (n,) int  ->  (n,) float64"""
    logits = np.asarray(model.ops.asnumpy(logits), np.float64)
    logits -= logits.max(-1, keepdims=True)
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(targets)), targets]


def logits_in_windows(row, positions, window, bos_id, model):
    """The logits at some positions if each window of the text is read separately, with no context before it: (n, V)

    row (T,) tokens, positions (n,) int in order
    """
    w, config, ops, logits = model.weights.text, model.config.text, model.ops, []
    batch_size = max(1, MAX_BATCH_TOKENS // window)
    windows = np.unique(positions // window)
    for n in range(0, len(windows), batch_size):
        batch = windows[n:n + batch_size]
        # indices beyond the end are clipped; the tokens there come after every position and have no effect
        read = np.minimum(batch[:, None] * window + np.arange(window), len(row) - 1)
        ids = row[read].astype(np.int64)
        ids[:, 0] = bos_id
        y = text_model(ops.embed(ops.asarray(ids), w.embedding), w, config, None, ops)
        in_batch = positions[np.isin(positions // window, batch)]
        rows = np.searchsorted(batch, in_batch // window) * window + in_batch % window
        logits.append(ops.linear(y.reshape(-1, y.shape[-1])[ops.asarray(rows)], w.output))
    return np.concatenate(logits)


def summarize(low, high, samples):
    """Means over the positions from `low` to `high` - 1.  samples list of TextSample  ->  dict

    The error of the difference is one standard error over the texts.
    """
    parts = []
    for sample in samples:
        in_bin = (sample.positions >= low) & (sample.positions < high)
        parts.append((sample.nll[in_bin], sample.window_nll[in_bin], sample.n_bytes[in_bin]))
    differences = [float(np.mean(nll - window_nll)) for nll, window_nll, _ in parts]
    nll, window_nll, n_bytes = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    std_error = float(np.std(differences, ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else None
    return {"from": low, "to": high, "tokens": len(nll), "nll": float(nll.mean()),
            "window_nll": float(window_nll.mean()), "nll_per_byte": float(nll.sum() / max(1, n_bytes.sum())),
            "difference": float(np.mean(differences)), "std_error": std_error}
