"""The products of the CUDA column: matrices, attention and experts, with the functions that say how they are launched.

What a kernel was not made for is left to the reference, as in cuda.py, whose part this is.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.device import beside, empty, f32, typed, xp
from tinyscout.kernels.guards import FLOATS, for_kernels, integers, is_array, readable, rows, shaped, whole
from tinyscout.kernels.launch import Launch, ceil_div, kernel
from tinyscout.reference import Quantized, QuantizedRows, dequantize
from tinyscout.reference.muon import CUBIC

FEW = 16                        # rows up to which a matrix is read once for every four of them, and nothing is kept
TILE = 64                       # rows and columns of an output that a block of tile.cuh owns
HEAD = 128                      # channels of a head that the tiles of attention have room for
BLOCKS = 256                    # blocks that keep a large GPU busy


def stored(a):
    """An array of weights there, row-major and in its own form: bfloat16 as its bits, which a pointer can point to."""
    a = xp.ascontiguousarray(xp.asarray(a))
    if a.dtype.name == "bfloat16":
        return a.view(np.uint16)
    return a.astype(np.float32) if a.dtype == np.float16 else a


def form(w):
    """How kernels read a matrix (I, O), or E of them, in the form it has.

    ->  the end of the kernels' names, its arrays, and what comes last among a kernel's arguments
    """
    if isinstance(w, Quantized):
        kind = f"_int{w.bits}{'' if w.scales.dtype == np.float32 else '_bf16'}"
        return kind, [stored(w.values), stored(w.scales)], [w.group]
    turned = not w.flags.c_contiguous and w.swapaxes(-1, -2).flags.c_contiguous     # it lies as (O, I) in memory
    values = stored(w.swapaxes(-1, -2) if turned else w)
    kind = "_bf16" if w.dtype.name == "bfloat16" else ""
    return kind, [values], [1, w.shape[-2]] if turned else [w.shape[-1], 1]         # in, across


def linear_launch(N, O, kind, along):
    """For N rows and O columns: the file, the beginning of the kernel's name and its launch.

    kind: the end of that name.  along: the weights of neighbouring inputs lie side by side.
    """
    if N > FEW:
        return "linear_2.cu", "linear_2", Launch((ceil_div(O, TILE), ceil_div(N, TILE)), (256,))
    if "int" in kind:
        name, each = ("linear_row", 1) if N == 1 else ("linear_rows", 4)
        return "linear_quantized.cu", name, Launch((O // 16, ceil_div(N, each)), (128,))
    return "linear.cu", "linear_rows", Launch((ceil_div(O, 8 if along else 32), ceil_div(N, 4)), (256,))


def linear(x, w, bias=None):
    fits = for_kernels(x) and readable(w, x.shape[-1], None)
    if not (fits and (bias is None or shaped(bias, w.shape[1]))):
        return reference.linear(x, w, bias)
    (N, I), O = rows(x), w.shape[1]
    kind, arrays, last = form(w)
    file, name, launch = linear_launch(N, O, kind, last[0] == 1)
    [x_, bias], out = f32(x, bias), empty(*x.shape[:-1], O)
    kernel(file, name + kind)(launch, out, x_, *arrays, bias, N, I, O, *last)
    return beside(x, out)


def orthogonalize(g, rounds=5):
    """The reference's, of one matrix (I, O): its products are `linear`, all else is done by the arrays themselves."""
    wide, (a, b, c) = len(g) > g.shape[1], CUBIC
    x = g.T if wide else g
    x = x / (np.sqrt((x * x).sum()) + 1e-7)
    for _ in range(rounds):
        square = linear(x, x.T)
        x = a * x + linear(b * square + c * linear(square, square), x)
    return x.T if wide else x


def muon_step(w, g, m, lr, momentum=0.95, decay=0.1):
    if not (for_kernels(w, g, m) and w.shape == g.shape == m.shape and w.ndim >= 2):
        return reference.muon_step(w, g, m, lr, momentum, decay)
    w_, g_, m_ = f32(w, g, m)
    m_ = momentum * m_ + (1 - momentum) * g_
    pace = (1 - momentum) * g_ + momentum * m_
    pace = xp.stack([orthogonalize(one) for one in pace.reshape(-1, *w.shape[-2:])]).reshape(w.shape)
    size = max(1.0, w.shape[-1] / w.shape[-2]) ** 0.5
    return beside(w, (1 - lr * decay) * w_ - (lr * size) * pace, m_)


def attention_1_launch(B, T, H):
    """A thread for each query of each head."""
    return Launch((ceil_div(B * T * H, 128),), (128,))


def attention_2_launch(B, T, H, K, d):
    """A block for 64 rows of each key head: queries, tiles of 32 keys and values, and weights between them."""
    pitch = ceil_div(d, 32) * 32 + 4
    return Launch((ceil_div(T * H // K, TILE), K, B), (128,), 4 * ((64 + 32 + 32) * pitch + 64 * (32 + 4)))


def attention_split_kv_launch(B, T, S, H, K):
    """A block for 8 rows of each key head and a part of its keys: as many parts as keep a GPU busy, none too small."""
    groups = K * ceil_div(T * H // K, 8)
    return Launch((max(1, min(ceil_div(S, 64), ceil_div(BLOCKS, groups * B))), groups, B), (128,))


def cached(k):
    """Keys or values as kernels read them: float32 or bfloat16."""
    return stored(dequantize(k) if isinstance(k, QuantizedRows) else k)


def heads_fit(q, k, v, chunk, first):
    """Are these shapes, and this chunk and first position, those of grouped_query_attention?"""
    fits = q.ndim == len(k.shape) == 4 and k.shape == v.shape and k.shape[::3] == q.shape[::3] and k.shape[2] > 0
    fits = fits and q.shape[2] % k.shape[2] == 0 and k.shape[1] >= q.shape[1] and first >= 0
    return fits and (chunk is None or whole(chunk))


def cacheable(k, v):
    """Are keys and values in one form that kernels can read?"""
    if isinstance(k, QuantizedRows) or isinstance(v, QuantizedRows):
        return type(k) is type(v)
    return is_array(k) and is_array(v) and k.dtype == v.dtype and k.dtype.name in FLOATS


def grouped_query_attention(q, k, v, causal=True, chunk=None, first=0):
    fits = for_kernels(q) and heads_fit(q, k, v, chunk, first) and cacheable(k, v)
    if not (fits and q.shape[3] <= HEAD):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    [q_], keys, values, out = f32(q), cached(k), cached(v), empty(*q.shape)
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    kind = "_bf16" if keys.dtype == np.uint16 else ""
    given = q_, keys, values, bool(causal), chunk or 0, first, B, T, S, H, K, d
    if T * H // K > FEW:
        kernel("attention_2.cu", "grouped_query_attention_2" + kind)(attention_2_launch(B, T, H, K, d), out, *given)
        return beside(q, out)
    launch = attention_split_kv_launch(B, T, S, H, K)
    parts = empty(B * T * H, launch.grid[0], d + 2)
    kernel("attention_split_kv.cu", "attention_split_kv" + kind)(launch, parts, *given)
    kernel("attention_split_kv.cu", "attention_combine")(Launch((B * T * H,), (128,)), out, parts, launch.grid[0], d)
    return beside(q, out)


def experts_launch(M, O, E):
    """As many blocks as M rows of E experts can have tiles; those that are too many find nothing to do."""
    return Launch((ceil_div(O, TILE), M // TILE + min(E, M)), (256,))


def each_row(x, expert, gate, w, C):
    """Few rows, each with the matrix of its own expert: row m of M reads x[m // C].  x (M / C, I)  ->  (M, O)"""
    kind, arrays, last = form(w)
    M, (_, I, O) = expert.size, w.shape
    out, (_, _, one) = empty(M, O), linear_launch(1, O, kind, last[0] == 1)
    launch = Launch((one.grid[0], M), one.block)
    kernel("moe.cu", "experts_matvec" + kind)(launch, out, x, expert, gate, *arrays, C, I, O, *last)
    return out


def by_expert(expert, E):
    """Rows sorted by expert: where each begins (E + 1,), which row is at a place (M,), at which place a row is (M,)."""
    M = expert.size
    first, order, place = (empty(n, dtype=np.int32) for n in (E + 1, M, M))
    kernel("moe.cu", "experts_sort")(Launch((E,), (32,)), first, order, place, expert, M, E)
    return first, order, place


def sorted_rows(x, expert, gate, w_gate, w_up, w_down):
    """Many rows, sorted by expert: a launch for the first two products and one for the last.

    x (N, D), expert and gate (N, C)  ->  the results in sorted order (M, D), and where each row stands among them (M,)
    """
    (kind, gates, last), (_, ups, same) = form(w_gate), form(w_up)
    if last != same:                                                    # they lie in different ways
        (kind, gates, last), (_, ups, _) = (form(np.ascontiguousarray(w)) for w in (w_gate, w_up))
    (E, D, F), M = w_gate.shape, expert.size
    first, order, place = by_expert(expert, E)
    hidden, y = empty(M, F), empty(M, D)
    kernel("moe.cu", "experts_gate_up" + kind)(experts_launch(M, F, E), hidden, x, gate, first, order, *gates, *ups,
                                               M // len(x), D, E, F, *last)
    kind, downs, last = form(w_down)
    kernel("moe.cu", "experts_down" + kind)(experts_launch(M, D, E), y, hidden, first, *downs, D, E, F, *last)
    return y, place


def experts(x, expert, gate, w_gate, w_up, w_down):
    fits = for_kernels(x, gate) and x.ndim == 2 and shaped(gate, len(x), None) and len(w_gate.shape) == 3
    E, D, F = w_gate.shape if fits else (0, 0, 0)
    fits = fits and x.shape[1] == D and readable(w_down, E, F, D) and all(readable(w, E, D, F) for w in (w_gate, w_up))
    fits = fits and shaped(expert, *gate.shape) and integers(expert, E) and expert.min() >= 0
    if not (fits and kind_of(w_gate) == kind_of(w_up)):
        return reference.experts(x, expert, gate, w_gate, w_up, w_down)
    (N, C), out = gate.shape, empty(*x.shape)
    (x_, gate), [expert] = f32(x, gate), typed(np.int64, expert)
    if N * C > FEW:
        y, place = sorted_rows(x_, expert, gate, w_gate, w_up, w_down)
    else:
        opened, up = (each_row(x_, expert, gate, w, C) for w in (w_gate, w_up))
        hidden = empty(N * C, F)
        kernel("activation.cu", "swiglu")(Launch((ceil_div(N * C * F, 1024),), (256,)), hidden, opened, up, N * C, F)
        y, place = each_row(hidden, expert, None, w_down, 1), None
    kernel("moe.cu", "experts_combine")(Launch((N, ceil_div(D, 128)), (128,)), out, y, place, N, C, D)
    return beside(x, out)


def kind_of(w):
    """What two matrices must have in common to be read by one kernel."""
    return (w.bits, w.group, w.scales.dtype) if isinstance(w, Quantized) else w.dtype
