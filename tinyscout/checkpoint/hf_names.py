"""The one table of foreign names: what each weight is called in Hugging Face's checkpoints."""
import re

# Ours and theirs, within a layer or whole.  Experts' gate and up are the two halves of one tensor.
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
    **{f"attention.{kind}_{name}": f"self_attn.{name}_proj.{theirs}"
       for name in "qkvo" for kind, theirs in [("w", "weight"), ("b", "bias")]},
    **{f"mlp.{kind}_{n}": f"mlp.fc{n}.{theirs}" for n in (1, 2) for kind, theirs in [("w", "weight"), ("b", "bias")]},
}


def hf_name(path, multimodal):
    """Their name of one of our weights: "text.blocks.3.attention.w_q" is "...layers.3.self_attn.q_proj.weight".

    path str as in weights.build, multimodal bool: is the text model inside a model with vision?  ->  str
    """
    text = path.startswith("text.")
    names, prefix = (TEXT_NAMES, "language_model." if multimodal else "") if text else (VISION_NAMES, "")
    inside = re.fullmatch(r"(?:text|vision)\.blocks\.(\d+)\.(.+)", path)
    where = f"{'model' if text else 'vision_model.model'}.layers.{inside[1]}." if inside else ""
    name = inside[2] if inside else path
    stem = name.removesuffix(".weight").removesuffix(".bias")       # of a norm in the vision tower
    return prefix + where + names[stem] + name[len(stem):]


def hf_name_variants(path, multimodal):
    """The names under which a weight may be found, where it is not whole under its own.

    As integers and scales, base + ".values" and base + ".scales".  Experts apart, as in checkpoints of 8-bit floats:
    base.format(expert) + ".weight".  Here gate and up have a name each.
    """
    base = hf_name(path, multimodal)
    if base.endswith("gate_up_proj"):
        base = base.replace("gate_up_proj", f"{path.rpartition('_')[2]}_proj")
    head, experts, tail = base.partition(".experts.")
    return base, f"{head}{experts}{{}}.{tail}.weight" if experts else None
