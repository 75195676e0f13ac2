"""The sizes of Llama 4.  The letter after a size is its axis in every shape comment of this project.

    B batch     T tokens now    S tokens seen    D width         H query heads   K key/value heads
    G = H/K     d head channels E experts        F hidden width  V vocabulary    N rows   P patches of a tile
"""
from dataclasses import dataclass, field
from typing import NamedTuple, get_type_hints


def _require(condition, message):
    if not condition:
        raise ValueError(message)


def _check_numbers(config, may_be_zero=()):
    """Raise ValueError unless every size is a whole number above zero, every float finite and every flag a bool."""
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if kind is bool:
            _require(isinstance(value, bool), f"{name} must be True or False, not {value!r}")
        elif kind in (int, float):
            zero = name in may_be_zero
            wanted = f"{'a whole' if kind is int else 'a'} number {'of zero or more' if zero else 'above zero'}"
            _require(is_number(value, kind) and (value > 0 or zero), f"{name} must be {wanted}, not {value!r}")


def is_number(value, kind=float):
    """True if `value` is a number from 0 to 2**63.  An int is accepted as a float, a bool never."""
    allowed = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return allowed and 0 <= value < 2 ** 63


class Layer(NamedTuple):
    """Options of one decoder layer: one row of the iRoPE layer plan."""

    rope: bool      # True: queries and keys are rotated.  False: the layer does not encode positions ("NoPE")
    chunked: bool   # True: a token sees only its own chunk.  False: it sees the whole past
    moe: bool       # True: a mixture of experts.  False: one dense feed-forward


def layer_plan(n_layers, nope_every=4, moe_every=1):
    """The layer plan: every `nope_every`-th layer is global and without RoPE, every `moe_every`-th has experts."""
    _require(min(nope_every, moe_every) >= 1,
             f"nope_every is {nope_every} and moe_every is {moe_every}: both must be at least 1")
    return tuple(
        Layer(rope=n % nope_every != 0, chunked=n % nope_every != 0, moe=n % moe_every == 0)
        for n in range(1, n_layers + 1)
    )


class RopeScaling(NamedTuple):
    """The "llama3" rule: wavelengths beyond original/low are stretched by `factor`, equation (rope-scaling)."""

    factor: float = 16.0
    low: float = 1.0
    high: float = 1.0
    original: int = 8192    # context length in tokens before the stretch


@dataclass(frozen=True)
class TextConfig:
    """The decoder.  The defaults are Scout's."""

    vocab_size: int = 202_048                   # V
    dim: int = 5120                             # D
    n_heads: int = 40                           # H
    n_kv_heads: int = 8                         # K
    head_dim: int = 128                         # d
    n_experts: int = 16                         # E
    top_k: int = 1                              # routed experts per token, in addition to the shared one
    hidden_dim: int = 8192                      # F of an expert, routed or shared
    dense_dim: int = 16_384                     # F of a layer without experts
    layers: tuple[Layer, ...] = layer_plan(48)
    norm_eps: float = 1e-5
    qk_norm: bool = True                        # on RoPE layers
    qk_norm_nope: bool = False                  # also on NoPE layers; False in every released Llama 4
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = RopeScaling()    # noqa: RUF009 (a tuple)
    chunk_size: int = 8192                      # tokens
    attn_temperature: bool = True               # on NoPE layers only
    attn_temperature_floor: float = 8192.0      # tokens
    attn_temperature_scale: float = 0.1
    tie_embeddings: bool = False                # True: the output matrix is the embedding
    max_positions: int = 10_485_760             # context length the checkpoint was made for; not enforced here

    def __post_init__(self):
        _check_numbers(self, may_be_zero=("norm_eps", "attn_temperature_scale"))
        _require(bool(self.layers), "a text model needs at least one layer")
        if self.rope_scaling is not None:
            good = all(is_number(value) and value > 0 for value in self.rope_scaling)
            _require(good and self.rope_scaling.low <= self.rope_scaling.high,
                     f"RoPE scaling needs numbers above zero and low <= high: {tuple(self.rope_scaling)}")
        _require(self.n_heads % self.n_kv_heads == 0,
                 f"{self.n_heads} query heads do not share {self.n_kv_heads} key/value heads evenly")
        _require(self.head_dim % 2 == 0, f"RoPE rotates pairs of channels, but head_dim {self.head_dim} is odd")
        _require(self.qk_norm or not self.qk_norm_nope, "a QK norm on NoPE layers only is not supported")
        _require(self.top_k <= self.n_experts, f"cannot choose {self.top_k} of {self.n_experts} experts")


@dataclass(frozen=True)
class VisionConfig:
    """The image encoder, adapter and projector.  They are the same in Scout and Maverick."""

    dim: int = 1408                             # D
    n_heads: int = 16                           # H
    n_layers: int = 34
    hidden_dim: int = 5632                      # F
    adapter_dim: int = 4096                     # width between pixel shuffle and the text model
    tile_size: int = 336                        # pixels on a side
    patch_size: int = 14                        # pixels on a side
    pixel_shuffle_factor: int = 2               # patches on a side of a square that becomes one token
    channels: int = 3
    max_tiles: int = 16                         # of an image, in addition to the global tile
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    def __post_init__(self):
        _check_numbers(self, may_be_zero=("norm_eps",))
        _require(self.dim % (4 * self.n_heads) == 0,
                 f"2-D RoPE needs a multiple of 4 channels per head: {self.dim} channels, {self.n_heads} heads")
        _require(self.hidden_dim == self.dim * self.pixel_shuffle_factor ** 2,
                 f"the encoder's hidden_dim {self.hidden_dim} must equal dim * pixel_shuffle_factor**2 = "
                 f"{self.dim * self.pixel_shuffle_factor ** 2}, as in every Llama 4")
        _require(self.tile_size % (self.patch_size * self.pixel_shuffle_factor) == 0,
                 f"a tile of {self.tile_size} pixels is not cut evenly into patches of {self.patch_size} "
                 f"and groups of {self.pixel_shuffle_factor}")

    @property
    def head_dim(self):
        return self.dim // self.n_heads

    @property
    def grid(self):
        """Patches along one side of a tile."""
        return self.tile_size // self.patch_size

    @property
    def tokens_per_tile(self):
        """Image tokens per tile: 144 in Scout."""
        return (self.grid // self.pixel_shuffle_factor) ** 2


@dataclass(frozen=True)
class ScoutConfig:
    """A whole model.  `vision` is None for a text-only checkpoint."""

    text: TextConfig = field(default_factory=TextConfig)
    vision: VisionConfig | None = field(default_factory=VisionConfig)
    patch_id: int = 200_092                     # the token whose embedding is replaced by image features
    image_start_id: int = 200_080
    image_end_id: int = 200_081
    bos_id: int | None = 200_000
    stop_ids: tuple[int, ...] = (200_001, 200_007, 200_008)
    pad_id: int | None = 200_018

    def __post_init__(self):
        _check_numbers(self, may_be_zero=("patch_id", "image_start_id", "image_end_id"))
        for name, ids in [("bos_id", [self.bos_id]), ("pad_id", [self.pad_id]), ("stop_ids", self.stop_ids)]:
            _require(all(id is None or is_number(id, int) for id in ids),
                     f"{name} must consist of whole numbers of zero or more, not {getattr(self, name)!r}")


SCOUT = ScoutConfig()
MAVERICK = ScoutConfig(
    text=TextConfig(n_experts=128, layers=layer_plan(48, moe_every=2), qk_norm=False, rope_scaling=None,
                    max_positions=1_048_576))
CONFIGS = {"scout": SCOUT, "maverick": MAVERICK}


def tiny_config(vision=True, **changes):
    """Scout's layer plan at the size of a test.

    `changes` are fields of TextConfig.  The chunk and the temperature floor are small, so that a few dozen tokens
    cross several chunk edges and are scaled by the temperature.
    """
    text = TextConfig(**{
        "vocab_size": 512, "dim": 64, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "n_experts": 4,
        "hidden_dim": 48, "dense_dim": 80, "layers": layer_plan(4), "rope_scaling": RopeScaling(original=64),
        "chunk_size": 8, "attn_temperature_floor": 4.0, "max_positions": 4096, **changes})
    tower = VisionConfig(dim=32, n_heads=2, n_layers=2, hidden_dim=128, adapter_dim=48, tile_size=56)
    last = text.vocab_size - 1
    return ScoutConfig(text, tower if vision else None, patch_id=last, image_start_id=last - 1, image_end_id=last - 2,
                       bos_id=last - 3, stop_ids=(last - 4, last - 5, last - 6), pad_id=last - 7)
