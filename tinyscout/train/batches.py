"""The batches of each step: rows of text with needles in them, and conversations about images.

A step's batches depend only on the recipe, the texts and the step number, so that an interrupted run continues exactly
as an uninterrupted one.
"""
from typing import Any

import numpy as np

from tinyscout.config import ScoutConfig
from tinyscout.data.corpus import Corpus
from tinyscout.data.dialogs import MAX_TURNS, random_dialog
from tinyscout.data.needles import encode_lines, plant
from tinyscout.data.pair_questions import word_comparison
from tinyscout.data.patch_labels import patch_targets
from tinyscout.data.scenes import choose
from tinyscout.inputs.chat import BEGIN, EOM, EOT, HEADER_END, HEADER_START, encode_chat
from tinyscout.inputs.tokenizer import Tokenizer, train
from tinyscout.train.loss_and_grad import Batch
from tinyscout.train.recipe import Recipe

IGNORE_INDEX = -1       # a target that is ignored in the loss


class BatchSource:
    """Tokenize the texts and make batches of them.

    tokenizer, config ScoutConfig, recipe Recipe, corpus Corpus or None if no text is used
    """

    def __init__(self, tokenizer: Tokenizer, config: ScoutConfig, recipe: Recipe, corpus: Corpus | None = None):
        self.tokenizer, self.config, self.recipe = tokenizer, config, recipe
        self.vision: Any = config.vision        # not None if the recipe has dialogs
        self.lines = encode_lines(tokenizer) if recipe.needles else None
        self.bos_id = tokenizer.special[BEGIN]
        max_length = max(length for _, length in recipe.row_length)
        self.train_tokens: Any = None
        self.held_out_tokens: Any = None
        if corpus:
            self.train_tokens, self.held_out_tokens = (concat_texts(texts, tokenizer, self.bos_id) for texts in corpus)
            if min(len(self.train_tokens), len(self.held_out_tokens)) <= max_length:
                raise ValueError(f"the text is shorter than a row of {max_length} tokens: {len(self.train_tokens):,} "
                                 f"for training and {len(self.held_out_tokens):,} held out")

    def batches(self, step: int) -> dict[str, list[Batch]]:
        """The batches of a step, grad_accum_steps of each kind: {"text": [Batch], "images": [Batch]}."""
        rng, r = np.random.default_rng([self.recipe.seed, step]), self.recipe
        batches: dict[str, list[Batch]] = {}
        if r.text_tokens_per_step:
            batches["text"] = [self.text_batch(rng, self.train_tokens, step) for _ in range(r.grad_accum_steps)]
        if r.dialogs:
            n_dialogs = max(1, r.dialogs // r.grad_accum_steps)
            max_objects, stage = r.value_at(r.max_objects, step), r.value_at(r.stages, step)
            batches["images"] = [self.dialog_batch(rng, n_dialogs, max_objects, stage)
                                 for _ in range(r.grad_accum_steps)]
        return batches

    def text_batch(self, rng, text_tokens, step):
        """Windows of the text, with or without needles; some windows are replaced by comparisons of words.

        The aux_targets of the Batch are the values of the needles and the answers of the comparisons.
        """
        r, length = self.recipe, self.recipe.value_at(self.recipe.row_length, step)
        n_rows = max(1, r.text_tokens_per_step // r.grad_accum_steps // length)
        starts = rng.integers(0, len(text_tokens) - length, n_rows)
        tokens = text_tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        tokens[:, 0] = self.bos_id
        targets, aux_targets = tokens[:, 1:].copy(), np.full((n_rows, length), IGNORE_INDEX)
        comparison_part = r.value_at(r.comparison_part, step)
        for n in range(n_rows):
            if n and comparison_part and rng.random() < comparison_part:    # at least one row is text
                tokens[n], is_answer = self.comparison_row(rng, length)
                aux_targets[n, is_answer] = tokens[n, 1:][is_answer]
                targets[n] = IGNORE_INDEX
            elif self.lines and rng.random() < r.needle_part:
                planted = plant(rng, tokens[n], self.lines, r.value_at(r.needles, step),
                                self.config.text.chunk_size, keep_first=1)
                is_answer = planted.answer_mask[1:]
                tokens[n], targets[n] = planted.tokens, planted.tokens[1:]
                aux_targets[n, is_answer] = targets[n, is_answer]
                targets[n, is_answer | planted.noise_mask[1:]] = IGNORE_INDEX
        return Batch(tokens[:, :-1], targets, None, aux_targets if self.lines or comparison_part else None)

    def comparison_row(self, rng, length):
        """Lines that compare two words: (length + 1,) ids, and (length,) bool, True if the next token is an answer."""
        ids, is_answer = [self.bos_id], []
        while len(ids) <= length:
            question, answer = (self.tokenizer.encode(part) for part in word_comparison(rng))
            is_answer += [False] * len(question) + [True] * len(answer)
            ids += question + answer
        return ids[:length + 1], np.array(is_answer[:length])

    def dialog_batch(self, rng, n, max_objects, stage=0):
        """n conversations about images: a Batch with the replies as targets and the patch labels as aux_targets."""
        size = self.vision.tile_size
        dialogs = [random_dialog(rng, turns=MAX_TURNS, size=size, max_objects=max_objects, stage=stage)
                   for _ in range(n)]
        chats = [encode_chat(messages, self.tokenizer, self.config, add_generation_prompt=False)
                 for messages in dialogs]
        length = max(len(chat.tokens) for chat in chats)
        if length > self.recipe.dialog_length:
            raise ValueError(f"a conversation of {length} tokens is longer than dialog_length "
                             f"{self.recipe.dialog_length}")
        tokens = np.full((n, length), self.config.pad_id, np.int64)
        targets = np.full((n, length), IGNORE_INDEX)
        for row, chat in enumerate(chats):
            ids = np.array(chat.tokens)
            tokens[row, :len(ids)] = ids
            is_reply = assistant_mask(ids, self.tokenizer)
            targets[row, :len(ids) - 1] = np.where(is_reply[1:], ids[1:], IGNORE_INDEX)
        tiles = np.concatenate([image for chat in chats for image in chat.images])
        aux_targets = self.patch_label_targets(rng, tokens, dialogs, stage) if self.recipe.patch_labels else None
        return Batch(tokens, targets, tiles, aux_targets)

    def patch_label_targets(self, rng, tokens, dialogs, stage=0):
        """Auxiliary targets (B, T): a label of its patch for each patch token, a count for each end-of-image token.

        tokens (B, T) of conversations whose images have one tile each, dialogs their messages
        If a label has several tokens, the target is a random one of them.
        """
        v, encode, labels = self.vision, self.tokenizer.encode, []
        for messages in dialogs:
            scenes = [part["scene"] for part in messages[0]["content"] if part["type"] == "image"]
            labels += patch_targets(rng, scenes, v.grid // v.pixel_shuffle_factor, stage)
        aux_targets = np.full(tokens.shape, IGNORE_INDEX)
        aux_targets[(tokens == self.config.patch_id) | (tokens == self.config.image_end_id)] = [
            choose(rng, encode(label)) if label else IGNORE_INDEX for label in labels]
        return aux_targets

    def validation_batch(self) -> Batch | None:
        """Rows of held-out text, always the same: a Batch without needles, or None if no text is used."""
        if self.held_out_tokens is None:
            return None
        length = max(length for _, length in self.recipe.row_length)
        starts = np.linspace(0, len(self.held_out_tokens) - length - 1, 16).astype(np.int64)
        tokens = self.held_out_tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        tokens[:, 0] = self.bos_id
        return Batch(tokens[:, :-1], tokens[:, 1:])


def concat_texts(texts, tokenizer, bos_id):
    """Concatenate the tokens of all texts, each after `bos_id`: (n,) of the smallest dtype that fits every id."""
    rows = [np.array([bos_id, *tokenizer.encode(text)]) for _, text in texts]
    return np.concatenate(rows).astype(np.min_scalar_type(tokenizer.vocab_size))


def assistant_mask(ids, tokenizer):
    """Mask of the assistant's tokens: from after the assistant header to the end of the turn.  (T,) bool"""
    header = [tokenizer.special[HEADER_START], *tokenizer.encode("assistant"),
              tokenizer.special[HEADER_END], *tokenizer.encode("\n\n")]
    end_ids = [tokenizer.special[name] for name in (EOT, EOM)]
    mask, at = np.zeros(len(ids), bool), 0
    while at + len(header) < len(ids):
        if list(ids[at:at + len(header)]) == header:
            start = at + len(header)
            at = start + int(np.flatnonzero(np.isin(ids[start:], end_ids))[0]) + 1
            mask[start:at] = True
        else:
            at += 1
    return mask


def train_tokenizer(config: ScoutConfig, corpus: Corpus | None, recipe: Recipe) -> Tokenizer:
    """Train a tokenizer on the data of a recipe, with the vocabulary size of the config.

    If the vocabulary has room only for the 256 bytes and the special tokens, no text is needed.
    """
    texts = [text for _, text in corpus.train] if corpus else []
    if recipe.dialogs:                  # weighted as in training, compared with the text
        rng = np.random.default_rng([recipe.seed, 0])
        dialogs = [random_dialog(rng, size=8) for _ in range(2000)]
        texts += [dialog_lines(messages) for messages in dialogs] * 20
        # answers even more often, so that each of their words becomes one token
        texts += [message["content"] for messages in dialogs for message in messages[1::2]] * 40
    return train(texts, config.text.vocab_size)


def dialog_lines(messages):
    """The text of a conversation, one line for each message."""
    lines = []
    for message in messages:
        content = message["content"]
        lines += [content] if isinstance(content, str) else [p["text"] for p in content if p["type"] == "text"]
    return "\n".join(lines)
