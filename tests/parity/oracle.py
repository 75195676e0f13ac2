"""transformers as the oracle: small Llama 4 models with random sizes and lively weights, in fp32 and eager."""
import numpy as np
import torch
from transformers import Llama4Config, Llama4ForCausalLM, Llama4ForConditionalGeneration, Llama4TextConfig
from transformers.utils import logging

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()


def random_config(seed, vision=False):
    """A small config.json in which everything that differs between Llama 4 models is drawn at random."""
    rng = np.random.default_rng(seed)

    def choose(*values):
        return values[rng.integers(len(values))]

    kv_heads = choose(1, 2, 3)
    scaling = {"rope_type": "llama3", "factor": choose(8.0, 16.0), "low_freq_factor": 1.0,
               "high_freq_factor": choose(1.0, 4.0), "original_max_position_embeddings": choose(16, 64)}
    text = {
        "model_type": "llama4_text", "vocab_size": 97, "hidden_size": choose(32, 48),
        "num_hidden_layers": choose(4, 5, 8), "num_attention_heads": kv_heads * choose(1, 2, 3),
        "num_key_value_heads": kv_heads, "head_dim": choose(8, 16), "num_local_experts": choose(2, 3, 5, 8),
        "num_experts_per_tok": choose(1, 2), "intermediate_size": choose(24, 40), "intermediate_size_mlp": 56,
        "interleave_moe_layer_step": choose(1, 2), "use_qk_norm": choose(True, False),
        "no_rope_layers": choose([], None), "rope_theta": choose(10_000.0, 500_000.0),
        "rope_scaling": choose(None, scaling),
        "attention_chunk_size": int(rng.integers(4, 33)), "attn_temperature_tuning": True,
        "floor_scale": choose(3, 4, 7), "attn_scale": 0.1, "max_position_embeddings": 256,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if not vision:
        return text
    vision_config = {
        "model_type": "llama4_vision_model", "hidden_size": 32, "num_attention_heads": choose(2, 4),
        "num_hidden_layers": 2, "intermediate_size": 128, "image_size": 56, "patch_size": 14,
        "projector_input_dim": 24, "projector_output_dim": 24, "vision_output_dim": 24,
        "pixel_shuffle_ratio": 0.5, "rope_theta": 10_000.0}
    return {"model_type": "llama4", "text_config": text, "vision_config": vision_config, "image_token_index": 96,
            "boi_token_index": 95, "eoi_token_index": 94}


def make(config, seed=0):
    """transformers' model of a config.json dict, its weights normal with deviation 0.15 and its norms around one."""
    torch.manual_seed(seed)
    is_multimodal = config["model_type"] == "llama4"
    model = (Llama4ForConditionalGeneration(Llama4Config(**config)) if is_multimodal
             else Llama4ForCausalLM(Llama4TextConfig(**config)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * torch.randn_like(parameter) if is_norm else 0.15 * torch.randn_like(parameter))
    return prepare(model)


def read(directory):
    """transformers' model of a checkpoint directory."""
    is_multimodal = "vision_config" in (directory / "config.json").read_text()
    model_class = Llama4ForConditionalGeneration if is_multimodal else Llama4ForCausalLM
    return prepare(model_class.from_pretrained(directory, dtype=torch.float32))


def prepare(model):
    """The model in float32 and evaluation mode, with eager attention."""
    model = model.float().eval()
    model.set_attn_implementation("eager")
    return model


def _inputs(tokens, tiles):
    ids = torch.tensor(np.asarray(tokens)[None])
    return {"input_ids": ids, **({} if tiles is None else {"pixel_values": torch.from_numpy(tiles)})}


def logits(model, tokens, tiles=None):
    """Next-token logits of the whole prompt at once  ->  (T, V) float32"""
    with torch.no_grad():
        return model(**_inputs(tokens, tiles), use_cache=False).logits[0].numpy()


def greedy(model, tokens, n, tiles=None):
    """Up to n tokens of greedy continuation  ->  list of int"""
    inputs = _inputs(tokens, tiles)
    mask = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        out = model.generate(**inputs, attention_mask=mask, do_sample=False, max_new_tokens=n,
                             temperature=None, top_p=None)
    return out[0, len(tokens):].tolist()


def features(model, tiles):
    """What the text model sees of tiles  ->  (tiles * tokens per tile, D) float32"""
    with torch.no_grad():
        states = model.get_image_features(pixel_values=torch.from_numpy(tiles)).last_hidden_state
        return model.multi_modal_projector(states.flatten(0, 1)).numpy()
