"""transformers as the oracle: random small Llama 4 models, in fp32 and eager, beside tinyscout's reading of them."""
import json

import numpy as np
import torch
from transformers import Llama4Config, Llama4ForCausalLM, Llama4ForConditionalGeneration

import tinyscout

torch.set_num_threads(1)


def random_config(seed, vision=False):
    """A small config.json with everything that may differ between Llama 4 models drawn at random."""
    rng = np.random.default_rng(seed)
    pick = lambda *values: values[rng.integers(len(values))]            # noqa: E731
    kv_heads, experts, layers = pick(1, 2, 3), pick(2, 3, 5, 8), pick(4, 5, 8)
    head_dim, heads = pick(8, 16), kv_heads * pick(1, 2, 3)
    scaling = {"rope_type": "llama3", "factor": pick(8.0, 16.0), "low_freq_factor": 1.0,
               "high_freq_factor": pick(1.0, 4.0), "original_max_position_embeddings": pick(16, 64)}
    text = {
        "model_type": "llama4_text", "vocab_size": 97, "hidden_size": pick(32, 48), "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
        "num_local_experts": experts, "num_experts_per_tok": pick(1, 2), "intermediate_size": pick(24, 40),
        "intermediate_size_mlp": 56, "interleave_moe_layer_step": pick(1, 2), "use_qk_norm": pick(True, False),
        "no_rope_layers": pick([], None), "no_rope_layer_interval": 4, "rope_theta": pick(10_000.0, 500_000.0),
        "rope_scaling": pick(None, scaling), "attention_chunk_size": int(rng.integers(4, 33)),
        "attn_temperature_tuning": True, "floor_scale": pick(3, 4, 7), "attn_scale": 0.1,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "attn_implementation": "eager",
    }
    if not vision:
        return text
    eye = {"model_type": "llama4_vision_model", "hidden_size": 32, "num_attention_heads": pick(2, 4),
           "num_hidden_layers": 2, "intermediate_size": 128, "image_size": 56, "patch_size": 14,
           "projector_input_dim": 24, "projector_output_dim": 24, "vision_output_dim": 24,
           "pixel_shuffle_ratio": 0.5, "rope_theta": 10_000.0}
    return {"model_type": "llama4", "text_config": text, "vision_config": eye, "image_token_index": 96,
            "boi_token_index": 95, "eoi_token_index": 94}


def write_oracle(directory, config, seed=0):
    """Save transformers' own model with lively random weights into a directory  ->  that model."""
    torch.manual_seed(seed)
    if config["model_type"] == "llama4":
        model = Llama4ForConditionalGeneration(Llama4Config(**config))
    else:
        from transformers import Llama4TextConfig
        model = Llama4ForCausalLM(Llama4TextConfig(**config))
    model = model.float().eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and name.endswith("norm.weight") or "layernorm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    return model


def read_config(directory):
    return json.loads((directory / "config.json").read_text())


def oracle_logits(model, tokens, tiles=None):
    """transformers' logits (T, V) for the whole prompt at once."""
    inputs = {} if tiles is None else {"pixel_values": torch.from_numpy(tiles)}
    with torch.no_grad():
        return model(input_ids=torch.tensor(np.asarray(tokens)[None]), use_cache=False, **inputs).logits[0].numpy()


def greedy(model, tokens, n, tiles=None):
    """transformers' greedy continuation, n tokens."""
    inputs = {} if tiles is None else {"pixel_values": torch.from_numpy(tiles)}
    ids = torch.tensor(np.asarray(tokens)[None])
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=n,
                             **inputs)
    return out[0, len(tokens):].tolist()


def load(directory, backend="numpy"):
    return tinyscout.load(directory, backend)
