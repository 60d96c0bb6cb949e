"""A long sequence frame by frame: the client keeps the state, and sends it back with each frame.

| signature       | inputs                                | outputs                                |
| --------------- | ------------------------------------- | -------------------------------------- |
| `initial_state` | session [B] int64, any numbers        | `state_*` [B, .]                       |
| `step`          | x [B,D], seed [B,2], temperature [B], | log_prob [B] nats, of x given what     |
|                 | `state_*`                             | came before; x_mean, x_sample [B,D] of |
|                 |                                       | the next frame; `state_*`              |

`state_step` counts the frames of each row, so a row may begin while others are in their midst, and
the same seed is sent at each step. `state_model` tells the states of one model from those of
another. See `zforcing_tf.streaming` for what the numbers mean.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from zforcing_tf.distributions import widened
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.streaming import Stream, StreamState
from zforcing_tf.unroll import Structure

from . import checks
from .endpoint import Endpoint, Outputs

STEP, MODEL = "state_step", "state_model"


def endpoints(model: SequenceModel) -> dict[str, Endpoint]:
    """`initial_state` and `step` of a model."""
    form = Form(model)
    stream, family = Stream(model), model.emission.family

    def initial_state(session: tf.Tensor) -> Outputs:
        rows = checks.sessions(session)
        return form.named(stream.initial_state(rows))

    def step(x: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor, **named: tf.Tensor) -> Outputs:
        x, seed, temperature = checks.frames(family, x, seed, temperature)
        named = checks.state(named, form.widths, tf.shape(x)[0], form.fingerprint)
        after, seen = stream.step(form.state(named), x, seed, temperature)
        answers = {"log_prob": seen.log_prob, "x_mean": seen.mean, "x_sample": seen.sample}
        return {**answers, **form.named(after)}

    frame = () if family.symbols else (family.frame_size,)
    specs = (
        tf.TensorSpec((None, *frame), model.frame_dtype, name="x"),
        tf.TensorSpec((None, 2), tf.int32, name="seed"),
        tf.TensorSpec((None,), tf.float32, name="temperature"),
        *form.specs,
    )
    session = tf.TensorSpec((None,), tf.int64, name="session")
    return {"initial_state": Endpoint(initial_state, (session,)), "step": Endpoint(step, specs)}


def fingerprint(model: SequenceModel) -> int:
    """A number of 63 bits that the weights decide."""
    digest = hashlib.sha256()
    for part in (model.cell, model.emission):
        for variable in part.variables:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return int.from_bytes(digest.digest()[:8], "big") >> 1


class Form:
    """The state of a stream as tensors with names, each [B, .], and back."""

    def __init__(self, model: SequenceModel) -> None:
        self._example = Stream(model).initial_state(1)
        self.fingerprint = fingerprint(model)
        self._names = [f"state_{name}" for name in _names(self._example)]
        leaves = dict(zip(self._names, tf.nest.flatten(self._example), strict=True))
        del leaves[STEP]
        self.widths = {name: tuple(leaf.shape[1:]) for name, leaf in leaves.items()}
        self.specs = (
            *(
                tf.TensorSpec((None, *leaf.shape[1:]), _wire(leaf.dtype), name=name)
                for name, leaf in leaves.items()
            ),
            tf.TensorSpec((None,), tf.int32, name=STEP),
            tf.TensorSpec((None,), tf.int64, name=MODEL),
        )

    def named(self, state: StreamState) -> Outputs:
        """A state as outputs."""
        leaves = dict(zip(self._names, tf.nest.flatten(state), strict=True))
        outputs = {name: widened(leaf) for name, leaf in leaves.items() if name != STEP}
        for name, width in self.widths.items():
            outputs[name] = tf.ensure_shape(outputs[name], (None, *width))
        rows = tf.shape(state.count)
        model = tf.fill(rows, tf.constant(self.fingerprint, tf.int64))
        return {**outputs, STEP: state.count, MODEL: model}

    def state(self, named: dict[str, tf.Tensor]) -> StreamState:
        """Inputs as a state."""
        leaves = [
            tf.cast(named[name], leaf.dtype)
            for name, leaf in zip(self._names, tf.nest.flatten(self._example), strict=True)
        ]
        packed: StreamState = tf.nest.pack_sequence_as(self._example, leaves)
        return packed


def _wire(dtype: tf.DType) -> tf.DType:
    """What a client sends for a tensor of the model: bfloat16 as float32."""
    return tf.float32 if dtype == tf.bfloat16 else dtype


def _names(state: StreamState) -> list[str]:
    """A name for each tensor, in the order of `tf.nest.flatten`."""
    renamed = {"count": "step", "skip": "x"}

    def below(structure: Structure, name: str) -> list[str]:
        if tf.is_tensor(structure):
            return [renamed.get(name, name)]
        fields: Any = getattr(structure, "_fields", None)
        fields = fields or [f"{name}{place}" for place in range(len(structure))]
        pairs = zip(fields, structure, strict=True)
        return [found for field, part in pairs for found in below(part, field)]

    names = below(state, "state")
    if len(set(names)) != len(names):
        raise ValueError(f"parts of the state share names: {names}")
    return names
