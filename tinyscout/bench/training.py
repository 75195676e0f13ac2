"""Training: one step, forwards, backwards and AdamW, on the same model and the same batch, beside PyTorch."""
import time
from dataclasses import replace
from statistics import median

import numpy as np
from rich.table import Table

from tinyscout.bench.engines import Transformers, modules_and_notes
from tinyscout.model import get_backend
from tinyscout.nn.weights import named_arrays
from tinyscout.progress import track
from tinyscout.train.loop import TrainState, init_training_weights
from tinyscout.train.loss_and_grad import Batch
from tinyscout.train.loss_and_grad import loss_and_grad as lesson
from tinyscout.train.optimizer import optimizer_step
from tinyscout.train.recipe import Recipe, scout_mini_config

SIZES = {"scout-mini": (16, 512), "small": (2, 64)}        # rows and their length
SETTLE = 0.05           # seconds before a sample: idle threads of who ran before still spin for a while
RECIPE = Recipe(optimizer="adamw", lr=1e-4, warmup=0, balance=0.0)


class Ours:
    """A backend of tinyscout."""

    def __init__(self, config, weights, name):
        self.student = TrainState(config, weights, RECIPE, None, get_backend(name))
        self.steps = 0

    def step(self, batch):
        """One step  ->  its loss"""
        student, self.steps = self.student, self.steps + 1
        learned = lesson(batch, student.weight_tree(), student.config, ops=student.ops)
        student.weights, student.opt_state, _ = optimizer_step(
            student.weights, dict(named_arrays(learned.gradients)), student.opt_state, RECIPE, self.steps, student.ops)
        return learned.losses[0]


class Torch:
    """transformers' Llama 4 with PyTorch's autograd and AdamW, all in float32."""

    def __init__(self, config, tree, threads, torch, transformers):
        self.torch, peer = torch, Transformers(tree, config, "float32", threads, torch, transformers)
        self.net = peer.net.train()
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


def measure(size="scout-mini", repeats=5, backends=("numpy", "c"), peers=("transformers",), threads=None, seed=0):
    """Steps of training the text model of scout-mini, each contender in turn, over and over.

    size of SIZES, repeats int, backends and peers: who takes part, threads int for PyTorch
    ->  a dict that json can write: every sample in seconds, and the first step's losses, which must agree
    """
    (B, T), config = SIZES[size], replace(scout_mini_config(), vision=None)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.text.vocab_size, (B, T + 1))
    batch = Batch(np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:]))
    modules, notes = modules_and_notes([name for name in peers if name == "transformers"])
    weights = init_training_weights(config, seed)
    weights["text.output"] = (rng.standard_normal(weights["text.output"].shape) * 0.1).astype(np.float32)
    contenders: dict = {name: Ours(config, weights, name) for name in backends}
    if "transformers" in modules:
        tree = TrainState(config, {path: w.copy() for path, w in weights.items()}, RECIPE).tree()  # stepped in place
        contenders["transformers"] = Torch(config, tree, threads, *modules["transformers"])
    losses = {name: float(contender.step(batch)) for name, contender in contenders.items()}
    samples: dict = {name: [] for name in contenders}
    for name in track([name for _ in range(repeats) for name in contenders], "Training"):
        time.sleep(SETTLE)
        begun = time.perf_counter()
        contenders[name].step(batch)
        samples[name].append(time.perf_counter() - begun)
    return {"size": size, "rows": B, "length": T, "parameters": sum(w.size for w in weights.values()),
            "losses": losses, "samples": samples, "notes": notes}


def summary(result, limits=None):
    """Tokens a second of each: median, slowest and fastest, and how often NumPy's."""
    tokens = result["rows"] * result["length"]
    rows = [{"name": name, **{word: tokens / of(times) for word, of in
                              (("median", median), ("slowest", max), ("fastest", min))}}
            for name, times in result["samples"].items()]
    first = rows[0]["median"]
    return [{**row, "of the first": row["median"] / first} for row in rows]


def show(result, console):
    what = f"{result['parameters']:,} parameters, {result['rows']} rows of {result['length']} tokens a step"
    made = Table(title=f"Training, {what}", title_justify="left")
    for heading in ("", "tokens/s", "slowest", "fastest", f"of {result['summary'][0]['name']}", "first loss"):
        made.add_column(heading, justify="right" if heading else "left")
    for row in result["summary"]:
        made.add_row(row["name"], *(f"{row[key]:,.0f}" for key in ("median", "slowest", "fastest")),
                     f"{row['of the first']:.2f}", f"{result['losses'][row['name']]:.5f}")
    console.print(made)
    for note in result["notes"]:
        console.print(note)
