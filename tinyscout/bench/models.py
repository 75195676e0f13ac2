"""Whole models: how fast a prompt is read (prefill) and how fast tokens follow it one by one (decode).

Agreement is measured along with speed: a fast wrong answer is not a result.
"""
import gc
import time
from statistics import median

import numpy as np
from rich.table import Table

from tinyscout.bench.engines import GROUPS, KV_OF_GROUP, PEERS, make_contenders, modules_and_notes
from tinyscout.bench.machine import cpu_count
from tinyscout.bench.sizes import SIZES, bytes_per_position, bytes_per_token, describe, random_tokens
from tinyscout.model import get_backend, random_model
from tinyscout.progress import track

SETTLE = 0.05           # seconds before a sample: idle threads of the library that ran before still spin for a while
STEPS = 8               # tokens decoded in one sample


def measure(size="mid", prefill=(512, 2048), context=(512, 4096), repeats=5, groups=tuple(GROUPS),
            backends=("numpy", "c"), peers=PEERS, threads=None, gguf_dir=None, seed=0):
    """Measure whole models, one group after the other so that their weights need not fit into memory together.

    size of SIZES, prefill and context: numbers of tokens to read, and already read when decoding; repeats int,
    groups of GROUPS, backends and peers: who of a group takes part, threads int for the peers (NumPy's were settled
    when it was loaded), gguf_dir: where llama.cpp's files go for a while
    ->  a dict that json can write: every sample in seconds, and how far the scores lie apart
    Where a peer is not installed a note says so.  Raises ValueError or RuntimeError for a backend that is not there.
    """
    config, threads = SIZES[size], threads or cpu_count()
    longest = max([*prefill, *(n + STEPS * (repeats + 1) for n in context)])
    if longest >= config.text.chunk_size:
        raise ValueError(f"{longest} tokens reach beyond the first chunk of {config.text.chunk_size}: choose fewer")
    wanted = [peer for peer in PEERS if peer in peers and any(peer in GROUPS[group] for group in groups)]
    modules, notes = modules_and_notes(wanted)  # before our kernels, whose settings for OpenMP are not meant for others
    for name in backends:
        get_backend(name)
    report = {"model": {"size": size, **describe(config)}, "repeats": repeats, "steps": STEPS, "groups": {},
              "samples": [], "agreement": [], "notes": notes}
    rng, jobs, model = np.random.default_rng(seed), [], random_model(config, seed=seed)
    for group in groups:
        names = [name for name in GROUPS[group] if name in backends or name in modules]
        if any(name in backends for name in names):
            jobs += group_jobs(group, names, model, modules, threads, longest, gguf_dir,
                               {"prefill": prefill, "decode": context}, repeats, rng, report)
    for job in track(jobs, "Measuring"):
        job()
    return report


def group_jobs(group, names, model, modules, threads, longest, gguf_dir, sizes, repeats, rng, report):
    """The jobs of one group: set everybody up, every measurement in rounds, and let go of the memory."""
    contenders: dict = {}

    def begin():
        contenders.update(make_contenders(group, names, model, modules, threads, longest, gguf_dir))
        ours = next(c for name, c in contenders.items() if name not in PEERS)
        report["groups"][group] = {
            "kv": KV_OF_GROUP[group], "weight bytes per token": bytes_per_token(ours.model.weights, model.config),
            "cache bytes per position": bytes_per_position(model.config, KV_OF_GROUP[group])}
        for contender in contenders.values():
            contender.begin("prefill")
            contender.read(random_tokens(model.config, rng,
                                         8))     # the first call pays for what later calls find ready

    def end():
        for contender in contenders.values():
            contender.close()
        contenders.clear()
        gc.collect()

    jobs = [begin]
    for what, lengths in sizes.items():
        for tokens in lengths:
            jobs += measurement_jobs(contenders, group, what, tokens, repeats, rng, model.config, report)
    return [*jobs, end]


def measurement_jobs(contenders, group, what, tokens, repeats, rng, config, report):
    """The jobs of one measurement: everybody reads the past, then turn by turn.  The first round is not counted."""
    size = tokens if what == "prefill" else STEPS
    past, text = random_tokens(config, rng, tokens), random_tokens(config, rng, repeats + 1, size)
    scores: list = [{} for _ in text]
    samples: dict = {}

    def ready():
        for contender in contenders.values() if what == "decode" else ():
            contender.begin(what)
            contender.read(past)

    def turn(n):
        for name, contender in contenders.items():
            if what == "prefill":
                contender.begin(what)
            time.sleep(SETTLE)
            seconds, scores[n][name] = timed(contender, text[n], what)
            samples.setdefault(name, []).append(seconds)

    def note():
        at = {"group": group, "what": what, "at": tokens}
        report["samples"] += [{"name": name, **at, "tokens": size, "seconds": seconds[1:]}
                              for name, seconds in samples.items()]
        report["agreement"] += [{"name": name, **at, **row} for name, row in agreement(scores).items()]

    return [ready, *(lambda n=n: turn(n) for n in range(len(text))), note]


def timed(contender, tokens, what):
    """Seconds to take the tokens in, all at once or one by one, and the scores (V,) after the last."""
    begun = time.perf_counter()
    for piece in [tokens] if what == "prefill" else tokens[:, None]:
        scores = contender.read(piece)
    return time.perf_counter() - begun, scores


def agreement(scores):
    """How far everybody's scores lie from those of the first contender, over all rounds  ->  {name: numbers}

    scores: for each round {name: (V,)}.  Integers of few bits are rounded differently here and there, so in those
    groups the correlation says more than the largest difference.
    """
    first, *others = scores[0]
    ours = np.stack([row[first] for row in scores])
    found = {}
    for name in others:
        theirs = np.stack([row[name] for row in scores])
        found[name] = {"beside": first, "largest score": float(np.abs(ours).max()),
                       "largest difference": float(np.abs(theirs - ours).max()),
                       "correlation": float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])}
    return found


def summary(report, limits):
    """Tokens a second of every measurement: median, slowest, fastest; how many times each peer's median; and how
    much of the machine's reading speed our decoding reaches."""
    rows = []
    for sample in report["samples"]:
        speeds = [sample["tokens"] / seconds for seconds in sample["seconds"]]
        rows.append({**{key: sample[key] for key in ("name", "group", "what", "at")}, "median": median(speeds),
                     "slowest": min(speeds), "fastest": max(speeds)})
        if sample["what"] == "decode" and sample["name"] not in PEERS:
            form = report["groups"][sample["group"]]
            read = form["weight bytes per token"] + form["cache bytes per position"] * sample["at"]
            rows[-1]["of bandwidth"] = rows[-1]["median"] * read / limits["read bytes per second"]
    theirs = {(row["name"], *where(row)): row["median"] for row in rows if row["name"] in PEERS}
    for row in rows:
        if row["name"] not in PEERS:
            row["times"] = {peer: row["median"] / theirs[peer, *where(row)] for peer in PEERS
                            if (peer, *where(row)) in theirs}
    return rows


def where(row):
    return row["group"], row["what"], row["at"]


def show(report, console):
    """The report as one reads it: a table for each group."""
    size = report["model"]
    console.print(f"\nmodel {size['size']}: {size['parameters'] / 1e9:.3g} billion parameters, "
                  f"{size['active'] / 1e9:.3g} active; tokens a second: median (slowest to fastest)")
    for group in report["groups"]:
        console.print(speeds(group, [row for row in report["summary"] if row["group"] == group]))
    for row in report["agreement"]:
        console.print(f"{row['group']} {row['what']} {row['at']}: {row['name']}'s scores are within "
                      f"{row['largest difference']:.1e} of {row['beside']}'s, the largest of which is "
                      f"{row['largest score']:.2g}; correlation {row['correlation']:.6f}")
    for row in report["summary"]:
        if "of bandwidth" in row:
            console.print(f"{row['group']} decode {row['at']}: {row['name']} reads weights and cache at "
                          f"{row['of bandwidth']:.0%} of what the machine reads")
    for note in report["notes"]:
        console.print(note)


def speeds(group, rows):
    """A row for each contender, a column for each measurement."""
    found = {(row["name"], row["what"], row["at"]): row for row in rows}
    columns = list(dict.fromkeys((what, at) for _, what, at in found))
    made = Table(title=f"\n{group}", title_justify="left", title_style="bold", box=None, pad_edge=False,
                 padding=(0, 3, 0, 0))
    made.add_column("")
    for what, at in columns:
        made.add_column(f"{what} {at}", justify="right", no_wrap=True)
    for name in dict.fromkeys(name for name, *_ in found):
        made.add_row(name, *(cell(found[name, *column]) for column in columns))
    return made


def cell(row):
    times = "".join(f" [bold]{ratio:.2g}x {peer[0]}[/]" for peer, ratio in row.get("times", {}).items())
    middle, low, high = (f"{row[key]:,.0f}" if row[key] >= 100 else f"{row[key]:.3g}"
                         for key in ("median", "slowest", "fastest"))
    return f"{middle} [dim]({low} to {high})[/]{times}"
