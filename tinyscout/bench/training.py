"""Benchmark of a training step (forward, backward and AdamW) against PyTorch, on the same model and batch."""
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from rich.table import Table

from tinyscout.bench.engines import TransformersEngine, import_engines
from tinyscout.model import get_backend
from tinyscout.nn.weights import named_arrays
from tinyscout.progress import track
from tinyscout.train.loop import TrainState, init_training_weights
from tinyscout.train.loss_and_grad import Batch, loss_and_grad
from tinyscout.train.recipe import Recipe, scout_mini_config

SIZES = {"scout-mini": (16, 512), "small": (2, 64)}        # rows of a batch, and tokens of a row
SETTLE = 0.05           # seconds to wait before a sample, since idle threads of the previous engine still spin
RECIPE = Recipe(optimizer="adamw", lr=1e-4, warmup=0, router_aux_loss_coef=0.0)


class TinyscoutTrainer:
    """Training with a backend of tinyscout."""

    def __init__(self, config, weights, name):
        self.state = TrainState(config, weights, RECIPE, None, get_backend(name))
        self.steps = 0

    def step(self, batch):
        """One step  ->  its loss"""
        state, self.steps = self.state, self.steps + 1
        result = loss_and_grad(batch, state.weight_tree(), state.config, ops=state.ops)
        state.apply_gradients(dict(named_arrays(result.gradients)), self.steps)
        return result.losses[0]


class TorchTrainer:
    """transformers' Llama 4 with PyTorch's autograd and AdamW, all in float32."""

    def __init__(self, config, tree, threads, torch, transformers):
        self.torch = torch
        self.net = TransformersEngine(tree, config, "float32", threads, torch, transformers).net.train()
        self.net.set_attn_implementation("sdpa")
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=RECIPE.lr, betas=RECIPE.betas,
                                           weight_decay=RECIPE.weight_decay)

    def step(self, batch):
        """One step  ->  its loss"""
        torch = self.torch
        self.optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            logits = self.net(input_ids=torch.from_numpy(batch.tokens), use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), RECIPE.grad_clip)
        self.optimizer.step()
        return loss.item()


def measure(size: str = "scout-mini", repeats: int = 5, backends: Sequence[str] = ("numpy", "c"),
            compare: Sequence[str] = ("transformers",), threads: int | None = None, seed: int = 0) -> dict:
    """Measure training steps of scout-mini's text model; the engines take turns.

    size of SIZES, backends and compare: the engines that take part, threads of PyTorch
    ->  a dict that json can write: every sample in seconds, and the losses of the first step, which must agree
    """
    (B, T), config = SIZES[size], replace(scout_mini_config(), vision=None)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.text.vocab_size, (B, T + 1))
    batch = Batch(np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:]))
    modules, notes = import_engines([name for name in compare if name == "transformers"])
    weights = init_training_weights(config, seed)
    weights["text.output"] = (rng.standard_normal(weights["text.output"].shape) * 0.1).astype(np.float32)
    trainers: dict = {name: TinyscoutTrainer(config, weights, name) for name in backends}
    if "transformers" in modules:
        copies = {path: w.copy() for path, w in weights.items()}        # PyTorch updates them in place
        tree = TrainState(config, copies, RECIPE).weight_tree()
        trainers["transformers"] = TorchTrainer(config, tree, threads, *modules["transformers"])
    losses = {name: float(trainer.step(batch)) for name, trainer in trainers.items()}
    samples: dict = {name: [] for name in trainers}
    for name in track([name for _ in range(repeats) for name in trainers], "Training"):
        time.sleep(SETTLE)
        start = time.perf_counter()
        trainers[name].step(batch)
        samples[name].append(time.perf_counter() - start)
    return {"size": size, "rows": B, "length": T, "parameters": sum(w.size for w in weights.values()),
            "losses": losses, "samples": samples, "notes": notes}


def summary(result: dict, limits: dict | None = None) -> list[dict]:
    """Tokens per second of each engine: median, slowest and fastest, and the ratio to the first engine."""
    tokens = result["rows"] * result["length"]
    rows = [{"name": name, **{word: tokens / reduce(times) for word, reduce in
                              (("median", median), ("slowest", max), ("fastest", min))}}
            for name, times in result["samples"].items()]
    first = rows[0]["median"]
    return [{**row, "of the first": row["median"] / first} for row in rows]


def show(result: dict, console) -> None:
    """Print the summary as a table."""
    sizes = f"{result['parameters']:,} parameters, {result['rows']} rows of {result['length']} tokens per step"
    table = Table(title=f"Training, {sizes}", title_justify="left")
    for heading in ("", "tokens/s", "slowest", "fastest", f"of {result['summary'][0]['name']}", "first loss"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in result["summary"]:
        table.add_row(row["name"], *(f"{row[key]:,.0f}" for key in ("median", "slowest", "fastest")),
                      f"{row['of the first']:.2f}", f"{result['losses'][row['name']]:.5f}")
    console.print(table)
    for note in result["notes"]:
        console.print(note)
