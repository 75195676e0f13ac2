"""Recipes: everything that, beside the text, decides what weights a training ends with."""
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

from tinyscout.config import Layer, ScoutConfig, TextConfig, VisionConfig, layer_plan
from tinyscout.inputs.tokenizer import SMALL_SPECIAL, special_names

N_SPECIAL = len(special_names(SMALL_SPECIAL))
Schedule = tuple[tuple[float, float], ...]    # (until this part of the steps, this much), ...


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.  Lengths are in tokens; a step is one change of all weights."""

    steps: int = 1000
    seed: int = 0
    # what a step reads
    text_tokens_per_step: int = 4096                        # tokens of text, in rows of the current length; 0 for none
    row_length: Schedule = ((1.0, 256),)         # of a row, growing with the training
    needles: Schedule = ()                    # pairs of fact and question in a row, at most; none: no needles
    needle_part: float = 1.0                # of the rows that have any
    comparison_part: Schedule = ((1.0, 0.0),
                                 )       # part of the rows, but the first, that compare words line by line instead
    dialogs: int = 0                        # conversations about pictures
    max_objects: Schedule = ((1.0, 5),)            # on a picture, at most
    patch_labels: bool = True                      # do picture tokens also learn to name what stands there, and how many?
    stages: Schedule = ((1.0, 0),)            # of learning to see: 0 names what is there, 1 to 3 count and compare
    dialog_length: int = 128                # tokens of the longest
    grad_accum_steps: int = 1                          # a step's rows go in so many batches, whose gradients are averaged
    # what it does with it
    optimizer: str = "muon"                 # for the hidden matrices; the rest is AdamW's, or all of it with "adamw"
    lr: float = 3e-3                      # of AdamW
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    warmup: int = 100                       # steps
    min_lr_ratio: float = 0.1                      # of the rate, which falls to it along half a cosine
    cycles: Schedule = ((1.0, 1.0),)          # such cosines, each with what part of the rate it begins with
    grad_clip: float = 1.0                       # the longest gradient; a longer one is scaled down
    router_aux_loss_coef: float = 0.01                   # what an uneven load of the experts costs
    # where it starts and whom it listens to
    source: str | None = None               # the checkpoint that is fine-tuned; None: from nothing
    lora: int = 0                           # rank of the adapters that learn instead of the matrices; 0: all weights
    teacher: str | None = None              # a checkpoint whose opinion counts
    distill_weight: tuple[float, float] = (0.5, 0.0)     # how much it counts, at first and at last

    def __post_init__(self):
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"the optimizer is muon or adamw, not {self.optimizer!r}")
        for name in ("steps", "grad_accum_steps", "dialog_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.text_tokens_per_step < self.grad_accum_steps * max(length for _, length in self.row_length) and self.text_tokens_per_step:
            raise ValueError(f"{self.text_tokens_per_step} tokens of text in {self.grad_accum_steps} parts hold no row of the longest length")
        if self.cycles[-1][0] != 1:
            raise ValueError(f"the last round must end at 1, with the last step, not at {self.cycles[-1][0]}")
        if self.lr <= 0 or self.muon_lr <= 0:
            raise ValueError("a learning rate must be above zero")
        if not all(0 <= part <= 1 for part in self.distill_weight):
            raise ValueError(f"trust in a teacher goes from 0 to 1, not to {max(self.distill_weight)}")
        if not self.text_tokens_per_step and not self.dialogs:
            raise ValueError("nothing to learn: neither text nor conversations")

    def value_at(self, ladder, step):
        """Where a ladder stands at a step."""
        part = (step - 1) / self.steps
        return next((value for until, value in ladder if part < until), ladder[-1][1])


def recipe_to_dict(recipe):
    """A recipe as plain values, and back by `recipe_from_dict`."""
    return asdict(recipe)


def recipe_from_dict(values):
    """Raises ValueError for what is no recipe."""
    known = {f.name for f in fields(Recipe)}
    if not isinstance(values, dict) or values.keys() - known:
        raise ValueError("this is no recipe, or one of another version")
    tupled: dict[str, Any] = {name: tuple(tuple(v) if isinstance(v, list) else v for v in value)
                              if isinstance(value, list) else value for name, value in values.items()}
    return Recipe(**tupled)


def with_special_ids(config, vocab_size):
    """A config for a tokenizer of that size: its special tokens are the last ones, as `tokenizer.train` puts them.

    config ScoutConfig, vocab_size int  ->  ScoutConfig
    """
    ids = {name: vocab_size - N_SPECIAL + n for n, name in enumerate(special_names(SMALL_SPECIAL))}
    return replace(
        config, text=replace(config.text, vocab_size=vocab_size), patch_id=ids["<|patch|>"],
        image_start_id=ids["<|image_start|>"], image_end_id=ids["<|image_end|>"], bos_id=ids["<|begin_of_text|>"],
        stop_ids=(ids["<|end_of_text|>"], ids["<|eom|>"], ids["<|eot|>"]), pad_id=ids["<|finetune_right_pad|>"])


def laboratory_config():
    """The long-context laboratory's model: bytes, three local layers and a global one, 0.2 million parameters."""
    return with_special_ids(ScoutConfig(TextConfig(
        dim=64, n_heads=2, n_kv_heads=1, head_dim=32, n_experts=1, hidden_dim=168, dense_dim=168,
        layers=layer_plan(4, moe_every=5), rope_theta=10_000.0, rope_scaling=None, chunk_size=64,
        attn_temperature_floor=512.0),
                                None),
                    256 + N_SPECIAL)


def laboratory_variant(layers=None, **changes):
    """The laboratory's model with another plan: what is taken from iRoPE must be missed."""
    config = laboratory_config()
    return replace(config, text=replace(config.text, layers=layers or config.text.layers, **changes))


def scout_mini_config():
    """The model in this package: 16 experts and a shared one in each of four layers, and an eye for 64 x 64 pixels."""
    text = TextConfig(
        dim=128, n_heads=4, n_kv_heads=2, head_dim=32, n_experts=16, hidden_dim=128, dense_dim=256,
        layers=layer_plan(4),
        rope_theta=10_000.0, rope_scaling=None, chunk_size=256, attn_temperature_floor=512.0)
    eye = VisionConfig(dim=96, n_heads=3, n_layers=3, hidden_dim=384, adapter_dim=128, tile_size=64, patch_size=8,
                       max_tiles=1)
    return with_special_ids(ScoutConfig(text, eye), 1024)


LABORATORY = Recipe(
    steps=1500, text_tokens_per_step=4096, row_length=((0.35, 128), (0.7, 256), (1.0, 512)),
    needles=((0.1, 1), (0.2, 2), (0.3, 4), (1.0, 8)))
SCOUT_MINI = Recipe(
    steps=11000, cycles=((6500 / 11000, 1.0), (9000 / 11000, 0.5), (1.0, 0.3)), text_tokens_per_step=2048,
    row_length=((3250 / 11000, 256), (1.0, 512)), needles=((1300 / 11000, 1), (2600 / 11000, 2), (1.0, 4)),
    needle_part=0.25, comparison_part=((9000 / 11000, 0.0), (1.0, 0.33)), dialogs=48, dialog_length=256,
    stages=((3900 / 11000, 0), (6500 / 11000, 1), (9000 / 11000, 2), (1.0, 3)))
LOCAL, GLOBAL, NOPE = Layer(True, True, False), Layer(True, False, False), Layer(False, False, False)
PRESETS: dict[str, tuple[Callable[[], ScoutConfig], Recipe]] = {
    "laboratory": (laboratory_config, LABORATORY),
    "laboratory-rope": (partial(laboratory_variant, (GLOBAL,) * 4), LABORATORY),
    "laboratory-nope-unchunked": (partial(laboratory_variant, (GLOBAL,) * 3 + (NOPE,)), LABORATORY),
    "laboratory-rope-global": (partial(laboratory_variant, (LOCAL,) * 3 + (GLOBAL,)), LABORATORY),
    "laboratory-qk-nope": (partial(laboratory_variant, qk_norm_nope=True), LABORATORY),
    "scout-mini": (scout_mini_config, SCOUT_MINI),
    "finetune": (scout_mini_config, Recipe(steps=200, row_length=((1.0, 256),), optimizer="adamw", lr=3e-4, warmup=20)),
}
