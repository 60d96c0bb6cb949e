"""The running mean of the weights in their place, for as long as it is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from zforcing_tf.sequence_model import SequenceModel


@contextlib.contextmanager
def averaged_weights(model: SequenceModel) -> Iterator[None]:
    """Within it a model has the means that its optimizer keeps, if it does (`--ema_momentum`)."""
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if not optimizer.use_ema or not int(optimizer.iterations.numpy()):  # then there is no mean yet
        yield
        return
    weights = model.trainable_variables
    trained = [weight.numpy() for weight in weights]
    for weight, mean in zip(weights, optimizer._model_variables_moving_average, strict=True):
        weight.assign(mean.numpy())
    try:
        yield
    finally:
        for weight, value in zip(weights, trained, strict=True):
            weight.assign(value)
