"""The training loop: load batches, forward, backward, optimizer step, and a checkpoint every N steps."""
import math
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from tinyscout import reference
from tinyscout.config import ScoutConfig
from tinyscout.data.corpus import Corpus
from tinyscout.nn.weights import Scout, init_weights, named_arrays, tree_map
from tinyscout.train.batches import BatchSource, train_tokenizer
from tinyscout.train.checkpoints import flatten, load_run, open_run, save_step, saved_steps, unflatten
from tinyscout.train.log import CsvLog, ProgressLine, plot_log, save_figure
from tinyscout.train.lora import init_lora, lora_gradients, merge_lora
from tinyscout.train.loss_and_grad import evaluate_loss, loss_and_grad
from tinyscout.train.optimizer import lr_schedule, mean_gradients, optimizer_step
from tinyscout.train.recipe import Recipe

SAVE_EVERY, EVAL_EVERY = 100, 100       # steps
METRIC_NAMES = {"text": ("text", "needles"), "images": ("images", "patch_labels")}      # for targets and aux_targets


def init_training_weights(config: ScoutConfig, seed: int) -> dict:
    """Initial weights by path: small layer outputs, large token embeddings, and logits that are all zero."""
    arrays = flatten(init_weights(config, seed), config)
    for path, w in arrays.items():
        if path.endswith(("w_o", "w_down", "mlp.w_2")):
            w *= np.float32(0.5)
        elif path == "text.output":
            w *= np.float32(0)
        elif path == "text.embedding":
            w *= np.float32(0.5 * math.sqrt(w.shape[1]))
    return arrays


class TrainState:
    """The state that changes in each step: the weights, or their adapters, and the optimizer's running means.

    weights dict by path, state_dict the result of the method `state_dict`, or None at the start
    """

    def __init__(self, config: ScoutConfig, weights: dict, recipe: Recipe, state_dict: dict | None = None,
                 ops: Any = reference):
        self.config, self.recipe, self.ops = config, recipe, ops
        self.weights = {path: ops.asarray(w) for path, w in weights.items()}
        self.lora = {path: ops.asarray(a) for path, a in init_lora(weights, recipe.lora, recipe.seed).items()} \
            if recipe.lora else {}
        self.opt_state: dict = {}
        for name, a in sorted((state_dict or {}).items()):
            kind, path = name.split(":", 1)
            if kind == "adapter":
                self.lora[path] = ops.asarray(a)
            else:
                self.opt_state[path] = (*self.opt_state.get(path, ()), ops.asarray(a))      # m before v

    def weight_tree(self) -> Scout:
        """The weights as the model uses them, with the adapters merged."""
        arrays = merge_lora(self.weights, self.lora) if self.lora else self.weights
        return unflatten(self.config, arrays)

    def apply_gradients(self, gradients: dict, step: int) -> float:
        """Take one optimizer step.  gradients dict by path of the tree  ->  their norm"""
        if self.lora:
            self.lora, self.opt_state, norm = optimizer_step(
                self.lora, lora_gradients(self.lora, gradients), self.opt_state, self.recipe, step, self.ops)
        else:
            self.weights, self.opt_state, norm = optimizer_step(
                self.weights, gradients, self.opt_state, self.recipe, step, self.ops)
        return norm

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state to save in addition to the weights: the running means, and the adapters."""
        asnumpy = self.ops.asnumpy
        means = {f"{'mv'[n]}:{path}": asnumpy(a) for path, moments in self.opt_state.items()
                 for n, a in enumerate(moments)}
        return means | {f"adapter:{path}": asnumpy(a) for path, a in self.lora.items()}


def train(directory: Path | str, recipe: Recipe, config: ScoutConfig, corpus: Corpus | None = None,
          ops: Any = reference, base_model: Any = None, teacher: Any = None, save_every: int = SAVE_EVERY) -> Path:
    """Train from scratch, fine-tune a model, or resume this run if it was interrupted.

    directory of the run, base_model Model to fine-tune or None, teacher Model to distill from or None, save_every steps
    ->  path of the last checkpoint
    Raises ValueError, OSError, or FloatingPointError if the loss becomes NaN or infinite.
    """
    directory = Path(directory)
    open_run(directory, recipe)
    check_teacher(teacher, config)
    state, source, done = restore_or_init(directory, recipe, config, corpus, base_model, ops)
    log, validation_batch, tokens_read = CsvLog(directory, done), source.validation_batch(), 0
    seconds_before, start_time = log.seconds, monotonic()
    teacher_args = None if teacher is None else (tree_map(ops.asarray, teacher.weights), teacher.config)
    with ProgressLine(recipe.steps, done) as progress_line:
        for step in range(done + 1, recipe.steps + 1):
            row, tokens = train_step(state, source, step, teacher_args)
            tokens_read += tokens
            if validation_batch and (step % EVAL_EVERY == 0 or step == recipe.steps):
                [row["held_out"]] = evaluate_loss(validation_batch, state.weight_tree(), state.config, ops)
            row |= {"seconds": seconds_before + monotonic() - start_time, "tokens": tokens}
            log.add(row)
            progress_line.show(row, tokens_read)
            if step % save_every == 0 or step == recipe.steps:
                save_step(directory, step, to_numpy(state), state.config, source.tokenizer, state.state_dict())
                save_figure(directory / "log.png", lambda figure: plot_log(figure, log.rows))
    return saved_steps(directory)[recipe.steps]


def check_teacher(teacher, config):
    """Raise ValueError if the teacher's vocabulary has another size."""
    if teacher is not None and teacher.config.text.vocab_size != config.text.vocab_size:
        raise ValueError(f"the teacher has a vocabulary of {teacher.config.text.vocab_size}, the student one of "
                         f"{config.text.vocab_size}: they must be equal")


def to_numpy(state):
    """The tree of weights as NumPy arrays."""
    arrays = {path: state.ops.asnumpy(w) for path, w in named_arrays(state.weight_tree())}
    return unflatten(state.config, arrays)


def restore_or_init(directory, recipe, config, corpus, base_model, ops):
    """Restore the training state from the last checkpoint, or initialise it  ->  TrainState, BatchSource, steps done"""
    if steps := saved_steps(directory):
        done, path = list(steps.items())[-1]
        config, weights, tokenizer, state_dict = load_run(path)
        if recipe.lora:                 # the checkpoint contains merged weights, but training needs the original ones
            weights = flatten(base_model.weights, config)
        state = TrainState(config, weights, recipe, state_dict, ops)
        return state, BatchSource(tokenizer, config, recipe, corpus), done
    if base_model is not None:
        config, tokenizer = base_model.config, base_model.tokenizer
        weights = {path: np.asarray(w, np.float32) for path, w in flatten(base_model.weights, config).items()}
    else:
        tokenizer = train_tokenizer(config, corpus, recipe)
        if tokenizer.vocab_size != config.text.vocab_size:
            raise ValueError(f"the text is too short: it yields a vocabulary of {tokenizer.vocab_size}, but "
                             f"{config.text.vocab_size} tokens are needed")
        weights = init_training_weights(config, recipe.seed)
    return TrainState(config, weights, recipe, None, ops), BatchSource(tokenizer, config, recipe, corpus), 0


def train_step(state, source, step, teacher=None):
    """Run one training step  ->  a row of the log, and the number of tokens read

    state TrainState, source BatchSource, teacher None or (weights, config)
    """
    recipe, weights, results, tokens = state.recipe, state.weight_tree(), {}, 0
    gradients: dict = {}
    distill_weight = distill_weight_at(recipe, step) if teacher is not None else 0.0
    for kind, batches in source.batches(step).items():
        results[kind] = [loss_and_grad(batch, weights, state.config, recipe.router_aux_loss_coef, teacher,
                                       distill_weight, state.ops) for batch in batches]
        tokens += sum(batch.tokens.size for batch in batches)
        batch_gradients = [dict(named_arrays(result.gradients)) for result in results[kind]]
        for path, g in mean_gradients(batch_gradients).items():
            gradients[path] = gradients[path] + g if path in gradients else g
    norm = state.apply_gradients(gradients, step)
    row = {"step": step, "lr": lr_schedule(recipe, step) * recipe.lr, "grad_norm": norm, **collect_metrics(results)}
    if not all(math.isfinite(value) for value in row.values()):
        raise FloatingPointError(f"the loss or its gradient became NaN or infinite at step {step}: try a lower --lr; "
                                 "the last checkpoint is from an earlier step")
    return row, tokens


def distill_weight_at(recipe, step):
    """The weight of the teacher's loss at a step from 1, equation (distillation)."""
    first, last = recipe.distill_weight
    return first + (last - first) * ((step - 1) / recipe.steps)


def collect_metrics(results):
    """Average the metrics of a step's batches.  results {kind of batch: list of BatchResult}  ->  part of a log row"""
    row = {}
    for kind, batch_results in results.items():
        n_losses = min(len(result.losses) for result in batch_results)      # a batch may lack aux_targets
        for n, name in enumerate(METRIC_NAMES[kind][:n_losses]):
            row[name] = float(np.mean([result.losses[n] for result in batch_results]))
            row[f"{name}_accuracy"] = float(np.mean([result.accuracies[n] for result in batch_results]))
    all_results = [result for batch_results in results.values() for result in batch_results]
    if loads := [result.expert_loads for result in all_results if len(result.expert_loads)]:
        mean_loads = np.mean(loads, axis=0)
        row |= {"min_load": float(mean_loads.min()), "max_load": float(mean_loads.max())}
    if distill_losses := [result.distill_loss for result in all_results if result.distill_loss is not None]:
        row["distill_loss"] = float(np.mean(distill_losses))
    return row
