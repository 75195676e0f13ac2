"""Recipes: all settings that, together with the text, determine the weights at the end of a training run."""
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

from tinyscout.config import Layer, ScoutConfig, TextConfig, VisionConfig, layer_plan
from tinyscout.inputs.tokenizer import SMALL_SPECIAL, special_names

N_SPECIAL = len(special_names(SMALL_SPECIAL))
Schedule = tuple[tuple[float, float], ...]      # ((fraction of the steps, value until then), ...)


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run.  Lengths are in tokens; a step is one update of all weights."""

    steps: int = 1000
    seed: int = 0
    # the data of a step
    text_tokens_per_step: int = 4096                    # in rows of the current length; 0 for no text
    row_length: Schedule = ((1.0, 256),)                # may grow during training
    needles: Schedule = ()                              # maximum pairs of fact and query in a row; () for no needles
    needle_part: float = 1.0                            # share of the rows that have needles
    comparison_part: Schedule = ((1.0, 0.0),)           # share of the rows (not the first) that compare words
    dialogs: int = 0                                    # conversations about images
    max_objects: Schedule = ((1.0, 5),)                 # in an image
    patch_labels: bool = True                           # True: patch tokens also learn labels of their patches
    stages: Schedule = ((1.0, 0),)                      # curriculum: 0 names objects, 1 to 3 count and compare
    dialog_length: int = 128                            # maximum tokens of a conversation
    grad_accum_steps: int = 1                           # batches of a step, whose gradients are averaged
    # the update of the weights
    optimizer: str = "muon"                             # for hidden matrices, AdamW for the rest; or "adamw" for all
    lr: float = 3e-3                                    # of AdamW
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)            # of AdamW
    weight_decay: float = 0.1
    warmup: int = 100                                   # steps
    min_lr_ratio: float = 0.1                           # final learning rate of a cosine, relative to its start
    cycles: Schedule = ((1.0, 1.0),)                    # cosines, each with its initial share of the learning rate
    grad_clip: float = 1.0                              # norm above which the gradient is scaled down
    router_aux_loss_coef: float = 0.01                  # weight of the load-balancing loss
    # fine-tuning and distillation
    source: str | None = None                           # the checkpoint that is fine-tuned; None: new weights
    lora: int = 0                                       # rank of the trained adapters; 0: train the matrices
    teacher: str | None = None                          # a checkpoint to distill from
    distill_weight: tuple[float, float] = (0.5, 0.0)    # of the teacher's loss, in the first step and after the last

    def __post_init__(self):
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"the optimizer must be muon or adamw, not {self.optimizer!r}")
        for name in ("steps", "grad_accum_steps", "dialog_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        max_length = max(length for _, length in self.row_length)
        if 0 < self.text_tokens_per_step < self.grad_accum_steps * max_length:
            raise ValueError(f"{self.text_tokens_per_step} tokens of text in {self.grad_accum_steps} batches are too "
                             f"few for a row of {max_length} tokens in each")
        if self.cycles[-1][0] != 1:
            raise ValueError(f"the last cycle must end at 1, the last step, not at {self.cycles[-1][0]}")
        if self.lr <= 0 or self.muon_lr <= 0:
            raise ValueError("a learning rate must be above zero")
        if not all(0 <= weight <= 1 for weight in self.distill_weight):
            raise ValueError(f"the weights of a teacher must be between 0 and 1, not {self.distill_weight}")
        if not self.text_tokens_per_step and not self.dialogs:
            raise ValueError("nothing to learn: neither text nor conversations")

    def value_at(self, schedule: Schedule, step: int) -> Any:
        """The value of a schedule at a step (from 1)."""
        part = (step - 1) / self.steps
        return next((value for until, value in schedule if part < until), schedule[-1][1])


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Convert a recipe to a dict of plain values, the inverse of `recipe_from_dict`."""
    return asdict(recipe)


def recipe_from_dict(values: Any) -> Recipe:
    """Convert a dict of plain values, with lists for tuples, to a recipe.  Raises ValueError if it is not a recipe."""
    known = {f.name for f in fields(Recipe)}
    if not isinstance(values, dict) or values.keys() - known:
        raise ValueError("not a recipe, or a recipe of an incompatible version")
    return Recipe(**{name: _to_tuples(value) for name, value in values.items()})


def _to_tuples(value):
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value


def with_special_ids(config: ScoutConfig, vocab_size: int) -> ScoutConfig:
    """Adapt a config to a vocabulary of that size, whose special tokens are the last ones, as in `tokenizer.train`."""
    ids = {name: vocab_size - N_SPECIAL + n for n, name in enumerate(special_names(SMALL_SPECIAL))}
    return replace(
        config, text=replace(config.text, vocab_size=vocab_size), patch_id=ids["<|patch|>"],
        image_start_id=ids["<|image_start|>"], image_end_id=ids["<|image_end|>"], bos_id=ids["<|begin_of_text|>"],
        stop_ids=(ids["<|end_of_text|>"], ids["<|eom|>"], ids["<|eot|>"]), pad_id=ids["<|finetune_right_pad|>"])


def laboratory_config() -> ScoutConfig:
    """The config of the long-context laboratory: bytes, three local layers and a global one, 0.2 million parameters."""
    text = TextConfig(
        dim=64, n_heads=2, n_kv_heads=1, head_dim=32, n_experts=1, hidden_dim=168, dense_dim=168,
        layers=layer_plan(4, moe_every=5), rope_theta=10_000.0, rope_scaling=None, chunk_size=64,
        attn_temperature_floor=512.0)
    return with_special_ids(ScoutConfig(text, None), 256 + N_SPECIAL)


def laboratory_variant(layers: tuple[Layer, ...] | None = None, **changes: Any) -> ScoutConfig:
    """The laboratory's config with other layers, to test each part of iRoPE."""
    config = laboratory_config()
    return replace(config, text=replace(config.text, layers=layers or config.text.layers, **changes))


def scout_mini_config() -> ScoutConfig:
    """The config of the small model in this package: four layers with 16 experts and a shared one, 64 x 64 images."""
    text = TextConfig(
        dim=128, n_heads=4, n_kv_heads=2, head_dim=32, n_experts=16, hidden_dim=128, dense_dim=256,
        layers=layer_plan(4), rope_theta=10_000.0, rope_scaling=None, chunk_size=256, attn_temperature_floor=512.0)
    vision = VisionConfig(dim=96, n_heads=3, n_layers=3, hidden_dim=384, adapter_dim=128, tile_size=64, patch_size=8,
                          max_tiles=1)
    return with_special_ids(ScoutConfig(text, vision), 1024)


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
