"""No non-finite update ever reaches a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor | float:
    """The factor that `optimizer.scale_loss` puts into gradients until they are applied."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.dynamic_scale.value
    return optimizer.loss_scale_factor or 1.0


def apply_if_finite(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
    finite: tf.Tensor,
) -> None:
    """Applies gradients, or leaves weights, moments and iterations alone.

    Args:
        optimizer: Keras optimizer, built.
        gradients: already summed over replicas, the same on each.
        variables: what they belong to.
        finite: scalar bool, the same on each replica.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync

    def apply(gradients: Sequence[tf.Tensor]) -> None:
        # `apply` sums over replicas once more.
        optimizer.apply([g / replicas for g in gradients], variables)

    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # It leaves all alone for itself where a gradient is not finite, and lowers its scale then,
        # without which nothing would ever be finite again.
        apply([tf.where(finite, g, tf.constant(math.nan, g.dtype)) for g in gradients])
        return

    mirrored = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not isinstance(context.strategy, mirrored):

        def update_one() -> bool:
            apply(gradients)
            return True

        tf.cond(finite, update_one, lambda: False)
        return

    def across(strategy: tf.distribute.Strategy, finite: Any, gradients: Any) -> Any:
        # A replica cannot branch around an update, which needs all replicas, be they one: branch
        # here, once for all.
        def update() -> bool:
            strategy.extended.call_for_each_replica(apply, args=(gradients,))
            return True

        return tf.cond(strategy.experimental_local_results(finite)[0], update, lambda: False)

    context.merge_call(across, args=(finite, list(gradients)))
