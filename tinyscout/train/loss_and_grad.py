"""One step's arithmetic: a batch of tokens and pictures to its loss, and to the gradient of every weight."""
from typing import Any, NamedTuple

import numpy as np

from tinyscout import reference
from tinyscout.nn.text_backward import expert_loads, text_activations, text_model_backward
from tinyscout.nn.vision import project_to_text, vision_activations
from tinyscout.nn.vision_backward import vision_model_backward
from tinyscout.nn.weights import Scout


class Batch(NamedTuple):
    """Rows of tokens, what should follow each, and the pictures among them."""

    tokens: Any             # (B, T) int64
    targets: Any            # (B, T) int64, negative where there is nothing to learn
    tiles: Any = None       # (tiles, C, h, w) float32 in the order of their patch tokens, row by row; None without
    aux_targets: Any = None     # (B, T) as targets, with a mean of their own, so that few count as much as many; or None


class Activations(NamedTuple):
    """What the way forward leaves for the way back."""

    x: Any                  # (B*T, D) embedded tokens, before pictures took their places
    is_image_token: Any             # (B*T,) bool: where a picture's vectors stand
    vision_activations: list              # what each layer of the vision tower was given, and made; empty without pictures
    image_features: Any               # (tiles * tokens_per_tile, A) what the tower tells of them
    text_activations: list            # what each half layer of the text model was given, and made
    target_rows: Any              # (n,) int: the rows whose targets count
    targets: list             # the targets of these rows, (n,) int, and the answers where there are any
    hidden: Any             # (n, D) what the output matrix is given
    logits: Any             # (n, V)


def forward(batch, w, config, ops=reference):
    """A batch to the scores at those tokens whose targets count.

    batch Batch, w Scout, config ScoutConfig  ->  Passed.  Raises ValueError where pictures and patch tokens differ in
    number, or nothing is to be learned.
    """
    tokens = batch.tokens.reshape(-1)
    places, seen, read = tokens == config.patch_id, [], None
    x = ops.embed(ops.asarray(tokens), w.text.embedding, w.text.embedding.dtype)
    fused = x
    if batch.tiles is not None and config.vision is not None:
        seen = list(vision_activations(ops.asarray(batch.tiles.astype(x.dtype, copy=False)), w.vision, config.vision,
                                       ops))
        read = project_to_text(seen[-1], w.vision, config.vision, ops)
        read = read.reshape(-1, read.shape[-1])
        if len(read) != places.sum():
            raise ValueError(f"{places.sum()} patch tokens in the batch, but its tiles make {len(read)}")
        fused = ops.fuse(x, ops.asarray(places), ops.linear(read, w.w_projector))
    states = text_activations(fused.reshape(*batch.tokens.shape, -1), w.text, config.text, ops)
    learn, goals = select_targets(batch)
    last = states[-1].reshape(-1, x.shape[-1])[ops.asarray(learn)]
    hidden = ops.rms_norm(last, w.text.norm, config.text.norm_eps)
    return Activations(x, places, seen, read, states, learn, goals, hidden, ops.linear(hidden, w.text.output))


def select_targets(batch):
    """Which rows teach anything, and what: (n,) int, list of (n,) int.  Raises ValueError where none does."""
    goals = [g.reshape(-1) for g in (batch.targets, batch.aux_targets) if g is not None and (g >= 0).any()]
    if not goals:
        raise ValueError("nothing to learn: no target in the batch counts")
    learn = np.flatnonzero(np.max(goals, axis=0) >= 0)
    return learn, [g[learn] for g in goals]


def backward(d_logits, passed, batch, w, config, aux_loss_coef=0.0, ops=reference):
    """From the gradient of the scores to that of every weight, equation (scout-backward).

    d_logits (n, V), passed as from `forward`, balance float: what the loss counts `load_balance` of each layer with
    ->  Scout of gradients; a tied output matrix has None, its gradient is part of the embedding's
    """
    tokens, vision, d_projector = batch.tokens.reshape(-1), None, None
    d_hidden, d_output, _ = ops.linear_backward(d_logits, passed.hidden, w.text.output)
    dy = np.zeros_like(passed.x)
    dy[ops.asarray(passed.target_rows)] = d_hidden
    dy = dy.reshape(passed.text_activations[-1].shape)
    dx, text = text_model_backward(dy, passed.text_activations, w.text, config.text, aux_loss_coef, ops)
    dx = dx.reshape(passed.x.shape)
    if passed.vision_activations:
        places = ops.asarray(passed.is_image_token)
        dx, d_features = ops.fuse_backward(dx, passed.x, places, dx[places])    # of the last only the shape matters
        d_read, d_projector, _ = ops.linear_backward(d_features, passed.image_features, w.w_projector)
        tiles = ops.asarray(batch.tiles.astype(dx.dtype, copy=False))
        d_read = d_read.reshape(len(tiles), -1, d_read.shape[-1])
        vision = vision_model_backward(d_read, tiles, passed.vision_activations, w.vision, config.vision, ops)
    d_embedding = ops.embed_backward(dx, ops.asarray(tokens), w.text.embedding)
    if config.text.tie_embeddings:
        d_embedding, d_output = d_embedding + d_output.T, None
    return Scout(text._replace(embedding=d_embedding, output=d_output), vision, d_projector)


def evaluate_loss(batch, w, config, ops=reference):
    """How surprised the model is by a batch's targets, and by its answers where there are any, in nats a token.

    Arguments as in `forward`  ->  list of float
    """
    passed = forward(batch, w, config, ops)
    return [ops.cross_entropy(passed.logits, ops.asarray(goal)) for goal in passed.targets]


class StepResult(NamedTuple):
    """What one batch taught."""

    losses: list            # nats a token: of the targets, and of the answers where there are any
    accuracy: list             # part of each that scored highest
    distill_loss: float | None      # nats a token against a teacher's opinion; None without a teacher
    gradients: Scout        # of the sum of the losses
    expert_loads: Any              # (layers with experts, E): each expert's part of the tokens


def loss_and_grad(batch, w, config, aux_loss_coef=0.0, teacher=None, distill_weight=0.0, ops=reference):
    """The loss of a batch and its gradient: (1 - trust) of the tokens that came, and trust of the teacher's opinion.

    batch Batch, w Scout, config ScoutConfig, balance float as in `backward`, teacher None or (weights, config) of a
    model with the same tokens, trust float from 0 to 1  ->  Lesson.  Equation (distillation).
    """
    passed = forward(batch, w, config, ops)
    goals, soft = [ops.asarray(goal) for goal in passed.targets], None
    d_logits = sum(ops.cross_entropy_backward(1.0 - distill_weight, passed.logits, goal) for goal in goals)
    if teacher is not None:
        their_weights, their_config = teacher
        teacher_logits = forward(batch, their_weights, their_config, ops).logits
        soft = ops.soft_cross_entropy(passed.logits, teacher_logits)
        d_logits = d_logits + ops.soft_cross_entropy_backward(distill_weight, passed.logits, teacher_logits)
    gradients = backward(d_logits, passed, batch, w, config, aux_loss_coef, ops)
    best = ops.asnumpy(passed.logits.argmax(-1))
    right = [float((best == goal).sum() / (goal >= 0).sum()) for goal in passed.targets]
    surprise = [ops.cross_entropy(passed.logits, goal) for goal in goals]
    return StepResult(surprise, right, soft, gradients, expert_loads(passed.text_activations, w.text, config.text, ops))
