"""The loss of one batch of tokens and images, and its gradient with respect to every weight."""
from typing import Any, NamedTuple

import numpy as np

from tinyscout import reference
from tinyscout.nn.text_backward import expert_loads, text_activations, text_model_backward
from tinyscout.nn.vision import project_to_text
from tinyscout.nn.vision_backward import vision_activations, vision_model_backward
from tinyscout.nn.weights import Scout


class Batch(NamedTuple):
    """Rows of tokens, the target of each token, and the images among them."""

    tokens: Any                 # (B, T) int64
    targets: Any                # (B, T) int64, negative if the token has no target
    tiles: Any = None           # (tiles, C, h, w) float32 in the order of their patch tokens, row by row; or None
    aux_targets: Any = None     # (B, T) like targets, or None; their loss has a separate mean, so that rare ones count


class Activations(NamedTuple):
    """Activations that the forward pass saves for the backward pass."""

    x: Any                      # (B*T, D) embedded tokens, before image features replace those of the patch tokens
    is_image_token: Any         # (B*T,) bool
    vision_activations: list    # L + 1 arrays, inputs and result of the vision encoder's layers; empty without images
    image_features: Any         # (tiles * tokens_per_tile, A) before the projector; None without images
    text_activations: list      # 2 L + 1 arrays, inputs and result of the text model's half layers
    target_rows: Any            # (n,) int: the rows of B*T that have a target
    targets: list               # the targets of these rows, (n,) int, and their aux_targets if any
    hidden: Any                 # (n, D) input of the output matrix
    logits: Any                 # (n, V)


def forward(batch, w, config, ops=reference):
    """Forward pass of a batch, with logits only for the tokens that have a target.

    batch Batch, w Scout, config ScoutConfig  ->  Activations.  Raises ValueError if the numbers of image features and
    patch tokens differ, or if the batch is without targets.
    """
    tokens = batch.tokens.reshape(-1)
    is_image_token, vision, features = tokens == config.patch_id, [], None
    x = ops.embed(ops.asarray(tokens), w.text.embedding, w.text.embedding.dtype)
    fused = x
    if batch.tiles is not None and config.vision is not None:
        tiles = ops.asarray(batch.tiles.astype(x.dtype, copy=False))
        vision = vision_activations(tiles, w.vision, config.vision, ops)
        features = project_to_text(vision[-1], w.vision, config.vision, ops)
        features = features.reshape(-1, features.shape[-1])
        if len(features) != is_image_token.sum():
            raise ValueError(f"the batch has {is_image_token.sum()} patch tokens, but its tiles need {len(features)}")
        fused = ops.fuse(x, ops.asarray(is_image_token), ops.linear(features, w.w_projector))
    text = text_activations(fused.reshape(*batch.tokens.shape, -1), w.text, config.text, ops)
    target_rows, targets = select_targets(batch)
    last = text[-1].reshape(-1, x.shape[-1])[ops.asarray(target_rows)]
    hidden = ops.rms_norm(last, w.text.norm, config.text.norm_eps)
    logits = ops.linear(hidden, w.text.output)
    return Activations(x, is_image_token, vision, features, text, target_rows, targets, hidden, logits)


def select_targets(batch):
    """The rows that have a target, and their targets  ->  (n,) int, list of (n,) int.  Raises ValueError for none."""
    targets = [g.reshape(-1) for g in (batch.targets, batch.aux_targets) if g is not None and (g >= 0).any()]
    if not targets:
        raise ValueError("nothing to learn: the batch is without targets")
    target_rows = np.flatnonzero(np.max(targets, axis=0) >= 0)
    return target_rows, [g[target_rows] for g in targets]


def backward(d_logits, activations, batch, w, config, aux_loss_coef=0.0, ops=reference):
    """Backward pass: the gradient of every weight from that of the logits, equation (scout-backward).

    d_logits (n, V), activations from `forward`, aux_loss_coef float: the factor of each layer's `load_balance` in the
    loss  ->  Scout of gradients; None for a tied output matrix, whose gradient is part of the embedding's
    """
    tokens, vision, d_projector = batch.tokens.reshape(-1), None, None
    d_hidden, d_output, _ = ops.linear_backward(d_logits, activations.hidden, w.text.output)
    dy = np.zeros_like(activations.x)
    dy[ops.asarray(activations.target_rows)] = d_hidden
    dy = dy.reshape(activations.text_activations[-1].shape)
    dx, text = text_model_backward(dy, activations.text_activations, w.text, config.text, aux_loss_coef, ops)
    dx = dx.reshape(activations.x.shape)
    if activations.vision_activations:
        is_image_token = ops.asarray(activations.is_image_token)
        like_features = dx[is_image_token]              # only its shape matters
        dx, d_features = ops.fuse_backward(dx, activations.x, is_image_token, like_features)
        d_image_features, d_projector, _ = ops.linear_backward(d_features, activations.image_features, w.w_projector)
        tiles = ops.asarray(batch.tiles.astype(dx.dtype, copy=False))
        d_image_features = d_image_features.reshape(len(tiles), -1, d_image_features.shape[-1])
        vision = vision_model_backward(d_image_features, tiles, activations.vision_activations, w.vision,
                                       config.vision, ops)
    d_embedding = ops.embed_backward(dx, ops.asarray(tokens), w.text.embedding)
    if config.text.tie_embeddings:
        d_embedding, d_output = d_embedding + d_output.T, None
    return Scout(text._replace(embedding=d_embedding, output=d_output), vision, d_projector)


def evaluate_loss(batch, w, config, ops=reference):
    """The cross-entropy of a batch's targets, and of its aux_targets if any, in nats per token.

    Arguments as in `forward`  ->  list of float
    """
    activations = forward(batch, w, config, ops)
    return [ops.cross_entropy(activations.logits, ops.asarray(t)) for t in activations.targets]


class BatchResult(NamedTuple):
    """The losses of one batch, and the gradient of the weighted sum that is minimized."""

    losses: list                    # nats per token: of the targets, and of the aux_targets if any
    accuracies: list                # share of each for which the most likely token is the target
    distill_loss: float | None      # nats per token against the teacher's distribution; None without a teacher
    gradients: Scout
    expert_loads: Any               # (layers with experts, E): each expert's share of the tokens


def loss_and_grad(batch, w, config, aux_loss_coef=0.0, teacher=None, distill_weight=0.0, ops=reference):
    """The loss of a batch and its gradient: (1 - distill_weight) * the targets' + distill_weight * the teacher's.

    batch Batch, w Scout, config ScoutConfig, aux_loss_coef float as in `backward`, teacher None or (weights, config)
    of a model with the same vocabulary, distill_weight float from 0 to 1  ->  BatchResult.  Equation (distillation).
    """
    activations = forward(batch, w, config, ops)
    logits, targets, distill_loss = activations.logits, [ops.asarray(t) for t in activations.targets], None
    d_logits = sum(ops.cross_entropy_backward(1.0 - distill_weight, logits, t) for t in targets)
    if teacher is not None:
        teacher_weights, teacher_config = teacher
        teacher_logits = forward(batch, teacher_weights, teacher_config, ops).logits
        distill_loss = ops.soft_cross_entropy(logits, teacher_logits)
        d_logits = d_logits + ops.soft_cross_entropy_backward(distill_weight, logits, teacher_logits)
    gradients = backward(d_logits, activations, batch, w, config, aux_loss_coef, ops)
    predicted = ops.asnumpy(logits.argmax(-1))
    accuracies = [float((predicted == t).sum() / (t >= 0).sum()) for t in activations.targets]
    losses = [ops.cross_entropy(logits, t) for t in targets]
    loads = expert_loads(activations.text_activations, w.text, config.text, ops)
    return BatchResult(losses, accuracies, distill_loss, gradients, loads)
