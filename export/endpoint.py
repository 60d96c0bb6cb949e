"""A signature before it is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

Outputs = dict[str, tf.Tensor]


class Endpoint(NamedTuple):
    """A graph function, and the named specs of its arguments in their order."""

    function: Callable[..., Outputs]
    inputs: tuple[tf.TensorSpec, ...]

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """The function traced, its arguments by name."""

        def by_name(*values: tf.Tensor) -> Outputs:
            names = (spec.name for spec in self.inputs)
            return self.function(**dict(zip(names, values, strict=True)))

        graph = tf.function(by_name, input_signature=self.inputs, autograph=False)
        return graph.get_concrete_function()
