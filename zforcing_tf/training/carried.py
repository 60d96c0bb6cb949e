"""Truncated back-propagation: a batch goes on where the one before it ended.

Row i of a batch continues row i of the last one, from the state that was left there, through which
no gradient goes; or it begins a sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.unroll import Structure


class Start(NamedTuple):
    """Where the rows of a batch begin."""

    before: tf.Tensor
    """The frame before the first one, [B, ...]; where there is none, what `Emission.first_input`
    gives."""
    is_data: tf.Tensor
    """[B] bool: whether `before` is a frame of the data."""
    state: Structure
    """After that frame, [B, .]."""
    encoder_state: Structure
    """Likewise, of an encoder that runs forward; () where none does."""


class CarriedState:
    """What a batch leaves for the next one.

    Args:
        model: gets the variables, which are neither trained nor part of what is exported.
        cell: of the model.
        num_rows: B of all batches.
    """

    def __init__(self, model: keras.Model, cell: LatentCell, num_rows: int) -> None:
        self._initial = (cell.initial_state(1), cell.initial_encoder_state(1))
        self.variables = [
            model.add_weight(
                name=f"carried_{i}",
                shape=(num_rows, value.shape[-1]),
                dtype=value.dtype.name,
                initializer="zeros",
                trainable=False,
            )
            for i, value in enumerate(tf.nest.flatten(self._initial))
        ]
        for variable in self.variables:  # checkpoints have what is an attribute of the model
            setattr(model, variable.name, variable)

    def start(self, first_input: tf.Tensor, batch: dict[str, tf.Tensor]) -> Start:
        """From a batch with "before", "begins" and "before_is_data" besides (`data.streams`)."""
        keeps = tf.logical_not(batch["begins"])[:, tf.newaxis]
        values = [tf.where(keeps, v.value, tf.zeros_like(v.value)) for v in self.variables]
        state, encoder_state = tf.nest.pack_sequence_as(self._initial, values)
        is_data = batch["before_is_data"]
        known = tf.reshape(is_data, [-1] + [1] * (first_input.shape.rank - 1))
        before = tf.where(known, tf.cast(batch["before"], first_input.dtype), first_input)
        return Start(before, is_data, state, encoder_state)

    def keep(self, after: tuple[Any, Any]) -> None:
        """State and encoder state after a batch, for the next one.

        What is not finite would stay so for the rest of a sequence: it goes on from zero.
        """
        for variable, value in zip(self.variables, tf.nest.flatten(after), strict=True):
            finite = tf.math.is_finite(value)
            variable.assign(tf.where(finite, value, tf.zeros_like(value)))
