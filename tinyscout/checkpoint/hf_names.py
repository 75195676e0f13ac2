"""The table of Hugging Face's names: the name of each weight in the checkpoints of transformers."""
import re

KINDS = ("weight", "bias")      # w and b
# {path in our tree of weights: HF's name}, within a layer or complete.  Experts' gate and up are halves of one tensor.
TEXT_NAMES = {
    "text.embedding": "model.embed_tokens.weight",
    "text.norm": "model.norm.weight",
    "text.output": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    **{f"attention.w_{name}": f"self_attn.{name}_proj.weight" for name in "qkvo"},
    "feed_forward_norm": "post_attention_layernorm.weight",
    "feed_forward.w_router": "feed_forward.router.weight",
    "feed_forward.experts.w_gate": "feed_forward.experts.gate_up_proj",
    "feed_forward.experts.w_up": "feed_forward.experts.gate_up_proj",
    "feed_forward.experts.w_down": "feed_forward.experts.down_proj",
    "feed_forward.shared.w_gate": "feed_forward.shared_expert.gate_proj.weight",
    "feed_forward.shared.w_up": "feed_forward.shared_expert.up_proj.weight",
    "feed_forward.shared.w_down": "feed_forward.shared_expert.down_proj.weight",
    "feed_forward.w_gate": "feed_forward.gate_proj.weight",
    "feed_forward.w_up": "feed_forward.up_proj.weight",
    "feed_forward.w_down": "feed_forward.down_proj.weight",
}
VISION_NAMES = {
    "vision.w_patch": "vision_model.patch_embedding.linear.weight",
    "vision.class_embedding": "vision_model.class_embedding",
    "vision.position_embedding": "vision_model.positional_embedding_vlm",
    "vision.norm_pre": "vision_model.layernorm_pre",
    "vision.norm_post": "vision_model.layernorm_post",
    "vision.adapter.w_1": "vision_model.vision_adapter.mlp.fc1.weight",
    "vision.adapter.w_2": "vision_model.vision_adapter.mlp.fc2.weight",
    "w_projector": "multi_modal_projector.linear_1.weight",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    **{f"attention.{kind[0]}_{name}": f"self_attn.{name}_proj.{kind}" for name in "qkvo" for kind in KINDS},
    **{f"mlp.{kind[0]}_{n}": f"mlp.fc{n}.{kind}" for n in (1, 2) for kind in KINDS},
}


def hf_name(path: str, multimodal: bool) -> str:
    """HF's name of one of our weights: "text.blocks.3.attention.w_q" is "...layers.3.self_attn.q_proj.weight".

    path as in weights.build, multimodal: True if the text model is part of a model with vision
    """
    is_text = path.startswith("text.")
    names, prefix = (TEXT_NAMES, "language_model." if multimodal else "") if is_text else (VISION_NAMES, "")
    in_block = re.fullmatch(r"(?:text|vision)\.blocks\.(\d+)\.(.+)", path)
    layer = f"{'model' if is_text else 'vision_model.model'}.layers.{in_block[1]}." if in_block else ""
    name = in_block[2] if in_block else path
    stem = name.removesuffix(".weight").removesuffix(".bias")       # of a norm in the vision tower
    return prefix + layer + names[stem] + name[len(stem):]


def hf_name_variants(path: str, multimodal: bool) -> tuple[str, str | None]:
    """Other names that a weight may have in the files, as (base, pattern).

    A quantized weight is two tensors, base + ".values" and base + ".scales".  In checkpoints of 8-bit floats, an expert
    is the tensor pattern.format(expert); pattern is None for other weights.  Here gate and up have separate names.
    """
    base = hf_name(path, multimodal)
    if base.endswith("gate_up_proj"):
        base = base.replace("gate_up_proj", f"{path.rpartition('_')[2]}_proj")
    head, experts, tail = base.partition(".experts.")
    return base, f"{head}{experts}{{}}.{tail}.weight" if experts else None
