"""Benchmark of whole models: the speed of processing a prompt (prefill) and of generating tokens (decode).

The agreement of the logits is measured along with speed: a fast wrong answer is not a result.
"""
import gc
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from rich.table import Table

from tinyscout.bench.engines import EXTERNAL_ENGINES, GROUPS, KV_OF_GROUP, import_engines, make_engines
from tinyscout.bench.formats import format_digits
from tinyscout.bench.machine import cpu_count
from tinyscout.bench.sizes import SIZES, bytes_per_position, bytes_per_token, describe_config, random_tokens
from tinyscout.model import Model, get_backend, random_model
from tinyscout.progress import track

SETTLE = 0.05           # seconds to wait before a sample, since idle threads of the previous engine still spin
STEPS = 8               # tokens decoded in one sample


class Setup(NamedTuple):
    """Settings that all groups share."""

    model: Model                    # random weights in float32
    modules: dict                   # {external engine: its modules}
    cases: list                     # (phase, tokens): "prefill" of a prompt or "decode" after a context of that length
    repeats: int
    threads: int
    max_tokens: int                 # in a text
    gguf_dir: Path | None
    rng: np.random.Generator        # for the tokens


def measure(size: str = "mid", prompt_tokens: Sequence[int] = (512, 2048), context: Sequence[int] = (512, 4096),
            repeats: int = 5, groups: Sequence[str] = tuple(GROUPS), backends: Sequence[str] = ("numpy", "c"),
            compare: Sequence[str] = EXTERNAL_ENGINES, threads: int | None = None, gguf_dir: Path | None = None,
            seed: int = 0) -> dict:
    """Measure whole models, group by group, so that the weights of all groups need not fit into memory together.

    size of SIZES, prompt_tokens of a prefill, context: tokens in the cache when decoding begins, groups of GROUPS,
    backends and compare: the engines that take part if they belong to a group, threads of the external engines (NumPy's
    were set when it was loaded), gguf_dir for llama.cpp's temporary files
    ->  a dict that json can write: every sample in seconds, and how much the logits of the engines differ
    Notes list the engines that are not installed.  Raises ValueError or RuntimeError for a missing backend.
    """
    config, threads = SIZES[size], threads or cpu_count()
    max_tokens = max([*prompt_tokens, *(n + STEPS * (repeats + 1) for n in context)])
    if max_tokens >= config.text.chunk_size:
        raise ValueError(f"{max_tokens} tokens exceed the first chunk of {config.text.chunk_size}: choose fewer")
    names = [name for name in EXTERNAL_ENGINES if name in compare and any(name in GROUPS[group] for group in groups)]
    modules, notes = import_engines(names)      # before our kernels, whose OpenMP settings must not affect others
    for name in backends:
        get_backend(name)
    report: dict = {"model": {"size": size, **describe_config(config)}, "repeats": repeats, "steps": STEPS,
                    "groups": {}, "samples": [], "agreement": [], "notes": notes}
    setup = Setup(random_model(config, seed=seed), modules,
                  [("prefill", n) for n in prompt_tokens] + [("decode", n) for n in context],
                  repeats, threads, max_tokens, gguf_dir, np.random.default_rng(seed))
    names_of_group = {group: [name for name in GROUPS[group] if name in backends or name in modules]
                      for group in groups if any(name in backends for name in GROUPS[group])}
    total = sum(map(len, names_of_group.values())) * len(setup.cases) * (repeats + 1)
    for _ in track(run_groups(names_of_group, setup, report), "Measuring", total):
        pass
    return report


def run_groups(names_of_group: dict, setup: Setup, report: dict) -> Iterator[None]:
    """Measure group by group and free the memory after each.  Fill the report, and yield after each sample."""
    for group, names in names_of_group.items():
        engines = make_engines(group, names, setup.model, setup.modules, setup.threads, setup.max_tokens,
                               setup.gguf_dir)
        try:
            report["groups"][group] = describe_group(group, engines, setup.model.config)
            warm_up(engines, setup.model.config)
            for phase, tokens in setup.cases:
                yield from run_case(engines, group, phase, tokens, setup, report)
        finally:
            for engine in engines.values():
                engine.close()
            del engine, engines
            gc.collect()


def describe_group(group, engines, config):
    """The dtype of the cache, and the bytes read per token."""
    backend = next(engine for name, engine in engines.items() if name not in EXTERNAL_ENGINES)
    return {"kv": KV_OF_GROUP[group], "weight bytes per token": bytes_per_token(backend.model.weights, config),
            "cache bytes per position": bytes_per_position(config, KV_OF_GROUP[group])}


def warm_up(engines, config):
    """Feed a few tokens, because the first call also pays for initialisation."""
    for engine in engines.values():
        engine.reset("prefill")
        engine.feed(random_tokens(config, np.random.default_rng(0), 8))


def run_case(engines: dict, group: str, phase: str, tokens: int, setup: Setup, report: dict) -> Iterator[None]:
    """Measure one case in rounds, in which the engines take turns.  The first round is not counted.

    A "prefill" sample is a prompt of `tokens`; a "decode" sample is STEPS tokens after a context of `tokens`, which is
    fed to every engine beforehand.
    """
    config, rounds = setup.model.config, setup.repeats + 1
    sample_tokens = tokens if phase == "prefill" else STEPS
    context, texts = (random_tokens(config, setup.rng, *shape) for shape in ((tokens,), (rounds, sample_tokens)))
    if phase == "decode":
        for engine in engines.values():
            engine.reset(phase)
            engine.feed(context)
    logits: list[dict] = [{} for _ in texts]
    samples: dict[str, list[float]] = {name: [] for name in engines}
    for text, logits_of_round in zip(texts, logits, strict=True):
        for name, engine in engines.items():
            if phase == "prefill":
                engine.reset(phase)
            time.sleep(SETTLE)
            seconds, logits_of_round[name] = time_sample(engine, text, phase)
            samples[name].append(seconds)
            yield
    case = {"group": group, "what": phase, "at": tokens}
    report["samples"] += [{"name": name, **case, "tokens": sample_tokens, "seconds": seconds[1:]}
                          for name, seconds in samples.items()]
    report["agreement"] += [{"name": name, **case, **row} for name, row in agreement(logits).items()]


def time_sample(engine, tokens, phase):
    """Seconds to feed the tokens, all together or one by one, and the logits (V,) after the last token."""
    start = time.perf_counter()
    for ids in [tokens] if phase == "prefill" else tokens[:, None]:
        logits = engine.feed(ids)
    return time.perf_counter() - start, logits


def agreement(logits: list[dict]) -> dict:
    """Compare the logits of the other engines with those of the first one, over all rounds  ->  {name: numbers}

    logits: for each round {name: (V,)}.  Every engine quantizes in its own way, so for quantized weights the
    correlation says more than the largest difference.
    """
    first, *others = logits[0]
    expected = np.stack([row[first] for row in logits])
    rows = {}
    for name in others:
        actual = np.stack([row[name] for row in logits])
        rows[name] = {"beside": first, "largest score": float(np.abs(expected).max()),
                      "largest difference": float(np.abs(actual - expected).max()),
                      "correlation": float(np.corrcoef(expected.ravel(), actual.ravel())[0, 1])}
    return rows


def summary(report: dict, limits: dict) -> list[dict]:
    """Tokens per second of every case: median, slowest and fastest.

    A backend's row also has "times", the ratio of its median to that of each external engine, and for "decode" the
    share of the machine's bandwidth that it uses to read weights and cache.
    """
    rows = []
    for sample in report["samples"]:
        speeds = [sample["tokens"] / seconds for seconds in sample["seconds"]]
        rows.append({**{key: sample[key] for key in ("name", "group", "what", "at")}, "median": median(speeds),
                     "slowest": min(speeds), "fastest": max(speeds)})
        if sample["what"] == "decode" and sample["name"] not in EXTERNAL_ENGINES:
            group = report["groups"][sample["group"]]
            nbytes = group["weight bytes per token"] + group["cache bytes per position"] * sample["at"]
            rows[-1]["of bandwidth"] = rows[-1]["median"] * nbytes / limits["read bytes per second"]
    medians = {(row["name"], *case_of(row)): row["median"] for row in rows}
    for row in rows:
        if row["name"] not in EXTERNAL_ENGINES:
            row["times"] = {name: row["median"] / medians[name, *case_of(row)] for name in EXTERNAL_ENGINES
                            if (name, *case_of(row)) in medians}
    return rows


def case_of(row):
    return row["group"], row["what"], row["at"]


def show(report: dict, console) -> None:
    """Print the report, with a table for each group."""
    model = report["model"]
    console.print(f"\nmodel {model['size']}: {model['parameters'] / 1e9:.3g} billion parameters, "
                  f"{model['active'] / 1e9:.3g} active; tokens per second: median (slowest to fastest)")
    for group in report["groups"]:
        console.print(speed_table(group, [row for row in report["summary"] if row["group"] == group]))
    for row in report["agreement"]:
        console.print(f"{row['group']} {row['what']} {row['at']}: the logits of {row['name']} differ from those of "
                      f"{row['beside']} by at most {row['largest difference']:.1e} (largest logit "
                      f"{row['largest score']:.2g}); correlation {row['correlation']:.6f}")
    for row in report["summary"]:
        if "of bandwidth" in row:
            console.print(f"{row['group']} decode {row['at']}: {row['name']} reads weights and cache at "
                          f"{row['of bandwidth']:.0%} of the machine's bandwidth")
    for note in report["notes"]:
        console.print(note)


def speed_table(group, rows):
    """A row for each engine, a column for each case."""
    row_of = {(row["name"], row["what"], row["at"]): row for row in rows}
    columns = list(dict.fromkeys((phase, tokens) for _, phase, tokens in row_of))
    table = Table(title=f"\n{group}", title_justify="left", title_style="bold", box=None, pad_edge=False,
                  padding=(0, 3, 0, 0))
    table.add_column("")
    for phase, tokens in columns:
        table.add_column(f"{phase} {tokens}", justify="right", no_wrap=True)
    for name in dict.fromkeys(name for name, *_ in row_of):
        table.add_row(name, *(format_cell(row_of[name, *column]) for column in columns))
    return table


def format_cell(row):
    """Format the median, the range, and the ratio to each external engine."""
    times = "".join(f" [bold]{format_digits(ratio, 2)}x {name[0]}[/]" for name, ratio in row.get("times", {}).items())
    middle, low, high = (format_digits(row[key]) for key in ("median", "slowest", "fastest"))
    return f"{middle} [dim]({low} to {high})[/]{times}"
