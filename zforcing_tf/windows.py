"""Long sequences in windows of time, so that memory does not grow with samples times steps.

What there is once for each sequence may be as long as it is: the data, and what networks see of it
before the loop, from its end too. What there is of each sample at each step (noise, latents,
features, parameters of the emission) exists for one window at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from zforcing_tf.unroll import Structure

ROW_STEPS = 8192
"""Steps of a window times rows: enough of them for large matrix products."""
FEWEST_STEPS = 16
"""Of a window, however many rows: each window costs a little."""


def steps_at_once(num_rows: tf.Tensor) -> tf.Tensor:
    """Steps of a window over so many rows (samples of all sequences), scalar int32."""
    return tf.maximum(FEWEST_STEPS, ROW_STEPS // tf.maximum(num_rows, 1))


def over_windows(
    explain: Callable[[Structure, tf.Tensor, tf.Tensor], tuple[Structure, Structure]],
    carried: Structure,
    num_steps: tf.Tensor,
    num_rows: tf.Tensor,
    output_specs: Structure = (),
) -> tuple[Structure, Structure]:
    """Goes over time in windows; the last may be shorter. Takes no gradient.

    Args:
        explain: `explain(carried, first, end) -> carried, outputs`, of the steps from `first` to
            before `end`, which gives outputs [end - first, ...].
        carried: structure of tensors before the first window.
        num_steps: T >= 1, scalar int32.
        num_rows: rows of what `explain` makes of each step.
        output_specs: structure of `tf.TensorSpec`s, one for each output, [T, ...].

    Returns:
        What is carried after the last window, and the outputs of all, structure of [T, ...].
    """
    window = steps_at_once(num_rows)
    collected = [
        tf.TensorArray(
            spec.dtype, size=0, dynamic_size=True, infer_shape=False, element_shape=spec.shape
        )
        for spec in tf.nest.flatten(output_specs)
    ]

    def body(i: tf.Tensor, carried: Structure, collected: list[Any]) -> tuple[Any, ...]:
        first = i * window
        carried, outputs = explain(carried, first, tf.minimum(first + window, num_steps))
        outputs = tf.nest.flatten(outputs)
        return i + 1, carried, [a.write(i, v) for a, v in zip(collected, outputs, strict=True)]

    _, carried, collected = tf.while_loop(
        cond=lambda i, *_: i * window < num_steps,
        body=body,
        loop_vars=(tf.constant(0), carried, collected),
        shape_invariants=(
            tf.TensorShape([]),
            tf.nest.map_structure(lambda v: tf.TensorShape([None] * v.shape.rank), carried),
            [tf.TensorShape(None)] * len(collected),
        ),
        parallel_iterations=1,  # or the noise of many windows would be there at once
    )
    outputs = tf.nest.pack_sequence_as(output_specs, [array.concat() for array in collected])
    return carried, outputs


def cut(structure: Structure, first: tf.Tensor, end: tf.Tensor) -> Structure:
    """Steps from `first` to before `end` of tensors [T, ...]."""
    return tf.nest.map_structure(lambda v: v[first:end], structure)
