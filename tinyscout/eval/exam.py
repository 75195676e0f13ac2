"""What a small model has learned: bits for a byte of unread text, and answers about pictures that it never saw."""
from typing import NamedTuple

import numpy as np

from tinyscout.data.dialogs import TASKS, ask, to_message
from tinyscout.inputs.chat import BEGIN, encode_chat
from tinyscout.progress import track
from tinyscout.train import loss_and_grad

BATCH_SIZE = 32               # of text or of questions that are computed together


class TaskScore(NamedTuple):
    """How a task went."""

    task: str
    correct: int
    asked: int
    chance: float           # part that a guess would get right


def bits_per_byte(model, texts, length=512, max_windows=None):
    """How many bits the model needs for a byte of text that it reads in windows, each begun anew.

    model Model, texts list of (name, str), length of a window in tokens, most windows or None for all  ->  float
    """
    tokenizer, total, spelled = model.tokenizer, 0.0, 0
    windows = [ids[n:n + length - 1] for _, text in texts if (ids := tokenizer.encode(text))
               for n in range(0, len(ids), length - 1)]
    if max_windows is not None and max_windows < len(windows):
        windows = [windows[n] for n in np.linspace(0, len(windows) - 1, max_windows).astype(int)]
    groups = [windows[n:n + BATCH_SIZE] for n in range(0, len(windows), BATCH_SIZE)]
    for group in track(groups, "Reading"):
        batch = to_batch([[tokenizer.special[BEGIN], *ids] for ids in group], [1] * len(group), model)
        [loss] = loss_and_grad.evaluate_loss(batch, model.weights, model.config, model.ops)
        total += loss * (batch.targets >= 0).sum()
        spelled += sum(len(tokenizer.decode_bytes(ids)) for ids in group)
    return float(total / np.log(2) / spelled)


def evaluate_questions(model, n_questions=200, seed=0, tasks=TASKS):
    """Each task's questions about scenes that training never shows, answered greedily  ->  list of Mark

    An answer is right where every token of it, and the end of the turn, is the likeliest: what a greedy reply gives.
    """
    marks = []
    for task in track(tasks, "Asking"):
        rng = np.random.default_rng([seed, TASKS.index(task)])
        asked = [ask(rng, task, held_out=True, size=model.config.vision.tile_size) for _ in range(n_questions)]
        right = sum(count_correct(model, asked[n:n + BATCH_SIZE]) for n in range(0, n_questions, BATCH_SIZE))
        marks.append(TaskScore(task, right, n_questions, float(np.mean([question.chance for question in asked]))))
    return marks


def count_correct(model, asked):
    """How many of some questions the model answers right."""
    rows, heads, tiles = [], [], []
    for question in asked:
        user = to_message(question)
        opened = encode_chat([user], model.tokenizer, model.config)
        whole = encode_chat([user, {"role": "assistant", "content": question.answer}], model.tokenizer, model.config,
                            add_generation_prompt=False)
        rows.append(whole.tokens)
        heads.append(len(opened.tokens))
        tiles += opened.images
    batch = to_batch(rows, heads, model)._replace(tiles=np.concatenate(tiles))
    passed = loss_and_grad.forward(batch, model.weights, model.config, model.ops)
    wrong = model.ops.asnumpy(passed.logits).argmax(-1) != passed.targets[0]
    return len(asked) - len(np.unique(passed.target_rows[wrong] // batch.tokens.shape[1]))


def to_batch(rows, heads, model):
    """Rows of ids, of which the first `heads` are given and the others are to be said: a Batch."""
    longest = max(map(len, rows))
    tokens = np.full((len(rows), longest), model.config.pad_id or 0, np.int64)
    targets = np.full((len(rows), longest), -1)
    for n, (ids, head) in enumerate(zip(rows, heads, strict=True)):
        tokens[n, :len(ids)] = ids
        targets[n, head - 1:len(ids) - 1] = ids[head:]
    return loss_and_grad.Batch(tokens, targets)
