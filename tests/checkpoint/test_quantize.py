"""Quantization: the layout, Meta's int4 bit for bit, and the error."""
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import tinyscout
from tinyscout import laws, reference
from tinyscout.checkpoint.quantize import errors_by_layer, logits_error, quantization_error, quantize_weights
from tinyscout.config import layer_plan, tiny_config
from tinyscout.nn.weights import check_shapes, init_weights, named_arrays
from tinyscout.reference import Quantized, dequantize, quantize, quantize_rows
from tinyscout.reference.quantize import pack_int4, unpack_int4

BF16 = np.dtype(ml_dtypes.bfloat16)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def untile(w):
    """One number at a time, from the layout's own words: integers (I, O) and scales (I/group, O)."""
    I, O = w.shape
    integers, scales = np.zeros((I, O), int), np.zeros((I // w.group, O), np.float32)
    for i, o in np.ndindex(I, O):
        if w.bits == 8:
            integers[i, o] = w.values[o // 16, i // 4, o % 16, i % 4]
        else:
            byte = int(w.values[o // 16, i // 8, o % 16, i % 8 // 2])
            half = byte >> 4 if i % 2 else byte & 15
            integers[i, o] = half - 16 if half > 7 else half
        scales[i // w.group, o] = w.scales[o // 16, i // w.group, o % 16]
    return integers, scales


def meta_int4(rows):
    """Meta's definition: rows (N, K)  ->  bytes (N, K/2), scales (K/128, N), with the scale of 128 inputs of a row."""
    N, K = rows.shape
    scales = np.zeros((K // 128, N), np.float32)
    packed = np.zeros((N, K // 2), np.uint8)
    for n in range(N):
        for g in range(K // 128):
            group = rows[n, 128 * g:128 * (g + 1)].astype(np.float32)
            scale = np.float32(max(np.float32(abs(group).max()), np.float32(1e-6))) / np.float32(8)
            scales[g, n] = scale
            q = [int(min(max(np.round(x / scale), -8), 7)) for x in group]
            for j in range(64):
                packed[n, 64 * g + j] = (q[2 * j] & 15) | (q[2 * j + 1] & 15) << 4
    return packed, scales


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_int4_in_groups_of_128_is_metas(dtype):
    rows = normal(32, 256)
    rows[3, 128:] = 0                               # the floor
    rows[4, 7] = 9.0                                # a positive extreme: it saturates
    rows[5, :128] = np.arange(128) % 16 - 8         # whole and half steps
    rows[6, :128] = (np.arange(128) % 31 - 15) / 2
    rows = rows.astype(dtype)
    w = quantize(rows.T, 4, 128)
    integers, scales = untile(w)
    meta_values, meta_scales = meta_int4(rows)
    np.testing.assert_array_equal(pack_int4(np.ascontiguousarray(integers.T).astype(np.int8)), meta_values)
    np.testing.assert_array_equal(scales, meta_scales)
    assert integers.min() == -8
    assert integers[7, 4] == 7


def test_int4_is_what_torch_makes_of_it():
    """torch's own rounding, clamping and division of the same numbers."""
    torch = pytest.importorskip("torch")
    rows = torch.from_numpy(normal(48, 512, seed=1)).to(torch.bfloat16)
    groups = rows.reshape(-1, 128).float()
    torch_scales = groups.abs().amax(1, keepdim=True).clamp(min=1e-6) / 8
    q = (groups / torch_scales).round().clamp(-8, 7).to(torch.int8).reshape(rows.shape)
    integers, scales = untile(quantize(rows.float().numpy().T, 4, 128))
    np.testing.assert_array_equal(integers.T, q.numpy())
    np.testing.assert_array_equal(scales.T.reshape(-1, 1), torch_scales.numpy())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 128])
@pytest.mark.parametrize("scale_dtype", [np.float32, BF16])
def test_dequantize_is_integer_times_scale(bits, group, scale_dtype):
    w = quantize(normal(256, 48), bits, group, scale_dtype)
    assert (w.shape, w.bits, w.group, w.scales.dtype) == ((256, 48), bits, group, scale_dtype)
    assert w.nbytes == 256 * 48 * bits // 8 + 256 // group * 48 * w.scales.itemsize
    integers, scales = untile(w)
    np.testing.assert_array_equal(dequantize(w), integers.astype(np.float32) * np.repeat(scales, group, 0))
    assert dequantize(w, np.float64).dtype == np.float64


@pytest.mark.parametrize("bits", [4, 8])
def test_memory_order_and_stacks_do_not_matter(bits):
    w = normal(3, 64, 32)
    stack = quantize(w, bits)
    assert stack.shape == (3, 64, 32)
    for other in (np.asfortranarray(w), w[:, ::-1][:, ::-1], np.stack([w, w])[1]):
        for field, expected in zip(quantize(other, bits), stack, strict=True):
            np.testing.assert_array_equal(field, expected)
            assert field.flags.c_contiguous
    for e in range(3):
        expert = quantize(w[e], bits)
        np.testing.assert_array_equal(expert.values, stack.values[e])
        np.testing.assert_array_equal(expert.scales, stack.scales[e])
    np.testing.assert_array_equal(dequantize(stack)[1], dequantize(quantize(w[1], bits)))


def test_a_narrow_scale_is_rounded_up():
    w = normal(1024, 256)
    exact, narrow = quantize(w, 8), quantize(w, 8, scale_dtype=BF16)
    scales = narrow.scales.astype(np.float32)
    assert (scales >= exact.scales).all()
    assert (scales <= exact.scales * (1 + 2 ** -7)).all()
    below = (narrow.scales.view(np.uint16) - 1).view(BF16).astype(np.float32)
    assert (below < exact.scales).all(), "the next smaller bfloat16 would not have been enough"
    assert np.abs(dequantize(narrow) - w).max() <= scales.max() / 2 * (1 + 1e-6)


def test_int4_is_packed_and_unpacked():
    integers = np.arange(-8, 8, dtype=np.int8)
    np.testing.assert_array_equal(unpack_int4(pack_int4(integers)), integers)
    assert pack_int4(np.array([1, -2], np.int8)) == 0xE1


@pytest.mark.parametrize(("d", "bits", "group"), [(128, 8, 32), (128, 4, 32), (16, 8, 16), (16, 4, 16), (4, 4, 4)])
def test_rows(d, bits, group):
    x = normal(2, 5, 3, d)
    rows = quantize_rows(x, bits, BF16)
    assert (rows.shape, rows.bits, rows.group) == (x.shape, bits, group)
    largest = np.abs(x.reshape(*x.shape[:-1], -1, group)).max(-1)
    step = rows.scales.astype(np.float32)
    assert (step * {8: 127, 4: 8}[bits] >= largest * (1 - 1e-6)).all()
    error = np.abs(dequantize(rows) - x).reshape(*x.shape[:-1], -1, group).max(-1)
    assert (error <= step * (0.5 if bits == 8 else 1.0) * (1 + 1e-5)).all()


@pytest.mark.parametrize(("shape", "bits", "group"), [((64, 24), 4, 32), ((48, 32), 4, 32), ((64, 32), 8, 128),
                                                      ((64, 32), 5, 32), ((64, 32), 4, 4)])
def test_what_does_not_fit_is_refused(shape, bits, group):
    with pytest.raises(ValueError, match="cannot be cut"):
        quantize(normal(*shape), bits, group)


def test_rows_that_do_not_fit_are_refused():
    for d, bits in [(33, 8), (48, 8), (3, 4), (32, 2)]:
        with pytest.raises(ValueError, match="cannot be cut"):
            quantize_rows(normal(2, d), bits)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_only_finite_numbers(value):
    w = normal(32, 16)
    w[3, 4] = value
    with pytest.raises(ValueError, match="finite"):
        quantize(w)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_reference_takes_every_form(bits):
    x, w = normal(5, 64), normal(3, 64, 48, seed=1)
    q = quantize(w, bits)
    plain = dequantize(q)
    matrix = Quantized(q.values[1], q.scales[1])
    np.testing.assert_array_equal(reference.linear(x, matrix), x @ plain[1])
    down = quantize(normal(3, 48 // 16 * 32, 64, seed=2), bits)
    up = quantize(normal(3, 64, 96, seed=3), bits)
    args = x, np.array([[0], [2], [2], [0], [2]]), np.full((5, 1), 0.5, np.float32)
    np.testing.assert_array_equal(reference.experts(*args, up, up, down),
                                  reference.experts(*args, dequantize(up), dequantize(up), dequantize(down)))


@pytest.mark.parametrize("S", [9, 50])
def test_attention_takes_every_form(S, monkeypatch):
    """A long cache is dequantized block by block, which makes no difference."""
    monkeypatch.setattr(reference.attention, "KEYS_PER_BLOCK", 16)
    q, k, v = normal(2, 4, 6, 32), normal(2, S, 3, 32, seed=1), normal(2, S, 3, 32, seed=2)
    for encode in (lambda a: quantize_rows(a, 8), lambda a: quantize_rows(a, 4, BF16), lambda a: a.astype(BF16)):
        stored = encode(k), encode(v)
        plain = [reference.to_dense(a, np.float32) for a in stored]
        for chunk in (None, 8):
            attention = reference.grouped_query_attention(q, *stored, True, chunk, 3)
            assert attention.dtype == np.float32
            np.testing.assert_array_equal(attention, reference.grouped_query_attention(q, *plain, True, chunk, 3))


class Overlay:
    """The reference with one name replaced."""

    def __init__(self, **replacements):
        self.__dict__.update(replacements)

    def __getattr__(self, name):
        return getattr(reference, name)


def make_rounding_linear(group):
    """A linear that rounds its input to 8 bits, so many inputs together, as a kernel does."""
    def linear(x, w, bias=None):
        if isinstance(w, Quantized):
            groups = x.reshape(*x.shape[:-1], -1, min(group, x.shape[-1]))
            steps = np.maximum(np.abs(groups).max(-1, keepdims=True), np.float32(1e-30)) / np.float32(127)
            x = (np.rint(groups / steps) * steps).reshape(x.shape)
        return reference.linear(x, w, bias)
    return linear


def make_experts(linear):
    def experts(x, expert, gate, w_gate, w_up, w_down):
        y = np.zeros_like(x)
        for n, k in np.ndindex(expert.shape):
            gate_e, up_e, down_e = (reference.take(w, expert[n, k]) for w in (w_gate, w_up, w_down))
            row = x[n:n + 1] * gate[n, k]
            y[n:n + 1] += linear(reference.swiglu(linear(row, gate_e), linear(row, up_e)), down_e)
        return y
    return experts


def find_law(name):
    return next(case for case in laws.CASES if case.name.endswith(name))


def test_a_kernel_may_round_32_inputs_together_and_no_more():
    good, bad = make_rounding_linear(32), make_rounding_linear(1 << 20)
    laws.run_law(find_law("a product takes integers and scales"), Overlay(linear=good), 40)
    laws.run_law(find_law("experts take integers and scales"), Overlay(experts=make_experts(good)), 15)
    with pytest.raises(AssertionError, match="more than equation"):
        laws.run_law(find_law("a product takes integers and scales"), Overlay(linear=bad), 40)


def test_laws_find_planted_faults():
    def pack_high_half_first(w, bits=4, group=32, scale_dtype=np.float32):
        q = quantize(w, bits, group, scale_dtype)
        return q._replace(values=q.values >> 4 | q.values << 4) if bits == 4 else q

    def round_scale_to_nearest(w, bits=4, group=32, scale_dtype=np.float32):
        q = quantize(w, bits, group)
        return q._replace(scales=q.scales.astype(scale_dtype))

    def truncate(w, bits=4, group=32, scale_dtype=np.float32):
        q = quantize(w, bits, group, scale_dtype)
        return q._replace(values=(q.values.astype(int) - 1).clip(-127).astype(np.int8)) if bits == 8 else q

    for broken in (pack_high_half_first, round_scale_to_nearest, truncate):
        with pytest.raises(AssertionError):
            laws.run_law(find_law("a weight is off by half a step"), Overlay(quantize=broken), 50)


CONFIG = tiny_config(hidden_dim=64, dense_dim=96, layers=layer_plan(4, moe_every=2))


@pytest.mark.parametrize("bits", [4, 8])
def test_which_weights_are_quantized(bits):
    weights = init_weights(CONFIG)
    quantized = quantize_weights(weights, bits, 32)
    paths = {path for path, w in named_arrays(quantized) if isinstance(w, Quantized)}
    assert {path.rpartition(".")[2] for path in paths} == {
        "w_q", "w_k", "w_v", "w_o", "w_gate", "w_up", "w_down", "output"}
    assert not any(path.startswith("vision") or "router" in path for path in paths)
    check_shapes(quantized, CONFIG)
    for (path, before), (_, after) in zip(named_arrays(weights), named_arrays(quantized), strict=True):
        if path in paths:
            for field, expected in zip(after, quantize(before, bits, 32, BF16), strict=True):
                np.testing.assert_array_equal(field, expected)
        else:
            assert after is before
    with pytest.raises(ValueError, match="quantized already"):
        quantize_weights(quantized)


def test_what_does_not_fit_stays_and_so_does_a_tied_output():
    config = tiny_config(hidden_dim=48, tie_embeddings=True)        # 48 inputs are no groups of 32
    text = quantize_weights(init_weights(config), 8, 32).text
    assert text.output is not None
    assert not isinstance(text.output, Quantized)
    experts = text.blocks[0].feed_forward.experts
    assert [isinstance(w, Quantized) for w in experts] == [True, True, False]
    assert not isinstance(quantize_weights(init_weights(config), 8, 128).text.blocks[0].attention.w_q, Quantized)
    for bits, group in [(3, 32), (4, 64)]:
        with pytest.raises(ValueError, match="4 or 8 bits and groups of 32 or 128"):
            quantize_weights(init_weights(config), bits, group)


def test_matrices_are_cut_into_columns(monkeypatch):
    expected = quantize_weights(init_weights(CONFIG))
    monkeypatch.setattr("tinyscout.checkpoint.quantize.CHUNK_SIZE", 1)
    chunked = quantize_weights(init_weights(CONFIG))
    for (path, w), (_, expected_w) in zip(named_arrays(chunked), named_arrays(expected), strict=True):
        np.testing.assert_array_equal(*(reference.to_dense(a, np.float32) for a in (w, expected_w)), err_msg=path)


def test_quantization_error():
    weights = init_weights(CONFIG)
    int4, int8 = (quantize_weights(weights, bits) for bits in (4, 8))
    int4_errors, int8_errors = (quantization_error(weights, quantized) for quantized in (int4, int8))
    for path, w in named_arrays(weights):
        if path in int4_errors:
            difference = dequantize(dict(named_arrays(int4))[path]) - w
            expected = np.linalg.norm(difference) / np.linalg.norm(w)
            np.testing.assert_allclose(int4_errors[path].relative, expected, rtol=1e-4)
            assert int8_errors[path].relative < int4_errors[path].relative / 8
    rows = errors_by_layer(int4_errors)
    assert set(rows) == {(n, part) for n in range(4) for part in
                         ("attention", "all", *(("shared", "experts") if n % 2 else ("dense",)))} | {("output", "all")}
    assert rows[1, "all"] == rows[1, "attention"] + rows[1, "shared"] + rows[1, "experts"]


def test_logits_error():
    torch = pytest.importorskip("torch")
    exact, approximate = normal(7, 50), normal(7, 50) + normal(7, 50, seed=1) / 10
    error = logits_error(exact, approximate)
    p, q = (torch.from_numpy(a).double().log_softmax(-1) for a in (exact, approximate))
    np.testing.assert_allclose(error.kl, torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean"))
    np.testing.assert_allclose(error.l2, np.linalg.norm(exact - approximate) / np.linalg.norm(exact), rtol=1e-6)
    assert error.agreement == (exact.argmax(1) == approximate.argmax(1)).mean()
    assert logits_error(exact, exact) == (0.0, 0.0, 1.0)


def test_a_quantized_model():
    """Eight bits say nearly what floats say, four bits something like it, and the cache follows."""
    model = tinyscout.random_model(tiny_config(hidden_dim=64, vision=False, n_experts=1))
    tokens = np.random.default_rng(0).integers(0, 500, 40)
    exact = model.logits(tokens)
    int8, int4 = (logits_error(exact, replace(model, weights=quantize_weights(model.weights, bits)).logits(tokens))
                  for bits in (8, 4))
    assert int8.l2 < 0.05
    assert int8.l2 < int4.l2 < 0.6
    for kv_dtype, max_error in [("bfloat16", 0.02), ("int8", 0.03), ("int4", 0.4)]:
        cache = model.new_cache(kv_dtype)
        logits = np.concatenate([model.logits(tokens[n:n + 8], cache=cache) for n in range(0, 40, 8)])
        assert 0 < logits_error(exact, logits).l2 < max_error, kv_dtype
