"""The needle test: how many facts a model finds in long texts, with a confidence interval."""
import math
from typing import NamedTuple

import numpy as np

from tinyscout.data.needles import KEYS, encode_lines, make_haystack
from tinyscout.inference.long_context import logits_at

DEPTH_BINS = 10         # equal parts of the text, which are counted separately
Z = 1.959964            # 95% of a normal distribution is within this many standard deviations of the mean


class Answer(NamedTuple):
    """The result of one query."""

    depth: float            # position of its fact in the text, 0 first .. 1 last
    is_correct: bool


def count_facts(context, min_facts, density=None):
    """Number of facts in a text of `context` tokens: `min_facts`, or one per `density` tokens if that is more."""
    return max(min_facts, min(context // density, len(KEYS)) if density else 0)


def answer_queries(model, filler, bos_id, context, *, n_facts, n_queries=8, n_haystacks=8, seed=0, allow_straddle=False,
                   control=False):
    """Hide facts in `n_haystacks` texts of `context` tokens, and let the model answer the queries at their ends.

    model Model, filler (n,) ids of real text, bos_id id of <|begin_of_text|>; the others as for `make_haystack`
    ->  list of Answer.  For a given seed, the texts of a context do not depend on the other contexts measured.
    """
    lines = encode_lines(model.tokenizer)
    answers: list[Answer] = []
    for n in range(n_haystacks):
        rng = np.random.default_rng([seed, context, n])
        haystack = make_haystack(rng, filler, context - 1, lines, n_facts=n_facts, n_queries=n_queries,
                                 chunk_size=model.config.text.chunk_size, allow_straddle=allow_straddle,
                                 control=control)
        answers += map(Answer, haystack.depths, greedy_correct(haystack, bos_id, model))
    return answers


def greedy_correct(haystack, bos_id, model):
    """True for each answer in a Haystack that greedy decoding would produce, after `bos_id`  ->  (queries,) bool"""
    tokens = np.concatenate([np.array([bos_id], haystack.tokens.dtype), haystack.tokens])
    positions = np.concatenate([np.arange(start, stop) for start, stop in haystack.spans])  # each before its target
    logits = logits_at(tokens, positions, model.weights, model.config, model.ops)
    is_correct = model.ops.asnumpy(logits.argmax(-1)) == tokens[positions + 1]
    return np.logical_and.reduceat(is_correct, np.cumsum([0, *np.diff(haystack.spans).ravel()[:-1]]))


def summarize(answers):
    """Number of correct answers, confidence interval, and [correct, asked] in each part of the text.

    answers list of Answer  ->  dict
    """
    depths = [[0, 0] for _ in range(DEPTH_BINS)]
    for depth, is_correct in answers:
        counts = depths[min(int(depth * DEPTH_BINS), DEPTH_BINS - 1)]
        counts[0] += int(is_correct)
        counts[1] += 1
    correct, asked = (sum(counts[n] for counts in depths) for n in (0, 1))
    low, high = wilson_interval(correct, asked)
    return {"correct": correct, "asked": asked, "low": low, "high": high, "depths": depths}


def wilson_interval(correct, n):
    """Wilson's 95% confidence interval of the true share, equation (wilson)  ->  low, high"""
    share, spread = correct / n, Z * Z / n
    middle, half = share + spread / 2, Z * math.sqrt(share * (1 - share) / n + spread / n / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
