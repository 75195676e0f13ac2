"""The exam of a small model: bits per byte of held-out text, and answers about images that it never saw."""
from typing import NamedTuple

import numpy as np

from tinyscout.data.dialogs import TASKS, ask, to_message
from tinyscout.eval.ngram_baseline import NgramModel, compressor_bits_per_byte
from tinyscout.inputs.chat import BEGIN, encode_chat
from tinyscout.progress import track
from tinyscout.train import loss_and_grad
from tinyscout.train.batches import IGNORE_INDEX

BATCH_SIZE = 32         # rows of text or questions that are computed together


class TaskScore(NamedTuple):
    """The number of correct answers in a task."""

    task: str
    correct: int
    asked: int
    chance: float           # expected share of correct guesses


def evaluate_text(model, corpus, max_windows=None):
    """Bits per byte of a corpus's held-out text, for the model, an n-gram model and compressors  ->  {name: float}

    model Model, corpus Corpus, max_windows as for `bits_per_byte`
    """
    held_out = "".join(text for _, text in corpus.held_out).encode()
    ngram = NgramModel("".join(text for _, text in corpus.train).encode())
    return {"the model": bits_per_byte(model, corpus.held_out, max_windows=max_windows),
            "counts of 5 bytes": ngram.bits_per_byte(held_out), **compressor_bits_per_byte(held_out)}


def bits_per_byte(model, texts, length=512, max_windows=None):
    """Bits per byte of text, which the model reads in independent windows.

    model Model, texts list of (name, str), length of a window in tokens, max_windows evenly spaced or None for all
    ->  float
    """
    tokenizer, nats, n_bytes = model.tokenizer, 0.0, 0
    windows = [ids[n:n + length - 1] for _, text in texts if (ids := tokenizer.encode(text))
               for n in range(0, len(ids), length - 1)]
    if max_windows is not None and max_windows < len(windows):
        windows = [windows[n] for n in np.linspace(0, len(windows) - 1, max_windows).astype(int)]
    groups = [windows[n:n + BATCH_SIZE] for n in range(0, len(windows), BATCH_SIZE)]
    for group in track(groups, "Reading"):
        batch = to_batch([[tokenizer.special[BEGIN], *ids] for ids in group], [1] * len(group), model)
        [loss] = loss_and_grad.evaluate_loss(batch, model.weights, model.config, model.ops)
        nats += loss * (batch.targets >= 0).sum()
        n_bytes += sum(len(tokenizer.decode_bytes(ids)) for ids in group)
    return float(nats / np.log(2) / n_bytes)


def evaluate_questions(model, n_questions=200, seed=0, tasks=TASKS):
    """Ask questions of each task about scenes that are never used for training  ->  list of TaskScore

    An answer is correct if each of its tokens, including the end of the turn, has the highest logit, that is, if greedy
    decoding produces it.
    """
    scores = []
    for task in track(tasks, "Asking"):
        rng = np.random.default_rng([seed, TASKS.index(task)])
        questions = [ask(rng, task, held_out=True, size=model.config.vision.tile_size) for _ in range(n_questions)]
        correct = sum(count_correct(model, questions[n:n + BATCH_SIZE]) for n in range(0, n_questions, BATCH_SIZE))
        chance = float(np.mean([question.chance for question in questions]))
        scores.append(TaskScore(task, correct, n_questions, chance))
    return scores


def count_correct(model, questions):
    """Count the questions, list of Question, that the model answers correctly."""
    rows, prompt_lengths, tiles = [], [], []
    for question in questions:
        user, assistant = to_message(question), {"role": "assistant", "content": question.answer}
        prompt = encode_chat([user], model.tokenizer, model.config)
        dialog = encode_chat([user, assistant], model.tokenizer, model.config, add_generation_prompt=False)
        rows.append(dialog.tokens)
        prompt_lengths.append(len(prompt.tokens))
        tiles += prompt.images
    batch = to_batch(rows, prompt_lengths, model)._replace(tiles=np.concatenate(tiles))
    activations = loss_and_grad.forward(batch, model.weights, model.config, model.ops)
    is_wrong = model.ops.asnumpy(activations.logits).argmax(-1) != activations.targets[0]
    return len(questions) - len(np.unique(activations.target_rows[is_wrong] // batch.tokens.shape[1]))


def to_batch(rows, prompt_lengths, model):
    """Make a Batch of rows of ids, each a prompt followed by the tokens to predict."""
    length = max(map(len, rows))
    tokens = np.full((len(rows), length), model.config.pad_id or 0, np.int64)
    targets = np.full((len(rows), length), IGNORE_INDEX)
    for n, (ids, prompt_length) in enumerate(zip(rows, prompt_lengths, strict=True)):
        tokens[n, :len(ids)] = ids
        targets[n, prompt_length - 1:len(ids) - 1] = ids[prompt_length:]
    return loss_and_grad.Batch(tokens, targets)
