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

    def pick(*values):
        return values[rng.integers(len(values))]

    kv_heads = pick(1, 2, 3)
    scaling = {"rope_type": "llama3", "factor": pick(8.0, 16.0), "low_freq_factor": 1.0,
               "high_freq_factor": pick(1.0, 4.0), "original_max_position_embeddings": pick(16, 64)}
    text = {
        "model_type": "llama4_text", "vocab_size": 97, "hidden_size": pick(32, 48),
        "num_hidden_layers": pick(4, 5, 8), "num_attention_heads": kv_heads * pick(1, 2, 3),
        "num_key_value_heads": kv_heads, "head_dim": pick(8, 16), "num_local_experts": pick(2, 3, 5, 8),
        "num_experts_per_tok": pick(1, 2), "intermediate_size": pick(24, 40), "intermediate_size_mlp": 56,
        "interleave_moe_layer_step": pick(1, 2), "use_qk_norm": pick(True, False), "no_rope_layers": pick([], None),
        "rope_theta": pick(10_000.0, 500_000.0), "rope_scaling": pick(None, scaling),
        "attention_chunk_size": int(rng.integers(4, 33)), "attn_temperature_tuning": True,
        "floor_scale": pick(3, 4, 7), "attn_scale": 0.1, "max_position_embeddings": 256,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if not vision:
        return text
    eye = {"model_type": "llama4_vision_model", "hidden_size": 32, "num_attention_heads": pick(2, 4),
           "num_hidden_layers": 2, "intermediate_size": 128, "image_size": 56, "patch_size": 14,
           "projector_input_dim": 24, "projector_output_dim": 24, "vision_output_dim": 24,
           "pixel_shuffle_ratio": 0.5, "rope_theta": 10_000.0}
    return {"model_type": "llama4", "text_config": text, "vision_config": eye, "image_token_index": 96,
            "boi_token_index": 95, "eoi_token_index": 94}


def make(config, seed=0):
    """transformers' model of a config.json dict, its weights normal with deviation 0.15 and its norms around one."""
    torch.manual_seed(seed)
    whole = config["model_type"] == "llama4"
    model = (Llama4ForConditionalGeneration(Llama4Config(**config)) if whole
             else Llama4ForCausalLM(Llama4TextConfig(**config)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * torch.randn_like(parameter) if norm else 0.15 * torch.randn_like(parameter))
    return ready(model)


def read(directory):
    """transformers' reading of a checkpoint directory."""
    whole = "vision_config" in (directory / "config.json").read_text()
    kind = Llama4ForConditionalGeneration if whole else Llama4ForCausalLM
    return ready(kind.from_pretrained(directory, dtype=torch.float32))


def ready(model):
    model = model.float().eval()
    model.set_attn_implementation("eager")
    return model


def _inputs(tokens, tiles):
    ids = torch.tensor(np.asarray(tokens)[None])
    return {"input_ids": ids, **({} if tiles is None else {"pixel_values": torch.from_numpy(tiles)})}


def logits(model, tokens, tiles=None):
    """Next-token scores of the whole prompt at once  ->  (T, V) float32"""
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
        seen = model.get_image_features(pixel_values=torch.from_numpy(tiles)).last_hidden_state
        return model.multi_modal_projector(seen.flatten(0, 1)).numpy()
