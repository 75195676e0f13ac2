"""One-line faults, as one makes them, in the CUDA kernels; and which laws have to notice.

The first `line` that stands behind `after` is replaced; without `after` there is only one in the file.  A fault that
cannot make a difference says why: it is `harmless`.
"""
import importlib
from functools import partial
from typing import NamedTuple

import numpy as np
from overlay import overlay

from mutants.gradient import GRADIENTS
from mutants.matrix import MATRIX


class Mutant(NamedTuple):
    """A fault."""

    file: str
    breaks: str                 # what kind of mistake this is
    line: str
    replacement: str
    after: str = ""
    harmless: str = ""          # why nobody can notice


class Check(NamedTuple):
    """Who looks at a file: laws by their name or its first word, of the overlay or of one numbered kernel."""

    laws: tuple
    version: str = ""           # of tinyscout.kernels.cuda.versions
    functions: tuple = ()       # of tests/kernels/test_cuda_matrix.py: what is in bfloat16 has bounds of its own
    module: str = "test_cuda_matrix"

    def ops(self):
        """The backend that the laws are tried on."""
        cuda = importlib.import_module("tinyscout.kernels.cuda")
        if not self.version:
            return cuda
        from tinyscout.kernels.cuda.versions import versions
        operation = next(name for name, found in versions().items() if self.version in found)
        return overlay(operation, versions()[operation][self.version], cuda)

    def tests(self):
        """(name, function) of each test with its parameters."""
        module = importlib.import_module(self.module) if self.functions else None
        for name, parameters in self.functions:
            for values in parameters(module):
                yield name.removeprefix("test_").replace("_", " "), partial(getattr(module, name), *values)


HALF_ATTENTION = (
    ("test_attention_at_the_edges", lambda m: [("grouped_query_attention_3", size) for size in m.ATTENTION]),
    ("test_attention_in_half_precision_is_off_by_its_roundings", lambda m: [(seed,) for seed in range(12)]),
    ("test_half_precision_attention_sees_only_what_it_may", lambda m: [("large scores",), ("hidden keys",)]),
)
HALF_LINEAR = (
    ("test_a_product_in_half_precision_is_off_by_its_rounding",
     lambda m: [(*size, transposed, bias) for size in m.LINEAR for transposed in (False, True)
                for bias in (False, True)]),
)
FEW_BITS = (
    ("test_quantized_weights_are_multiplied_as_what_they_stand_for",
     lambda m: [(N, bits, group, np.float32) for N in (1, 17) for bits in (8, 4) for group in (32, 128)]),
)
EDGES = (("test_attention_at_the_edges", lambda m: [("cuda", size) for size in m.ATTENTION]),)
# A sweep draws fifty tokens for one input, of which each alone is held to the reference's: far slower, and no sharper.
BUT_THE_SWEEP = ("sampling: the best k stay", "sampling: what stays has no more than p before it")
ATTENTION, LINEAR = ("grouped_query_attention", "attention"), ("linear",)
GRADIENT_EDGES = (
    ("test_only_what_was_seen_learns", lambda m: [(None,), (32,)]),
    ("test_attention_at_the_edges", lambda m: [(size,) for size in m.MANY_TILES + m.ATTENTION]),
)
LITTLE = (("test_little_is_left_where_one_number_has_nearly_all_the_weight", lambda m: [(n,) for n in range(20)]),)
LONG_SUMS = (("test_long_sums_do_not_drift", lambda m: [("rms_norm_backward",), ("linear_backward",)]),)


def with_gradients(*names):
    """The operations, and their gradients."""
    return *names, *(f"{name}_backward" for name in names)


CHECKS = {
    "activation.cu": Check((*with_gradients("sigmoid", "swiglu", "gelu"), "activation")),
    "adamw.cu": Check(("adamw_step", "adamw")),
    "attention_1.cu": Check(ATTENTION, "grouped_query_attention_1"),
    "attention_2.cu": Check(ATTENTION, "grouped_query_attention_2"),
    "attention_3.cu": Check((), functions=HALF_ATTENTION),
    "attention_backward.cu": Check(("grouped_query_attention_backward",), "", GRADIENT_EDGES, "test_cuda_backward"),
    "attention_shape.cuh": Check((*ATTENTION, "grouped_query_attention_backward"), "grouped_query_attention_2"),
    "attention_split_kv.cu": Check(ATTENTION, functions=EDGES),
    "attention_tile.cuh": Check((*ATTENTION, "grouped_query_attention_backward"), "grouped_query_attention_2"),
    "column_sums.cuh": Check(("rms_norm_backward", "layer_norm_backward", "linear_backward"), "", LONG_SUMS,
                             "test_cuda_backward"),
    "embed.cu": Check((*with_gradients("embed"), "linear")),
    "fusion.cu": Check(("fuse", "fusion")),
    "linear_1.cu": Check(LINEAR, "linear_1"),
    "linear_2.cu": Check(LINEAR, "linear_2"),
    "linear_3.cu": Check((), functions=HALF_LINEAR),
    "linear_backward.cu": Check(("linear_backward",)),
    "loss.cu": Check((*with_gradients("cross_entropy"), "loss")),
    "mask.cuh": Check((*ATTENTION, "grouped_query_attention_backward"), functions=EDGES),
    "matvec.cuh": Check(LINEAR),
    "moe.cu": Check((*with_gradients("experts"), "moe")),
    "norm.cu": Check((*with_gradients("rms_norm", "layer_norm"), "norm")),
    "patches.cu": Check(("patchify", "pixel_shuffle", "patches")),
    "ptx.cuh": Check((), functions=HALF_ATTENTION[:1] + HALF_LINEAR),
    "quantized_matvec.cuh": Check(("quantize",), functions=FEW_BITS),
    "rope.cu": Check(("apply_rope", "rope")),
    "router.cu": Check(("router", "moe")),
    "sampling.cu": Check(("top_k", "top_p", "sample", *BUT_THE_SWEEP)),
    "softmax.cu": Check((*with_gradients("softmax"), "attention"), "", LITTLE, "test_cuda_backward"),
    "tile.cuh": Check((*LINEAR, "linear_backward"), "linear_2"),
    "vector.cuh": Check(("rms_norm", "layer_norm", "sigmoid", "swiglu")),
    "warp.cuh": Check(("rms_norm", "layer_norm", "softmax", "norm", "top_p", "sample")),
    "weight.cuh": Check(("linear", "quantize")),
}

MUTANTS = [Mutant(*fields) for fields in [
    # norm.cu
    ("norm.cu", "a term is left out: every row begins at its second vector", "i = threadIdx.x; i < D / V",
     "i = threadIdx.x + 1; i < D / V", "float sum = 0.0f;"),
    ("norm.cu", "the end of a row is left out", "i < D / V; i += blockDim.x", "i < D / V - 1; i += blockDim.x",
     "float sum = 0.0f;"),
    ("norm.cu", "the wrong stride: threads overlap", "i += blockDim.x", "i += WARP", "float sum = 0.0f;"),
    ("norm.cu", "each thread keeps its own sum", "return block_sum(sum);", "return sum;"),
    ("norm.cu", "eps outside the root", " / D + eps);", " / D) + eps;", "float rstd = 1.0f / sqrtf(sum_over"),
    ("norm.cu", "a sum of the numbers, not of their squares", "return v * v;", "return v;",
     "void rms_norm_row"),
    ("norm.cu", "the sum where the mean should be", "return v - mean; }, x) / D;", "return v - mean; }, x);"),
    ("norm.cu", "the first vector of the weights for all", "w = load<V>(weight, i);", "w = load<V>(weight, 0);",
     "if (weight)"),
    ("norm.cu", "every block writes the first row", "rms_norm_row<4>(out + row, x + row",
     "rms_norm_row<4>(out, x + row"),
    ("norm.cu", "scale without a weight is one", "rstd * w.at[k] : rstd", "rstd * w.at[k] : 1.0f"),
    ("norm.cu", "the mean is not taken away", "(v.at[k] - mean) * rstd * w", "v.at[k] * rstd * w"),
    ("norm.cu", "the bias is forgotten", " + b.at[k];", ";"),
    # warp.cuh
    ("warp.cuh", "no barrier after each warp's sum is written", "    __syncthreads();\n", "",
     "warp_result[warp()] = x;"),
    ("warp.cuh", "no barrier before the next call overwrites", "    __syncthreads();  // or the next", "    //"),
    ("warp.cuh", "the last step of five is left out", "bit > 0", "bit > 1"),
    ("warp.cuh", "the first step of five is left out", "bit = WARP / 2", "bit = WARP / 4"),
    ("warp.cuh", "only half of the lanes in the mask", "FULL_MASK = 0xffffffff", "FULL_MASK = 0xffff"),
    ("warp.cuh", "every lane writes its own number", "if (lane() == 0) warp_result", "if (lane() < 2) warp_result"),
    ("warp.cuh", "warps that are not there are read", "lane() < warp_count() ? warp_result[lane()] : identity",
     "warp_result[lane()]"),
    ("warp.cuh", "a prefix that leaves out its own step", "lane() >= offset", "lane() > offset"),
    ("warp.cuh", "the least for the largest", "return max(a, b)", "return min(a, b)"),
    # vector.cuh
    ("vector.cuh", "four at a time although they are not aligned", "D % 4 == 0 && ((... | (size_t) p) % 16) == 0",
     "((... | (size_t) p) % 16) == 0"),
    ("vector.cuh", "no guard at the tail", "k < 4 * i + 4 && k < n", "k < 4 * i + 4"),
    ("vector.cuh", "the last whole four by themselves", "4 * i + 4 <= n", "4 * i + 4 < n", "",
     "they are computed one by one instead"),
    ("vector.cuh", "a thread for the fifth number", "k = 4 * i; k", "k = 4 * i + 1; k"),
    ("vector.cuh", "blocks overlap", "(size_t) blockIdx.x * blockDim.x + threadIdx.x",
     "(size_t) blockIdx.x * (blockDim.x - 1) + threadIdx.x"),
    # rope.cu
    ("rope.cu", "turned the other way", "pair.x * c - pair.y * s", "pair.x * c + pair.y * s"),
    ("rope.cu", "sine and cosine swapped", "pair.x * s + pair.y * c", "pair.x * c + pair.y * s"),
    ("rope.cu", "the sequence's number in the batch counts as time", "blockIdx.x % T", "blockIdx.x"),
    ("rope.cu", "only the first head is turned", "i < H * half", "i < half"),
    ("rope.cu", "the sine of another token", "sin[(size_t) t * half + i % half]", "sin[i % half]"),
    # softmax.cu
    ("softmax.cu", "nothing is taken away: exp overflows", "sum += expf(number - x_max)", "sum += expf(number)"),
    ("softmax.cu", "only this thread's largest", "return block_max(x_max);", "return x_max;"),
    ("softmax.cu", "only this thread's sum", "    sum = block_sum(sum);\n", ""),
    ("softmax.cu", "not divided by the sum", "expf(number - x_max) / sum", "expf(number - x_max)"),
    ("softmax.cu", "rows that cannot be read by fours are", "if (is_vec4_aligned(S, out, x)) softmax_row<4>",
     "if (true) softmax_row<4>"),
    # activation.cu
    ("activation.cu", "exp of a positive number", "expf(-fabsf(x))", "expf(fabsf(x))"),
    ("activation.cu", "both sides as if they were positive", "x >= 0 ? 1.0f : e", "1.0f"),
    ("activation.cu", "the gate is not multiplied by itself", "return gate * sigmoid_of(gate) * up",
     "return sigmoid_of(gate) * up"),
    ("activation.cu", "gate and up swapped", "gate * sigmoid_of(gate) * up", "up * sigmoid_of(up) * gate"),
    ("activation.cu", "a sigmoid in GELU", "normcdff(x);", "sigmoid_of(1.702f * x);"),
    # embed.cu
    ("embed.cu", "the row before", "tokens[blockIdx.x] * D", "(tokens[blockIdx.x] - 1) * D"),
    ("embed.cu", "the first token's row for all", "tokens[blockIdx.x]", "tokens[0]"),
    # patches.cu
    ("patches.cu", "row and column of a patch swapped", "(line * S + s) * patch + column",
     "(line * S + s) * patch + row"),
    ("patches.cu", "the channel is fastest", "column = i % patch, row = i / patch % patch, c = i / patch / patch",
     "c = i % C, column = i / C % patch, row = i / C / patch"),
    ("patches.cu", "rows of patches and columns swapped", "int s = blockIdx.x % S, r = blockIdx.x / S % R",
     "int r = blockIdx.x % R, s = blockIdx.x / R % S"),
    ("patches.cu", "a square column by column", "column = i / D % side, row = i / D / side",
     "row = i / D % side, column = i / D / side"),
    ("patches.cu", "a line too short", "* R + s) * side + column", "* R + s) * side"),
    # fusion.cu
    ("fusion.cu", "its own place is counted", "i < t;", "i <= t;"),
    ("fusion.cu", "only the places that this thread met", "    feature = block_sum(feature);\n", ""),
    ("fusion.cu", "text and image swapped", "mask[t] ?", "!mask[t] ?"),
    # loss.cu
    ("loss.cu", "an ignored row is not left alone", "target < 0", "target < -1", "double *out"),
    ("loss.cu", "the largest logit is counted twice", "((double) x[target] - x_max)", "(double) x[target]"),
    ("loss.cu", "only a thread's sum", "return block_sum(sum);", "return warp_reduce<Sum>(sum);"),
    ("loss.cu", "only a part of the threads at the barrier",
     "if (threadIdx.x == 0) out[blockIdx.x] = 0.0;\n        return;", "return;"),
    # adamw.cu
    ("adamw.cu", "no barrier before the common numbers are read", "    __syncthreads();\n", ""),
    ("adamw.cu", "no guard at the tail", "if (i >= N) return;", "if (i > N) return;"),
    ("adamw.cu", "the new gradient's share of the mean", "(float) (1 - beta1) * g[i]", "(float) beta1 * g[i]"),
    ("adamw.cu", "eps inside the root", "sqrtf(v_new * v_correction) + (float) eps",
     "sqrtf(v_new * v_correction + (float) eps)"),
    ("adamw.cu", "the means are not corrected", "lr / (1 - pow_int(beta1, (long long) step))", "lr"),
    ("adamw.cu", "a power too few", "for (; step > 0;", "for (; step > 1;"),
    ("adamw.cu", "decay without the rate", "1 - lr * decay", "1 - decay"),
    ("adamw.cu", "the digits of a power kept in float", "double result = 1.0", "float result = 1.0"),
    # router.cu
    ("router.cu", "no barrier after the parts", "    __syncthreads();\n", "", "partial[threadIdx.x] = sum;"),
    ("router.cu", "no barrier after the scores", "    __syncthreads();\n", "", "score[e] = sum;"),
    ("router.cu", "the higher expert wins among equals", "a < b : score[a] > score[b]",
     "a > b : score[a] > score[b]"),
    ("router.cu", "the worst are chosen", "score[a] > score[b]", "score[a] < score[b]"),
    ("router.cu", "one part of the channels is left out", "s = 1; s < slices", "s = 2; s < slices"),
    ("router.cu", "one expert too many", "rank < top_k", "rank <= top_k"),
    ("router.cu", "a gate wide open", "(sum >= 0 ? 1.0f : exp_abs)", "1.0f"),
    ("router.cu", "its rank among the first half only", "other < E; other++) rank", "other < E / 2; other++) rank"),
    # sampling.cu
    ("sampling.cu", "one too few stay", "kth_largest_key(x, k, V", "kth_largest_key(x, k - 1, V"),
    ("sampling.cu", "equals of the last one go", "x[i] < kth_largest ?", "x[i] <= kth_largest ?"),
    ("sampling.cu", "negative numbers in the wrong order", "bits & 0x80000000 ? ~bits : bits | 0x80000000",
     "bits | 0x80000000"),
    ("sampling.cu", "0 and -0 differ", "__float_as_uint(x + 0.0f)", "__float_as_uint(x)"),
    ("sampling.cu", "the lowest bit of a level is not looked for", "bit > 0", "bit > 1"),
    ("sampling.cu", "among equals the last stays too", "i <= last", "i <= last + 1"),
    ("sampling.cu", "what passes p stays out", "max_mass + 1, V, mass", "max_mass, V, mass"),
    ("sampling.cu", "a draw of zero takes a token of no probability", "ballot_sync(FULL_MASK, cdf > target)",
     "ballot_sync(FULL_MASK, cdf >= target)"),
    ("sampling.cu", "the lanes' sums forget those before", "before = __shfl_sync(FULL_MASK, cdf, WARP - 1)",
     "before = __shfl_sync(FULL_MASK, cdf, WARP - 2)"),
    ("sampling.cu", "the warps before are not counted", "w < warp(); w++", "w < warp() - 1; w++"),
    ("sampling.cu", "no barrier before what is found is read", "    __syncthreads();\n    int first",
     "    int first"),
    ("sampling.cu", "no barrier before the parts are read", "    __syncthreads();\n    for (int w", "    for (int w"),
    ("sampling.cu", "the temperature the wrong way round", "- max_logit) / temperature", "- max_logit) * temperature"),
    ("sampling.cu", "not divided by what is left", "x[i] / sum : 0.0f", "x[i] : 0.0f"),
]]
MUTANTS += [Mutant(*fields) for fields in [*MATRIX, *GRADIENTS]]
