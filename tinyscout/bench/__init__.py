"""How fast: tokens a second of our backends beside transformers, in one run and with the same weights.

Machines are noisy, so nothing is compared across runs: the contenders take turns, sample by sample, and a disturbance
meets them all.  Agreement is measured along with speed: a fast wrong answer is not a result.
"""
import datetime
import time
from dataclasses import replace
from statistics import median

import numpy as np

import tinyscout
from tinyscout import scout
from tinyscout.cache import Cache
from tinyscout.checkpoint import to_theirs
from tinyscout.config import ScoutConfig, TextConfig, plan
from tinyscout.generate import PREFILL
from tinyscout.hf import to_hf
from tinyscout.machine import commit, cores, limits, machine
from tinyscout.model import backend_ops, random_model
from tinyscout.progress import track
from tinyscout.text import text_model
from tinyscout.weights import count

PEER = "transformers"
SETTLE = 0.05           # seconds before a sample: idle threads of the library that ran before still spin for a while
STEPS = 8               # tokens decoded in one sample


def text_only(**sizes):
    """A model without vision, whose special ids lie inside its vocabulary."""
    return ScoutConfig(TextConfig(rope_scaling=None, max_positions=262_144, **sizes), None,
                       bos_id=0, stop_ids=(1,), pad_id=2)


SIZES = {
    "mid": text_only(vocab_size=16_384, dim=1024, n_heads=16, n_kv_heads=4, head_dim=64, hidden_dim=2048,
                     dense_dim=4096, layers=plan(8)),
    "small": text_only(vocab_size=1024, dim=128, n_heads=8, n_kv_heads=2, head_dim=16, hidden_dim=256,
                       dense_dim=512, layers=plan(4)),
}


class Ours:
    """A backend of tinyscout, driven as `generate` drives it."""

    def __init__(self, model):
        self.model = model
        self.cache = None

    def begin(self, past=None):
        """Start anew, or behind the keys and values that another contender's cache holds."""
        self.cache = Cache(self.model.config.text)
        if past is not None:
            for layer, other in zip(self.cache.layers, past.layers, strict=True):
                layer.extend(0, other.keys[:, :past.length].copy(), other.values[:, :past.length].copy())
            self.cache.length = past.length

    def read(self, tokens):
        """Take tokens in  ->  scores of the next one (V,)"""
        m = self.model
        for n in range(0, len(tokens), PREFILL):
            x = scout.embed(tokens[n:n + PREFILL], (), m.weights, m.config, self.cache, m.ops)
            hidden = text_model(x[None], m.weights.text, m.config.text, self.cache, m.ops)
        return np.asarray(m.ops.asnumpy(m.ops.linear(hidden[0, -1], m.weights.text.output)))


class Theirs:
    """transformers in float32 with eager attention, holding the same weights."""

    def __init__(self, model, threads, torch, transformers):
        torch.set_num_threads(threads)
        config = transformers.Llama4TextConfig(**to_hf(model.config))
        config._attn_implementation = "eager"
        with torch.device("meta"):                  # no memory: the weights come next
            net = transformers.Llama4ForCausalLM(config)
        tensors = {name: torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1))
                   for name, arrays in to_theirs(model.weights, model.config).items()}
        net.load_state_dict(tensors, strict=True, assign=True)
        rotary = net.model.rotary_emb               # its table is no weight: made again, off "meta"
        net.model.rotary_emb = type(rotary)(config)
        self.net, self.torch, self.cache = net.eval(), torch, None
        self.new_cache = lambda: transformers.DynamicCache(config=config)

    def begin(self, past=None):
        self.cache = self.new_cache()
        for n, layer in enumerate(past.layers if past is not None else ()):
            self.cache.update(*(self.torch.from_numpy(a[:, :past.length].transpose(0, 2, 1, 3).copy())
                                for a in (layer.keys, layer.values)), n)

    def read(self, tokens):
        with self.torch.inference_mode():
            ids = self.torch.from_numpy(np.asarray(tokens))[None]
            out = self.net(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].numpy()


def peer_modules():
    """torch and transformers.  Raises ImportError where they are missing or broken."""
    import torch
    import transformers
    transformers.Llama4ForCausalLM  # noqa: B018  imported only when asked for
    transformers.logging.set_verbosity_error()
    return torch, transformers


def peer_or_note(wanted):
    """The peer's modules or None, and a list that says why where they are wanted and missing."""
    try:
        return peer_modules() if wanted else None, []
    except (ImportError, RuntimeError) as error:
        return None, [f"{PEER} is not here to compare with: {error}"]


def measure(size="mid", prefill=(512, 2048), context=(512, 4096), repeats=5, backends=("numpy", "c"), with_peer=True,
            threads=None, seed=0):
    """Run the benchmark.

    size of SIZES, prefill and context: numbers of tokens to read, and already read when decoding; repeats int,
    backends names, threads int for the peer (NumPy's were settled when it was loaded)
    ->  a dict that json can write: what ran where, every sample in seconds, and how far the scores lie apart.
    Without transformers a note says so.  Raises ValueError or RuntimeError for a backend that is not there.
    """
    config, threads = SIZES[size], threads or cores()
    longest = max([*prefill, *(n + STEPS * repeats for n in context)])
    if longest >= config.text.chunk:
        raise ValueError(f"{longest} tokens reach beyond the first chunk of {config.text.chunk}: choose fewer")
    modules, notes = peer_or_note(with_peer)    # before our kernels, whose settings for OpenMP are not meant for others
    ops = {name: backend_ops(name) for name in backends}
    report = {"tinyscout": tinyscout.__version__, "date": datetime.datetime.now().isoformat(timespec="seconds"),
              "commit": commit(), "model": {"size": size, **describe(config)}, "threads": threads,
              "repeats": repeats, "steps": STEPS, "samples": [], "agreement": [], "notes": notes}
    contenders: dict = {}
    jobs = [lambda: contenders.update(set_up(config, ops, modules, threads, seed)),
            lambda: report.update(machine=machine(), limits=limits())]      # and again at the end
    rng = np.random.default_rng(seed)
    for what, sizes in ("prefill", prefill), ("decode", context):
        for tokens in sizes:
            jobs += rounds(contenders, what, tokens, repeats, rng, config, report)
    jobs.append(lambda: report.update(limits={name: max(value, report["limits"][name])
                                              for name, value in limits().items()}))
    for job in track(jobs, "Measuring"):
        job()
    report["summary"] = summary(report)
    return report


def set_up(config, ops, modules, threads, seed):
    """Make the random weights once and hand them to everybody  ->  {name: contender}"""
    model = random_model(config, seed=seed)
    contenders: dict = {PEER: Theirs(model, threads, *modules)} if modules else {}
    contenders |= {name: Ours(replace(model, ops=module)) for name, module in ops.items()}
    for contender in contenders.values():
        contender.begin()
        contender.read(np.arange(8))    # the first call pays for what later calls find ready
    return contenders


def rounds(contenders, what, tokens, repeats, rng, config, report):
    """The jobs of one measurement: everybody ready, then turn by turn."""
    size = tokens if what == "prefill" else STEPS
    text = rng.integers(3, config.text.vocab_size, (repeats, size))
    scores: list = [{} for _ in range(repeats)]
    samples: dict = {}

    def ready():
        if what == "decode":            # one reads the past, and all go on from its keys and values
            first = next(c for c in contenders.values() if isinstance(c, Ours))
            first.begin()
            first.read(rng.integers(3, config.text.vocab_size, tokens))
            past = first.cache
            for contender in contenders.values():
                contender.begin(past)
        samples.update({name: [] for name in contenders})

    def turn(n):
        for name, contender in contenders.items():
            if what == "prefill":
                contender.begin()
            time.sleep(SETTLE)
            seconds, scores[n][name] = timed(contender, text[n], what)
            samples[name].append(seconds)

    def note():
        report["samples"] += [{"name": name, "what": what, "at": tokens, "tokens": size, "seconds": seconds}
                              for name, seconds in samples.items()]
        report["agreement"] += agreement(scores, what, tokens)

    return [ready, *(lambda n=n: turn(n) for n in range(repeats)), note]


def timed(contender, tokens, what):
    """Seconds to take the tokens in, all at once or one by one, and the scores (V,) after the last."""
    begun = time.perf_counter()
    for piece in [tokens] if what == "prefill" else tokens[:, None]:
        scores = contender.read(piece)
    return time.perf_counter() - begun, scores


def agreement(scores, what, at):
    """How far everybody's scores lie from those of the first of our backends, over all rounds."""
    first = next(name for name in scores[0] if name != PEER)
    size = max(float(np.abs(row[first]).max()) for row in scores)
    return [{"name": name, "beside": first, "what": what, "at": at, "largest score": size,
             "largest difference": max(float(np.abs(row[name] - row[first]).max()) for row in scores)}
            for name in scores[0] if name != first]


def summary(report):
    """Tokens a second of every measurement: median, slowest, fastest; and how many times the peer's median."""
    rows = []
    for sample in report["samples"]:
        speeds = [sample["tokens"] / seconds for seconds in sample["seconds"]]
        rows.append({"name": sample["name"], "what": sample["what"], "at": sample["at"], "median": median(speeds),
                     "slowest": min(speeds), "fastest": max(speeds)})
        if sample["what"] == "decode" and sample["name"] != PEER:
            m = report["model"]
            read = m["weight bytes per token"] + m["cache bytes per position"] * sample["at"]
            rows[-1]["of bandwidth"] = rows[-1]["median"] * read / report["limits"]["read bytes per second"]
    theirs = {(row["what"], row["at"]): row["median"] for row in rows if row["name"] == PEER}
    for row in rows:
        if row["name"] != PEER and (row["what"], row["at"]) in theirs:
            row["times peer"] = row["median"] / theirs[row["what"], row["at"]]
    return rows


def describe(config):
    """The sizes that the figures depend on; bytes are those of float32."""
    c, counts = config.text, count(config)
    return {"layers": len(c.layers), "dim": c.dim, "heads": c.n_heads, "kv heads": c.n_kv_heads,
            "head dim": c.head_dim, "experts": c.n_experts, "top k": c.top_k, "hidden": c.hidden_dim,
            "vocabulary": c.vocab_size, "parameters": counts.total, "active": counts.active,
            # a token reads its own row of the embedding, not the table
            "weight bytes per token": 4 * (counts.active - (c.vocab_size - 1) * c.dim),
            "cache bytes per position": 4 * 2 * len(c.layers) * c.n_kv_heads * c.head_dim}


def plot(report, file):
    """One panel for each measurement, a bar for each contender, and a line from the slowest to the fastest sample."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        panels = list(dict.fromkeys((row["what"], row["at"]) for row in report["summary"]))
        figure = Figure(figsize=(2.3 * len(panels), 2.8), layout="constrained")
        for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            rows = [row for row in report["summary"] if (row["what"], row["at"]) == panel]
            names, tops = [row["name"] for row in rows], [row["median"] for row in rows]
            spread = [[row["median"] - row["slowest"] for row in rows],
                      [row["fastest"] - row["median"] for row in rows]]
            colours = ["0.7" if name == PEER else "#b06a00" for name in names]
            bars = axis.bar(names, tops, yerr=spread, color=colours, ecolor="0.3", width=0.7)
            axis.bar_label(bars, [f"{top:.3g}" for top in tops], label_type="center", color="black")
            axis.set_title(f"{panel[0]} {panel[1]:,}", fontsize=9)
            axis.tick_params(axis="x", rotation=20, length=0)
        figure.axes[0].set_ylabel("tokens a second")
        figure.savefig(file, dpi=110)
