"""The training itself: read, go forwards and backwards, step; and now and then write down where one is."""
import math
from pathlib import Path
from time import monotonic

import numpy as np

from tinyscout import reference
from tinyscout.nn.weights import init_weights, named_arrays, tree_map
from tinyscout.train import loss_and_grad as arithmetic
from tinyscout.train.batches import BatchSource, train_tokenizer
from tinyscout.train.checkpoints import flatten, load_run, open_run, save_step, saved_steps, unflatten
from tinyscout.train.log import CsvLog, ProgressLine, plot
from tinyscout.train.lora import init_lora, lora_gradients, merge_lora
from tinyscout.train.optimizer import lr_schedule, mean_gradients, optimizer_step

SAVE_EVERY, EVAL_EVERY = 100, 100       # steps
METRIC_NAMES = {"text": ("text", "needles"), "pictures": ("pictures", "spots")}      # of each kind of batch


def init_training_weights(config, seed):
    """Weights to begin with: layers that add little, tokens far apart, and scores that are all zero.

    config ScoutConfig, seed int  ->  dict of arrays by path
    """
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
    """What changes from step to step: the weights, or the adapters on them, and the optimizer's running means."""

    def __init__(self, config, weights, recipe, state=None, ops=reference):
        self.config, self.recipe, self.ops = config, recipe, ops
        move = ops.asarray
        self.weights = {path: move(w) for path, w in weights.items()}
        self.lora = {path: move(a) for path, a in init_lora(weights, recipe.lora, recipe.seed).items()} \
            if recipe.lora else {}
        self.opt_state: dict = {}
        for name, a in sorted((state or {}).items()):
            kind, path = name.split(":", 1)
            if kind == "adapter":
                self.lora[path] = move(a)
            else:
                self.opt_state[path] = (*self.opt_state.get(path, ()), move(a))     # m before v

    def weight_tree(self):
        """The weights as the model computes with them."""
        arrays = merge_lora(self.weights, self.lora) if self.lora else self.weights
        return unflatten(self.config, arrays)

    def apply_gradients(self, gradients, step):
        """One step.  gradients dict by path of the tree  ->  their length"""
        if self.lora:
            self.lora, self.opt_state, norm = optimizer_step(
                self.lora, lora_gradients(self.lora, gradients), self.opt_state, self.recipe, step, self.ops)
        else:
            self.weights, self.opt_state, norm = optimizer_step(
                self.weights, gradients, self.opt_state, self.recipe, step, self.ops)
        return norm

    def state_dict(self):
        """What has to be kept beside the tree to go on: {name: array}.  With adapters, the weights beneath too."""
        back = self.ops.asnumpy
        kept = {f"{'mv'[n]}:{path}": back(a) for path, means in self.opt_state.items() for n, a in enumerate(means)}
        kept |= {f"adapter:{path}": back(a) for path, a in self.lora.items()}
        return kept


def train(directory, recipe, config, corpus=None, ops=reference, base_model=None, teacher=None, save_every=SAVE_EVERY):
    """Train from the beginning, from a checkpoint, or on from where this run was interrupted.

    directory of the run, recipe Recipe, config ScoutConfig, corpus Corpus or None, source Model to fine-tune or None,
    teacher Model or None, save_every steps  ->  path of the last checkpoint
    Raises ValueError, OSError, or FloatingPointError where the loss is no number any more.
    """
    directory = Path(directory)
    open_run(directory, recipe)
    check_teacher(teacher, config)
    student, school, done = restore_or_init(directory, recipe, config, corpus, base_model, ops)
    log, exam, read = CsvLog(directory, done), school.validation_batch(), 0
    earlier, since = log.seconds, monotonic()
    taught = teacher and (tree_map(ops.asarray, teacher.weights), teacher.config)
    with ProgressLine(recipe.steps, done) as watch:
        for step in range(done + 1, recipe.steps + 1):
            row, tokens = train_step(student, school, step, taught)
            read += tokens
            if exam and (step % EVAL_EVERY == 0 or step == recipe.steps):
                [row["held_out"]] = arithmetic.evaluate_loss(exam, student.weight_tree(), student.config, ops)
            row |= {"seconds": earlier + monotonic() - since, "tokens": tokens}
            log.add(row)
            watch.show(row, read)
            if step % save_every == 0 or step == recipe.steps:
                save_step(directory, step, to_numpy(student), student.config, school.tokenizer, student.state_dict())
                plot(log.rows, directory / "log.png")
    return saved_steps(directory)[recipe.steps]


def check_teacher(teacher, config):
    """Raises ValueError for a teacher who speaks of other tokens."""
    if teacher is not None and teacher.config.text.vocab_size != config.text.vocab_size:
        raise ValueError(f"the teacher has a vocabulary of {teacher.config.text.vocab_size}, the student one of "
                         f"{config.text.vocab_size}: they must be the same")


def to_numpy(student):
    """The tree of weights as NumPy arrays."""
    arrays = {path: student.ops.asnumpy(w) for path, w in named_arrays(student.weight_tree())}
    return unflatten(student.config, arrays)


def restore_or_init(directory, recipe, config, corpus, base_model, ops):
    """The student and the school, as the last checkpoint left them or as a training begins: both and the steps done."""
    kept = saved_steps(directory)
    if kept:
        done, path = list(kept.items())[-1]
        config, weights, tokenizer, state = load_run(path)
        if recipe.lora:
            weights = flatten(base_model.weights, config)
        student = TrainState(config, weights, recipe, state, ops)
        return student, BatchSource(tokenizer, config, recipe, corpus), done
    if base_model is not None:
        config, tokenizer, weights = base_model.config, base_model.tokenizer, flatten(base_model.weights, base_model.config)
        weights = {path: np.asarray(w, np.float32) for path, w in weights.items()}
    else:
        tokenizer = train_tokenizer(config, corpus, recipe)
        if tokenizer.vocab_size != config.text.vocab_size:
            raise ValueError(f"the text has pairs for a vocabulary of {tokenizer.vocab_size} only, not of "
                             f"{config.text.vocab_size}: it is too short")
        weights = init_training_weights(config, recipe.seed)
    return TrainState(config, weights, recipe, None, ops), BatchSource(tokenizer, config, recipe, corpus), 0


def train_step(student, school, step, teacher=None):
    """All batches of a step, and the step itself  ->  what the log says of it, and how many tokens were read"""
    recipe, tree, kinds, tokens, loads, soft = student.recipe, student.weight_tree(), {}, 0, [], []
    part = (step - 1) / recipe.steps
    trust = recipe.distill_weight[0] + (recipe.distill_weight[1] - recipe.distill_weight[0]) * part if teacher is not None else 0.0
    gradients: dict = {}
    for kind, batches in school.batches(step).items():
        lessons = [arithmetic.loss_and_grad(batch, tree, student.config, recipe.router_aux_loss_coef, teacher, trust,
                                            student.ops)
                   for batch in batches]
        kinds[kind] = lessons
        tokens += sum(batch.tokens.size for batch in batches)
        loads += [lesson.expert_loads for lesson in lessons if len(lesson.expert_loads)]
        soft += [lesson.distill_loss for lesson in lessons if lesson.distill_loss is not None]
        for path, g in mean_gradients([dict(named_arrays(lesson.gradients)) for lesson in lessons]).items():
            gradients[path] = gradients[path] + g if path in gradients else g
    norm = student.apply_gradients(gradients, step)
    row = {"step": step, "rate": lr_schedule(recipe, step) * recipe.lr, "norm": norm}
    row |= collect_metrics(kinds, loads, soft)
    if not all(math.isfinite(value) for value in row.values()):
        raise FloatingPointError(f"the loss or its gradient is no number any more at step {step}: try a lower rate; "
                                 "the last checkpoint is from before")
    return row, tokens


def collect_metrics(kinds, loads, soft):
    """What the lessons of a step came to."""
    row = {}
    for kind, lessons in kinds.items():
        for name, *pairs in zip(METRIC_NAMES[kind], *(zip(a.losses, a.accuracy, strict=True) for a in lessons),
                                strict=False):
            row[name], row[f"{name}_right"] = (float(np.mean(values)) for values in zip(*pairs, strict=True))
    if loads:
        spread = np.mean(loads, axis=0)
        row |= {"least_load": float(spread.min()), "most_load": float(spread.max())}
    if soft:
        row["soft"] = float(np.mean(soft))
    return row
