"""What is read in each step: rows of text with needles in them, and conversations about pictures.

A step's lessons depend on the recipe, the texts and the step's number alone, so that a training that was interrupted
goes on as if it had not been.
"""
from typing import Any

import numpy as np

from tinyscout.data.dialogs import MAX_TURNS, random_dialog
from tinyscout.data.needles import encode_lines, plant
from tinyscout.data.pair_questions import word_comparison
from tinyscout.data.patch_labels import patch_targets
from tinyscout.data.scenes import choose
from tinyscout.inputs.chat import BEGIN, encode_chat
from tinyscout.inputs.tokenizer import train
from tinyscout.train.loss_and_grad import Batch

IGNORE_INDEX = -1


class BatchSource:
    """The texts as tokens, and the lessons made of them.

    tokenizer, config ScoutConfig, recipe Recipe, corpus Corpus or None where no text is read
    """

    def __init__(self, tokenizer, config, recipe, corpus=None):
        self.tokenizer, self.config, self.recipe = tokenizer, config, recipe
        self.lines = encode_lines(tokenizer) if recipe.needles else None
        self.bos_id = tokenizer.special[BEGIN]
        longest = max(length for _, length in recipe.row_length)
        self.train_tokens: Any = None
        self.held_out_tokens: Any = None
        if corpus:
            self.train_tokens, self.held_out_tokens = (concat_texts(texts, tokenizer, self.bos_id) for texts in corpus)
            if min(len(self.train_tokens), len(self.held_out_tokens)) <= longest:
                raise ValueError(f"the text is shorter than a row of {longest} tokens: {len(self.train_tokens):,} to learn "
                                 f"and {len(self.held_out_tokens):,} held out")

    def batches(self, step):
        """The batches of a step: {"text": list of Batch, "pictures": list of Batch}, each with `parts` of them."""
        rng, r = np.random.default_rng([self.recipe.seed, step]), self.recipe
        made = {}
        if r.text_tokens_per_step:
            made["text"] = [self.text_batch(rng, self.train_tokens, step) for _ in range(r.grad_accum_steps)]
        if r.dialogs:
            each, most, stage = max(1, r.dialogs // r.grad_accum_steps), r.value_at(r.max_objects,
                                                                                    step), r.value_at(r.stages, step)
            made["pictures"] = [self.dialog_batch(rng, each, most, stage) for _ in range(r.grad_accum_steps)]
        return made

    def text_batch(self, rng, text, step):
        """Windows of the text, each with needles or not, or exercises in its place.

        A Batch whose answers are the needles' values and the verdicts of the exercises.
        """
        r, length = self.recipe, self.recipe.value_at(self.recipe.row_length, step)
        starts = rng.integers(0, len(text) - length, max(1, r.text_tokens_per_step // r.grad_accum_steps // length))
        tokens = text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        tokens[:, 0] = self.bos_id
        targets, answers = tokens[:, 1:].copy(), np.full((len(tokens), length), IGNORE_INDEX)
        exercised = r.value_at(r.comparison_part, step)
        for n in range(len(tokens)):
            if n and exercised and rng.random() < exercised:        # one row at least is text
                tokens[n], answer = self.comparison_row(rng, length)
                answers[n, answer] = tokens[n, 1:][answer]
                targets[n] = IGNORE_INDEX
            elif self.lines and rng.random() < r.needle_part:
                pairs = r.value_at(r.needles, step)
                planted = plant(rng, tokens[n], self.lines, pairs, self.config.text.chunk_size, keep_first=1)
                answer = planted.answer_mask[1:]
                tokens[n], targets[n] = planted.tokens, planted.tokens[1:]
                answers[n, answer] = targets[n, answer]
                targets[n, answer | planted.noise_mask[1:]] = IGNORE_INDEX
        return Batch(tokens[:, :-1], targets, None, answers if self.lines or exercised else None)

    def comparison_row(self, rng, length):
        """Lines of two words, and are they the same?  (length + 1,) ids, and where a verdict comes next, (length,)."""
        ids, follows = [self.bos_id], []
        while len(ids) <= length:
            given, answer = (self.tokenizer.encode(part) for part in word_comparison(rng))
            follows += [False] * len(given) + [True] * len(answer)
            ids += given + answer
        return ids[:length + 1], np.array(follows[:length])

    def dialog_batch(self, rng, n, most, stage=0):
        """n conversations about pictures of at most so many things: a Batch whose targets are the replies."""
        size = self.config.vision.tile_size
        spoken = [random_dialog(rng, turns=MAX_TURNS, size=size, max_objects=most, stage=stage) for _ in range(n)]
        chats = [encode_chat(messages, self.tokenizer, self.config, add_generation_prompt=False) for messages in spoken]
        longest = max(len(chat.tokens) for chat in chats)
        if longest > self.recipe.dialog_length:
            raise ValueError(f"a conversation of {longest} tokens is longer than dialog_length "
                             f"{self.recipe.dialog_length}")
        tokens = np.full((n, longest), self.config.pad_id, np.int64)
        targets = np.full((n, longest), IGNORE_INDEX)
        for row, chat in enumerate(chats):
            ids = np.array(chat.tokens)
            tokens[row, :len(ids)] = ids
            said = assistant_mask(ids, self.tokenizer)
            targets[row, :len(ids) - 1] = np.where(said[1:], ids[1:], IGNORE_INDEX)
        tiles = np.concatenate([image for chat in chats for image in chat.images])
        return Batch(tokens, targets, tiles, self.patch_label_targets(rng, tokens, spoken, stage)
                     if self.recipe.patch_labels else None)

    def patch_label_targets(self, rng, tokens, spoken, stage=0):
        """At each picture token a name of what stands there, at each picture's end how many do: a Batch's answers.

        tokens (B, T) of conversations whose pictures have one tile each, spoken their messages
        A token of a name at random stands for it: all the names of a thing are likely, one after another.
        """
        v, encode, names = self.config.vision, self.tokenizer.encode, []
        for messages in spoken:
            scenes = [part["scene"] for part in messages[0]["content"] if part["type"] == "image"]
            names += patch_targets(rng, scenes, v.grid // v.pixel_shuffle_factor, stage)
        answers = np.full(tokens.shape, IGNORE_INDEX)
        answers[(tokens == self.config.patch_id) | (tokens == self.config.image_end_id)] = [
            choose(rng, encode(name)) if name else IGNORE_INDEX for name in names]
        return answers

    def validation_batch(self):
        """Rows of held-out text, the same every time: a Batch without needles, or None where no text is read."""
        if self.held_out_tokens is None:
            return None
        length = max(length for _, length in self.recipe.row_length)
        starts = np.linspace(0, len(self.held_out_tokens) - length - 1, 16).astype(np.int64)
        tokens = self.held_out_tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        tokens[:, 0] = self.bos_id
        return Batch(tokens[:, :-1], tokens[:, 1:])


def concat_texts(texts, tokenizer, begin):
    """All texts as one row of tokens, each behind its begin token.  (n,) of the smallest type that holds them."""
    parts = [np.array([begin, *tokenizer.encode(text)]) for _, text in texts]
    return np.concatenate(parts).astype(np.min_scalar_type(tokenizer.vocab_size))


def assistant_mask(ids, tokenizer):
    """Which tokens the model is to say: what follows an assistant's header, to the end of its turn.  (T,) bool"""
    header = [tokenizer.special["<|header_start|>"], *tokenizer.encode("assistant"),
              tokenizer.special["<|header_end|>"], *tokenizer.encode("\n\n")]
    ends, said, at = [tokenizer.special[name] for name in ("<|eot|>", "<|eom|>")], np.zeros(len(ids), bool), 0
    while at + len(header) < len(ids):
        if list(ids[at:at + len(header)]) == header:
            at += len(header)
            stop = at + int(np.flatnonzero(np.isin(ids[at:], ends))[0]) + 1
            said[at:stop] = True
            at = stop
        else:
            at += 1
    return said




def train_tokenizer(config, corpus, recipe):
    """A vocabulary for what a recipe reads, with as many tokens as the config has.

    config ScoutConfig, corpus Corpus or None, recipe Recipe  ->  Tokenizer.  Of a vocabulary that holds the 256 bytes
    and the special tokens only, no text has to be read.
    """
    texts = [text for _, text in corpus.train] if corpus else []
    if recipe.dialogs:                  # as often as they will be read, beside the text
        rng = np.random.default_rng([recipe.seed, 0])
        said = [random_dialog(rng, size=8) for _ in range(2000)]
        texts += [dialog_lines(messages) for messages in said] * 20
        texts += [message["content"] for messages in said for message in messages[1::2]] * 40   # a word, a token
    return train(texts, config.text.vocab_size)


def dialog_lines(messages):
    """The words of a conversation, a line each."""
    parts = [part for message in messages for part in (
        [message["content"]] if isinstance(message["content"], str) else
        [part["text"] for part in message["content"] if part["type"] == "text"])]
    return "\n".join(parts)
