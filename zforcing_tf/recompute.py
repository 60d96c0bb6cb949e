"""Training on long sequences: what is between the edges of windows is computed twice, not kept.

Without it memory grows with all that a step leaves for its gradient. With it only what is carried
from window to window is kept at their edges, beside what a window reads and gives; the backward
pass goes from the last window to the first, computes each again and differentiates it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.unroll import Structure, loop

WINDOW = 128
"""Steps of a window at most: enough for large matrix products, few enough to keep."""


def recomputed(
    function: Callable[[Structure, Structure], tuple[Structure, Structure]],
    layers: Sequence[keras.layers.Layer],
    carried: Structure,
    inputs: Structure,
    output_dtypes: Structure,
    *,
    reverse: bool = False,
) -> tuple[Structure, Structure]:
    """Goes over time in windows of equal length; the gradient computes each of them again.

    Args:
        function: `function(carried, inputs) -> carried, outputs` of a window, from inputs [W, ...]
            to outputs [W, ...]. The last window may end in steps whose inputs are all zero (false),
            which must change nothing that matters.
        layers: all whose weights it uses.
        carried: structure of tensors before the first window that it takes.
        inputs: structure of tensors [T, ...].
        output_dtypes: structure of dtypes, one for each output.
        reverse: whether windows are taken from the last to the first.

    Returns:
        What is carried after the last window that it takes; outputs, structure of [T, ...].
    """
    variables = _distinct(v for layer in layers for v in layer.trainable_variables)
    weights = [tf.convert_to_tensor(variable.value) for variable in variables]
    flat_inputs, flat_carried = tf.nest.flatten(inputs), tf.nest.flatten(carried)
    num_steps = tf.shape(flat_inputs[0])[0]
    num_windows = -(-num_steps // WINDOW)
    window = -(-num_steps // num_windows)
    in_windows = [_in_windows(x, num_windows, window) for x in flat_inputs]
    carries_gradient = [x.dtype.is_floating for x in flat_carried]
    has_gradient = [x.dtype.is_floating for x in in_windows]
    gives_gradient = [tf.as_dtype(d).is_floating for d in tf.nest.flatten(output_dtypes)]

    def run_window(weights: Any, now: Any, given: Any) -> tuple[list[Any], list[Any]]:
        mapping = list(zip(variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            after, outputs = function(
                tf.nest.pack_sequence_as(carried, now), tf.nest.pack_sequence_as(inputs, given)
            )
        return tf.nest.flatten(after), tf.nest.flatten(outputs)

    @tf.custom_gradient
    def run(*arguments: tf.Tensor) -> Any:
        own, first, given = _split(arguments, len(weights), len(flat_carried))

        def forward(now: Any, given: Any) -> tuple[Any, Any]:
            after, outputs = run_window(own, now, given)
            return after, (outputs, now)

        dtypes = (tf.nest.flatten(output_dtypes), [x.dtype for x in first])
        # One window at a time, or what several leave would be there at once.
        last, (outputs, edges) = loop(forward, first, given, dtypes, reverse, 1)

        def gradient(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
            def backward(summed: Any, now: Any) -> tuple[Any, Any]:
                d_weights, d_carried = summed
                edge, given, d_outputs = now
                varied = _chosen(given, has_gradient)
                sources = [own, _chosen(edge, carries_gradient)]
                with tf.GradientTape() as tape:
                    tape.watch([*sources, varied])
                    after, outputs = run_window(own, edge, given)
                after = _chosen(after, carries_gradient)
                outputs = _chosen(outputs, gives_gradient)
                d_own, d_edge, d_varied = tape.gradient(
                    after + outputs,
                    [*sources, varied],
                    output_gradients=d_carried + list(d_outputs),
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                d_own = [tf.convert_to_tensor(d) for d in d_own]  # a table's come as slices
                d_weights = [a + b for a, b in zip(d_weights, d_own, strict=True)]
                return (d_weights, d_edge), d_varied

            d_last = _chosen(upstream[: len(last)], carries_gradient)
            d_outputs = _chosen(upstream[len(last) :], gives_gradient)
            (d_weights, d_first), d_given = loop(
                backward,
                ([tf.zeros_like(w) for w in own], d_last),
                (edges, given, d_outputs),
                [x.dtype for x in _chosen(given, has_gradient)],
                not reverse,
                1,
            )
            return [
                *d_weights,
                *_with_nones(d_first, carries_gradient),
                *_with_nones(d_given, has_gradient),
            ]

        return [*last, *outputs], gradient

    results = run(*weights, *flat_carried, *in_windows)
    last, outputs = results[: len(flat_carried)], results[len(flat_carried) :]
    outputs = [_joined(x)[:num_steps] for x in outputs]
    return (
        tf.nest.pack_sequence_as(carried, last),
        tf.nest.pack_sequence_as(output_dtypes, outputs),
    )


def _distinct(variables: Any) -> list[keras.Variable]:
    return list({id(v): v for v in variables}.values())


def _in_windows(x: tf.Tensor, num_windows: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """[T, ...] as [num_windows, window, ...], zero behind its end."""
    shape = tf.shape(x)
    left = num_windows * window - shape[0]
    x = tf.concat([x, tf.zeros(tf.concat([[left], shape[1:]], 0), x.dtype)], 0)
    windows = tf.reshape(x, tf.concat([[num_windows, window], shape[1:]], 0))
    return tf.ensure_shape(windows, [None, None, *x.shape[1:]])


def _joined(x: tf.Tensor) -> tf.Tensor:
    """[S, W, ...] as [S W, ...]."""
    shape = tf.shape(x)
    joined = tf.reshape(x, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
    return tf.ensure_shape(joined, [None, *x.shape[2:]])


def _split(arguments: Sequence[tf.Tensor], first: int, second: int) -> tuple[Any, Any, Any]:
    both = first + second
    return list(arguments[:first]), list(arguments[first:both]), list(arguments[both:])


def _chosen(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    return [value for value, one in zip(values, chosen, strict=True) if one]


def _with_nones(gradients: Sequence[tf.Tensor], has: Sequence[bool]) -> list[tf.Tensor | None]:
    left = iter(gradients)
    return [next(left) if one else None for one in has]
