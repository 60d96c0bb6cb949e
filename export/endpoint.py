"""What signatures are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from zforcing_tf.data.spec import DataSpec
from zforcing_tf.distributions import widened
from zforcing_tf.sequence_model import SequenceModel

Outputs = dict[str, tf.Tensor]


class Wanted(NamedTuple):
    """Which signatures there are besides those of each model."""

    spec: DataSpec | None = None
    """Of the model's data: of text and sound there are some that take and give these."""
    lower_case: bool = True
    """Whether text was turned into lower case."""
    iwae_samples: int = 0
    """K of `score_iwae`; 0: there is none."""
    compiled: bool = False
    """Whether XLA compiles the signatures that go through sequences with one sample: a step alone
    takes longer to hand to it than to compute, and samples of `score_iwae` need windows of time."""

    def answers(self, model: SequenceModel) -> contextlib.AbstractContextManager[None]:
        """Within it the model answers as its SavedModel will."""
        return model.compiled_answers() if self.compiled else contextlib.nullcontext()


NOTHING_MORE = Wanted()


def latents(model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
    """Posterior and a sample of it, [B, T, Z] each; zero in padding."""
    found = model.encode(x, lengths, seed)
    named = {"latent_loc": found.loc, "latent_scale": found.scale, "latent": found.latent}
    shape = (None, None, model.cell.latent_size)
    return {name: tf.ensure_shape(widened(value), shape) for name, value in named.items()}


class Endpoint(NamedTuple):
    """Before it is traced: a graph function, and the named specs of its arguments, in order."""

    function: Callable[..., Outputs]
    inputs: tuple[tf.TensorSpec, ...]

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """The function traced, its arguments by name."""

        def by_name(*values: tf.Tensor) -> Outputs:
            names = (spec.name for spec in self.inputs)
            return self.function(**dict(zip(names, values, strict=True)))

        graph = tf.function(by_name, input_signature=self.inputs, autograph=False)
        return graph.get_concrete_function()
