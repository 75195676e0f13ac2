"""Mistakes in the text model: norms, positions, attention, experts, the plan of the layers and the file."""
import math

import numpy as np

from tinyscout.config import Layer, RopeScaling
from tinyscout.laws.mistakes.registry import in_config, in_operation, in_operations, in_weights
from tinyscout.nn.weights import tree_map
from tinyscout.reference import to_dense

# norm


@in_operation("norm", "rms_norm")
def one_plus_weight(ops, x, weight=None, eps=1e-5):
    """The norm multiplies by 1 + weight, as some other models do, instead of by weight."""
    return ops.rms_norm(x, None if weight is None else 1 + weight, eps)


@in_operation("norm", "rms_norm")
def unit_length(ops, x, weight=None, eps=1e-5):
    """The QK norm makes the length of a head one, instead of its root mean square: the factor sqrt(d) is missing."""
    return ops.rms_norm(x, weight, eps) / (math.sqrt(x.shape[-1]) if weight is None else 1)


@in_operation("norm", "rms_norm")
def all_heads(ops, x, weight=None, eps=1e-5):
    """The QK norm is taken over all heads of a token together, instead of each head."""
    if weight is not None or x.ndim < 2:
        return ops.rms_norm(x, weight, eps)
    return ops.rms_norm(x.reshape(*x.shape[:-2], -1), None, eps).reshape(x.shape)


@in_config("norm", "qk_norm_nope")
def global_layers(text):
    """Layers without RoPE norm their queries and keys too."""
    return True


@in_config("norm", "qk_norm")
def no_qk_norm(text):
    """The QK norm is left out, as it is in Maverick."""
    return False


@in_operation("norm", "rms_norm")
def no_epsilon(ops, x, weight=None, eps=1e-5):
    """The norm does not add epsilon to the mean square."""
    return ops.rms_norm(x, weight, 0.0)


@in_operation("norm", "rms_norm")
def epsilon_1e_6(ops, x, weight=None, eps=1e-5):
    """The norm adds 1e-6 to the mean square, instead of the epsilon that it is given."""
    return ops.rms_norm(x, weight, 1e-6)


@in_operations("norm", "apply_rope", "rms_norm", is_harmless=True)
def before_rotation(ops):
    """The QK norm comes before the rotation: no mistake, since a rotation keeps the length."""
    def apply_rope(x, cos, sin):
        return ops.apply_rope(ops.rms_norm(x), cos, sin)

    def rms_norm(x, weight=None, eps=1e-5):
        return x if weight is None else ops.rms_norm(x, weight, eps)
    return {"apply_rope": apply_rope, "rms_norm": rms_norm}


# rope


@in_operation("rope", "apply_rope")
def halves(ops, x, cos, sin):
    """RoPE pairs channel i with channel i + d/2, instead of its neighbour."""
    order = np.arange(x.shape[-1]).reshape(2, -1).T.reshape(-1)         # 0, d/2, 1, d/2 + 1, ...
    return ops.apply_rope(x[..., order], cos, sin)[..., np.argsort(order)]


@in_config("rope", "rope_scaling")
def factor_8(text):
    """RoPE is scaled by the rule of Llama 3.1, with factor 8, low 1 and high 4."""
    return RopeScaling(8.0, 1.0, 4.0, text.rope_scaling.original)


@in_config("rope", "rope_scaling")
def no_scaling(text):
    """The frequencies of RoPE are not scaled."""
    return None


@in_operation("rope", "rope_angles")
def theta_10_000(ops, positions, head_dim, theta, scaling=None):
    """RoPE has the usual base of 10,000, whatever theta is."""
    return ops.rope_angles(positions, head_dim, 10_000.0, scaling)


@in_operation("rope", "rope_angles")
def positions_from_zero(ops, positions, head_dim, theta, scaling=None):
    """The positions of a call count from zero, also when a cache holds earlier tokens."""
    return ops.rope_angles(np.arange(len(positions)), head_dim, theta, scaling)


@in_operations("rope", "rope_angles", "grouped_query_attention")
def every_layer(ops):
    """Layers without RoPE rotate their queries and keys too."""
    rotation: tuple = ()

    def rope_angles(positions, head_dim, theta, scaling=None):
        nonlocal rotation
        rotation = head_dim, theta, scaling
        return ops.rope_angles(positions, head_dim, theta, scaling)

    def grouped_query_attention(q, k, v, causal=True, chunk=None, kv_start=0):
        if rotation and causal and chunk is None:
            T, S = q.shape[1], k.shape[1]
            cos, sin = ops.rope_angles(np.arange(kv_start, kv_start + S), *rotation)
            q, k = ops.apply_rope(q, cos[S - T:], sin[S - T:]), ops.apply_rope(to_dense(k, q.dtype), cos, sin)
        return ops.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    return {"rope_angles": rope_angles, "grouped_query_attention": grouped_query_attention}


# attention


@in_operation("attention", "grouped_query_attention")
def sliding_window(ops, q, k, v, causal=True, chunk=None, kv_start=0):
    """A token sees the last `chunk` tokens, instead of those of the current chunk."""
    if not causal or chunk is None:
        return ops.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    T, S, G = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    keys, queries = np.arange(S), np.arange(S - T, S)
    mask = ops.causal_mask(queries, keys) & (keys > queries[:, None] - chunk)
    k, v = (np.repeat(to_dense(a, q.dtype), G, axis=2) for a in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    weights = ops.softmax(np.where(mask, scores, -np.inf).astype(q.dtype))
    return np.einsum("bhts,bshd->bthd", weights, v)


@in_operation("attention", "grouped_query_attention")
def no_chunks(ops, q, k, v, causal=True, chunk=None, kv_start=0):
    """A local layer sees the whole past, instead of the current chunk."""
    return ops.grouped_query_attention(q, k, v, causal, None, kv_start)


@in_operation("attention", "grouped_query_attention")
def head_modulo(ops, q, k, v, causal=True, chunk=None, kv_start=0):
    """Query head h reads key head h mod K, instead of h // G."""
    order = np.arange(q.shape[2]).reshape(-1, k.shape[2]).T.reshape(-1)         # those of key head 0, then of 1, ...
    return ops.grouped_query_attention(q[:, :, order], k, v, causal, chunk, kv_start)[:, :, np.argsort(order)]


@in_operation("attention", "grouped_query_attention")
def one_eighth(ops, q, k, v, causal=True, chunk=None, kv_start=0):
    """The scores are divided by 8, which is right for 64 channels, instead of by sqrt(d)."""
    return ops.grouped_query_attention(q * (math.sqrt(q.shape[-1]) / 8), k, v, causal, chunk, kv_start)


@in_operations("attention", "attention_temperature", "grouped_query_attention")
def temperature_in_local_layers(ops):
    """The queries of local layers are multiplied by the temperature too."""
    parameters: tuple = ()

    def attention_temperature(positions, floor, scale):
        nonlocal parameters
        parameters = floor, scale
        return ops.attention_temperature(positions, floor, scale)

    def grouped_query_attention(q, k, v, causal=True, chunk=None, kv_start=0):
        if parameters and causal and chunk is not None:
            last = kv_start + k.shape[1]
            t = ops.attention_temperature(np.arange(last - q.shape[1], last), *parameters)
            q = q * t[:, None, None].astype(q.dtype)
        return ops.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    return {"attention_temperature": attention_temperature, "grouped_query_attention": grouped_query_attention}


@in_operation("attention", "attention_temperature")
def no_temperature(ops, positions, floor, scale):
    """The temperature is one at every position."""
    return np.ones(np.shape(positions))


@in_operation("attention", "attention_temperature")
def temperature_without_one(ops, positions, floor, scale):
    """The temperature is computed from the position p, instead of from p + 1."""
    return ops.attention_temperature(np.asarray(positions) - 1, floor, scale)


@in_operation("attention", "attention_temperature")
def temperature_without_floor(ops, positions, floor, scale):
    """The temperature grows with every token: the quotient is not rounded down."""
    return 1 + scale * np.log1p((np.asarray(positions, np.float64) + 1) / floor)


# activation and linear


@in_operation("activation", "swiglu")
def gate_and_up_exchanged(ops, gate, up):
    """SwiGLU takes gate for up and up for gate."""
    return ops.swiglu(up, gate)


def replace_blocks(weights, change):
    """The tree of weights with every block changed."""
    return weights._replace(text=weights.text._replace(blocks=[change(block) for block in weights.text.blocks]))


@in_weights("linear", "attention.w_q")
def query_transposed(weights):
    """The query matrix is read the wrong way round, which fits if it is square."""
    return replace_blocks(weights, lambda block: block._replace(attention=block.attention._replace(
        w_q=block.attention.w_q.T)))


# moe


@in_operation("moe", "experts")
def gate_on_output(ops, x, expert, gate, w_gate, w_up, w_down):
    """The gate multiplies the expert's output, instead of its input."""
    y = np.zeros_like(x)
    for choice in range(expert.shape[1]):
        column = np.s_[:, choice:choice + 1]
        y += gate[column] * ops.experts(x, expert[column], np.ones_like(gate[column]), w_gate, w_up, w_down)
    return y


@in_operation("moe", "router")
def softmax_gate(ops, x, w_router, top_k=1):
    """The gate is a softmax over all experts, instead of a sigmoid."""
    expert, _ = ops.router(x, w_router, top_k)
    return expert, np.take_along_axis(ops.softmax(ops.linear(x, w_router)), expert, axis=-1)


@in_operation("moe", "router")
def normalised_gate(ops, x, w_router, top_k=1):
    """The gates of the chosen experts are divided by their sum, which makes the only one 1."""
    expert, gate = ops.router(x, w_router, top_k)
    return expert, gate / gate.sum(-1, keepdims=True)


@in_weights("moe", "feed_forward.shared")
def no_shared_expert(weights):
    """The shared expert is forgotten."""
    return replace_blocks(weights, lambda block: block._replace(feed_forward=block.feed_forward._replace(
        shared=tree_map(np.zeros_like, block.feed_forward.shared))))


# text and checkpoint


@in_config("text", "layers")
def inverted_plan(text):
    """The plan is inverted: the list no_rope_layers has a 1 for each layer that does have RoPE."""
    return tuple(Layer(not layer.rope, not layer.chunked, layer.moe) for layer in text.layers)


@in_config("text", "layers")
def chunks_on_global_layers(text):
    """The chunk mask is on the layers without RoPE, instead of on those with it."""
    return tuple(layer._replace(chunked=not layer.chunked) for layer in text.layers)


@in_weights("checkpoint", "text.output")
def tied_output(weights):
    """The output matrix is taken to be the transposed embedding."""
    return weights._replace(text=weights.text._replace(output=weights.text.embedding.T))
