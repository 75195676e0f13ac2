"""One-line faults, as one makes them, in the CUDA kernels; and which laws have to notice.

The first `line` that stands behind `after` is replaced; without `after` there is only one in the file.  A fault that
cannot make a difference says why: it is `harmless`.
"""
import importlib
from functools import partial
from typing import NamedTuple

import numpy as np

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
        from tinyscout.laws import overlay
        operation = next(name for name, found in versions().items() if self.version in found)
        return overlay(cuda, **{operation: versions()[operation][self.version]})

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
    ("norm.cu", "the first vector of a row is skipped", "i = threadIdx.x; i < D / V",
     "i = threadIdx.x + 1; i < D / V", "float sum = 0.0f;"),
    ("norm.cu", "the last vector of a row is skipped", "i < D / V; i += blockDim.x", "i < D / V - 1; i += blockDim.x",
     "float sum = 0.0f;"),
    ("norm.cu", "wrong stride: threads overlap", "i += blockDim.x", "i += WARP", "float sum = 0.0f;"),
    ("norm.cu", "no sum over the block", "return block_sum(sum);", "return sum;"),
    ("norm.cu", "eps outside the root", " / D + eps);", " / D) + eps;", "float rstd = 1.0f / sqrtf(sum_over"),
    ("norm.cu", "values are summed, not their squares", "return v * v;", "return v;",
     "void rms_norm_row"),
    ("norm.cu", "the sum instead of the mean", "return v - mean; }, x) / D;", "return v - mean; }, x);"),
    ("norm.cu", "the first vector of weights is used for all", "w = load<V>(weight, i);", "w = load<V>(weight, 0);",
     "if (weight)"),
    ("norm.cu", "every block writes the first row", "rms_norm_row<4>(out + row, x + row",
     "rms_norm_row<4>(out, x + row"),
    ("norm.cu", "without a weight, the row is not scaled", "rstd * w.at[k] : rstd", "rstd * w.at[k] : 1.0f"),
    ("norm.cu", "the mean is not subtracted", "(v.at[k] - mean) * rstd * w", "v.at[k] * rstd * w"),
    ("norm.cu", "the bias is forgotten", " + b.at[k];", ";"),
    # warp.cuh
    ("warp.cuh", "no barrier after the warps' sums are written", "    __syncthreads();\n", "",
     "warp_result[warp()] = x;"),
    ("warp.cuh", "no barrier before the next call overwrites the sums", "    __syncthreads();  // or the next",
     "    //"),
    ("warp.cuh", "the last of five shuffles is skipped", "bit > 0", "bit > 1"),
    ("warp.cuh", "the first of five shuffles is skipped", "bit = WARP / 2", "bit = WARP / 4"),
    ("warp.cuh", "only half of the lanes in the mask", "FULL_MASK = 0xffffffff", "FULL_MASK = 0xffff"),
    ("warp.cuh", "a second lane writes its value too", "if (lane() == 0) warp_result", "if (lane() < 2) warp_result"),
    ("warp.cuh", "results of warps that do not exist are read",
     "lane() < warp_count() ? warp_result[lane()] : identity",
     "warp_result[lane()]"),
    ("warp.cuh", "a prefix sum skips one lane at each step", "lane() >= offset", "lane() > offset"),
    ("warp.cuh", "the minimum instead of the maximum", "return max(a, b)", "return min(a, b)"),
    # vector.cuh
    ("vector.cuh", "four elements at a time although rows are not aligned",
     "D % 4 == 0 && ((... | (size_t) p) % 16) == 0",
     "((... | (size_t) p) % 16) == 0"),
    ("vector.cuh", "no bounds check at the tail", "k < 4 * i + 4 && k < n", "k < 4 * i + 4"),
    ("vector.cuh", "the last four elements are treated as a tail", "4 * i + 4 <= n", "4 * i + 4 < n", "",
     "they are computed one by one instead"),
    ("vector.cuh", "the tail starts one element late", "k = 4 * i; k", "k = 4 * i + 1; k"),
    ("vector.cuh", "blocks overlap", "(size_t) blockIdx.x * blockDim.x + threadIdx.x",
     "(size_t) blockIdx.x * (blockDim.x - 1) + threadIdx.x"),
    # rope.cu
    ("rope.cu", "rotation in the other direction", "pair.x * c - pair.y * s", "pair.x * c + pair.y * s"),
    ("rope.cu", "sine and cosine swapped", "pair.x * s + pair.y * c", "pair.x * c + pair.y * s"),
    ("rope.cu", "the position includes the index in the batch", "blockIdx.x % T", "blockIdx.x"),
    ("rope.cu", "only the first head is rotated", "i < H * half", "i < half"),
    ("rope.cu", "the sine of another token", "sin[(size_t) t * half + i % half]", "sin[i % half]"),
    # softmax.cu
    ("softmax.cu", "the maximum is not subtracted: exp overflows", "sum += expf(number - x_max)",
     "sum += expf(number)"),
    ("softmax.cu", "the maximum of one thread, not of the block", "return block_max(x_max);", "return x_max;"),
    ("softmax.cu", "the sum of one thread, not of the block", "    sum = block_sum(sum);\n", ""),
    ("softmax.cu", "not divided by the sum", "expf(number - x_max) / sum", "expf(number - x_max)"),
    ("softmax.cu", "unaligned rows are read four elements at a time", "if (is_vec4_aligned(S, out, x)) softmax_row<4>",
     "if (true) softmax_row<4>"),
    # activation.cu
    ("activation.cu", "exp of a positive number", "expf(-fabsf(x))", "expf(fabsf(x))"),
    ("activation.cu", "negative inputs are treated as positive", "x >= 0 ? 1.0f : e", "1.0f"),
    ("activation.cu", "sigmoid instead of SiLU", "return gate * sigmoid_of(gate) * up",
     "return sigmoid_of(gate) * up"),
    ("activation.cu", "gate and up swapped", "gate * sigmoid_of(gate) * up", "up * sigmoid_of(up) * gate"),
    ("activation.cu", "the sigmoid approximation of GELU", "normcdff(x);", "sigmoid_of(1.702f * x);"),
    # embed.cu
    ("embed.cu", "the row of the previous token", "tokens[blockIdx.x] * D", "(tokens[blockIdx.x] - 1) * D"),
    ("embed.cu", "the row of the first token for all", "tokens[blockIdx.x]", "tokens[0]"),
    # patches.cu
    ("patches.cu", "row and column of a patch swapped", "(line * S + s) * patch + column",
     "(line * S + s) * patch + row"),
    ("patches.cu", "the channel is the fastest axis",
     "column = i % patch, row = i / patch % patch, c = i / patch / patch",
     "c = i % C, column = i / C % patch, row = i / C / patch"),
    ("patches.cu", "rows of patches and columns swapped", "int s = blockIdx.x % S, r = blockIdx.x / S % R",
     "int r = blockIdx.x % R, s = blockIdx.x / R % S"),
    ("patches.cu", "a square is read column by column", "column = i / D % side, row = i / D / side",
     "row = i / D % side, column = i / D / side"),
    ("patches.cu", "the side of the image is left out of an index", "* R + s) * side + column", "* R + s) * side"),
    # fusion.cu
    ("fusion.cu", "the token's own placeholder is counted", "i < t;", "i <= t;"),
    ("fusion.cu", "placeholders counted by one thread only", "    feature = block_sum(feature);\n", ""),
    ("fusion.cu", "text and image swapped", "mask[t] ?", "!mask[t] ?"),
    # loss.cu
    ("loss.cu", "an ignored row is computed", "target < 0", "target < -1", "double *out"),
    ("loss.cu", "the maximum is not subtracted from the target's logit", "((double) x[target] - x_max)",
     "(double) x[target]"),
    ("loss.cu", "the sum of one warp, not of the block", "return block_sum(sum);", "return warp_reduce<Sum>(sum);"),
    ("loss.cu", "some threads return before a barrier",
     "if (threadIdx.x == 0) out[blockIdx.x] = 0.0;\n        return;", "return;"),
    # adamw.cu
    ("adamw.cu", "no barrier before the shared values are read", "    __syncthreads();\n", ""),
    ("adamw.cu", "no bounds check at the tail", "if (i >= N) return;", "if (i > N) return;"),
    ("adamw.cu", "beta1 instead of 1 - beta1", "(float) (1 - beta1) * g[i]", "(float) beta1 * g[i]"),
    ("adamw.cu", "eps inside the root", "sqrtf(v_new * v_correction) + (float) eps",
     "sqrtf(v_new * v_correction + (float) eps)"),
    ("adamw.cu", "no bias correction", "lr / (1 - pow_int(beta1, (long long) step))", "lr"),
    ("adamw.cu", "the power is one too low", "for (; step > 0;", "for (; step > 1;"),
    ("adamw.cu", "weight decay without the learning rate", "1 - lr * decay", "1 - decay"),
    ("adamw.cu", "the power is computed in float32", "double result = 1.0", "float result = 1.0"),
    # router.cu
    ("router.cu", "no barrier after the partial sums are written", "    __syncthreads();\n", "",
     "partial[threadIdx.x] = sum;"),
    ("router.cu", "no barrier after the scores are written", "    __syncthreads();\n", "", "score[e] = sum;"),
    ("router.cu", "ties go to the higher expert", "a < b : score[a] > score[b]",
     "a > b : score[a] > score[b]"),
    ("router.cu", "the lowest scores are chosen", "score[a] > score[b]", "score[a] < score[b]"),
    ("router.cu", "one slice of the channels is skipped", "s = 1; s < slices", "s = 2; s < slices"),
    ("router.cu", "one expert too many", "rank < top_k", "rank <= top_k"),
    ("router.cu", "the gate's numerator is 1 for negative scores", "(sum >= 0 ? 1.0f : exp_abs)", "1.0f"),
    ("router.cu", "ranked among the first half of the experts only", "other < E; other++) rank",
     "other < E / 2; other++) rank"),
    # sampling.cu
    ("sampling.cu", "top-k keeps one token too few", "kth_largest_key(x, k, V", "kth_largest_key(x, k - 1, V"),
    ("sampling.cu", "ties with the k-th logit are dropped", "x[i] < kth_largest ?", "x[i] <= kth_largest ?"),
    ("sampling.cu", "negative logits sort in the wrong order", "bits & 0x80000000 ? ~bits : bits | 0x80000000",
     "bits | 0x80000000"),
    ("sampling.cu", "+0 and -0 sort differently", "__float_as_uint(x + 0.0f)", "__float_as_uint(x)"),
    ("sampling.cu", "the bisection stops one bit early", "bit > 0", "bit > 1"),
    ("sampling.cu", "one tied token too many is kept", "i <= last", "i <= last + 1"),
    ("sampling.cu", "the token that reaches p is dropped", "max_mass + 1, V, mass", "max_mass, V, mass"),
    ("sampling.cu", "a draw of 0 selects a token of probability 0", "ballot_sync(FULL_MASK, cdf > target)",
     "ballot_sync(FULL_MASK, cdf >= target)"),
    ("sampling.cu", "the running sum skips the last lane", "before = __shfl_sync(FULL_MASK, cdf, WARP - 1)",
     "before = __shfl_sync(FULL_MASK, cdf, WARP - 2)"),
    ("sampling.cu", "the sum of the previous warp is skipped", "w < warp(); w++", "w < warp() - 1; w++"),
    ("sampling.cu", "no barrier before the result is read", "    __syncthreads();\n    int first",
     "    int first"),
    ("sampling.cu", "no barrier before the partial sums are read", "    __syncthreads();\n    for (int w",
     "    for (int w"),
    ("sampling.cu", "multiplied by the temperature", "- max_logit) / temperature", "- max_logit) * temperature"),
    ("sampling.cu", "not divided by the sum of the kept tokens", "x[i] / sum : 0.0f", "x[i] : 0.0f"),
]]
MUTANTS += [Mutant(*fields) for fields in [*MATRIX, *GRADIENTS]]
