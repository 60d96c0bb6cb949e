"""The one time loop, and the three steps that run in it.

They differ in two questions only: where the latent comes from, and the next frame.

| step       | latent from | frame from   | used by                                          |
| ---------- | ----------- | ------------ | ------------------------------------------------ |
| `infer`    | posterior   | data         | training, scoring, encoding, reconstruction      |
| `observe`  | prior       | data         | filtering a known prefix; streaming, call by call |
| `generate` | prior       | own emission | samples                                          |

A step is a pure function `step(weights, state, inputs) -> state, outputs`. Its matrices arrive in
`weights`, as `Product`s of tensors made before the loop, so that the gradient of the whole loop can
be written by hand (`loop_gradient.py`). `decoding.py` has a fourth, for latents that are given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tensorflow as tf

from zforcing_tf.products import flipped
from zforcing_tf.randomness import block_noise, row_blocks, row_noise

if TYPE_CHECKING:
    from zforcing_tf.cells.latent_cell import LatentCell
    from zforcing_tf.layers.emission import Emission

Structure = Any
"""A tensor, or a (named) tuple of structures."""
Training = bool | Literal["recompute"]
"""Whether a gradient will be asked for; "recompute": computing windows again (`recompute.py`)."""
Step = Callable[[Any, Any, Any], tuple[Any, Any]]
BLOCK = 16
"""Steps of generation that are compiled as one."""
COMPILED_FROM = 256
"""Steps from which on generation is compiled by default."""


class Inferred(NamedTuple):
    """What `infer` leaves for the objectives, each [., B] in the loop and [T, B, .] after it."""

    latent: tf.Tensor
    posterior_loc: tf.Tensor
    posterior_scale: tf.Tensor
    features: tf.Tensor
    past: Structure
    """What the prior of the same step sees (`LatentCell.past`)."""


class Observed(NamedTuple):
    """What `observe` gives, each [., B] in the loop and [T, B, .] after it."""

    latent: tf.Tensor
    features: tf.Tensor


class Generated(NamedTuple):
    """What `generate` gives, each [B, .] in the loop and [T, B, .] after it."""

    latent: tf.Tensor
    features: tf.Tensor
    parameters: tf.Tensor
    """Emission parameters, float32 at least."""
    x: tf.Tensor
    """The frame drawn: [B, D], or [B] int32 for symbols."""


def unroll(
    step: Step,
    weights: Structure,
    state: Structure,
    inputs: Structure,
    output_dtypes: Structure,
    *,
    reverse: bool = False,
    training: Training = False,
) -> tuple[Structure, Structure]:
    """Runs a step over time.

    Args:
        step: `step(weights, state, inputs[t]) -> state, outputs[t]`.
        weights: structure of `Product`s that all steps share.
        state: structure of tensors before the first step.
        inputs: structure of tensors [T, ...]; T >= 1 may be unknown until run time.
        output_dtypes: structure of dtypes, one for each output of the step.
        reverse: whether time runs from T-1 down to 0. Outputs keep the order of the inputs.
        training: whether the gradient will be asked for. It is then that of `loop_gradient`:
            several times faster, for more memory in the forward pass.

    Returns:
        The state after the last step, and the outputs, structure of [T, ...].
    """
    if training:
        from zforcing_tf.loop_gradient import unroll_with_gradient

        return unroll_with_gradient(step, weights, state, inputs, output_dtypes, reverse=reverse)
    return loop(functools.partial(step, weights), state, inputs, output_dtypes, reverse)


def loop(
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Structure,
    inputs: Structure,
    output_dtypes: Structure,
    reverse: bool,
    parallel_iterations: int = 10,
) -> tuple[Structure, Structure]:
    """The loop itself; arguments as of `unroll`, with the weights in the step.

    Outside of XLA so many iterations may run at a time, as far as one does not wait for another.
    """
    flat_inputs = tf.nest.flatten(inputs)
    static_steps = flat_inputs[0].shape[0]
    num_steps = static_steps if static_steps is not None else tf.shape(flat_inputs[0])[0]
    # A TensorArray is read in constant time; indexing `inputs[t]` costs its gradient a whole [T, B,
    # .] per step.
    arrays = [
        tf.TensorArray(x.dtype, size=num_steps, element_shape=x.shape[1:]).unstack(x)
        for x in flat_inputs
    ]
    collected = [tf.TensorArray(dtype, size=num_steps) for dtype in tf.nest.flatten(output_dtypes)]

    def body(i: tf.Tensor, state: Structure, collected: list[Any]) -> tuple[Any, ...]:
        t = num_steps - 1 - i if reverse else i
        inputs_t = tf.nest.pack_sequence_as(inputs, [array.read(t) for array in arrays])
        state, outputs = step(state, inputs_t)
        flat_outputs = tf.nest.flatten(outputs)
        collected = [a.write(t, v) for a, v in zip(collected, flat_outputs, strict=True)]
        return i + 1, state, collected

    _, state, collected = tf.while_loop(
        cond=lambda i, *_: i < num_steps,
        body=body,
        loop_vars=(tf.constant(0), state, collected),
        shape_invariants=(
            tf.TensorShape([]),
            tf.nest.map_structure(lambda v: tf.TensorShape([None] * v.shape.rank), state),
            [tf.TensorShape(None)] * len(collected),
        ),
        parallel_iterations=parallel_iterations,
        maximum_iterations=num_steps,  # without it XLA cannot differentiate the loop
    )
    outputs = tf.nest.pack_sequence_as(output_dtypes, [array.stack() for array in collected])
    return state, outputs


def infer(
    cell: LatentCell,
    state: Structure,
    given: Structure,
    context: Structure,
    noise: tf.Tensor,
    training: Training = False,
    particles: int = 1,
    ancestors: tf.Tensor | None = None,
    going_on: tf.Tensor | None = None,
) -> tuple[Structure, Inferred]:
    """Latents from the posterior, frames from the data: `z[t] = loc_q + scale_q * noise[t]`.

    Args:
        cell: the model.
        state: before the first step, of each particle.
        given: `cell.given(ahead, x)`, structure of [T, B, .].
        context: `cell.context(ahead, y, mask).posterior`, structure of [T, B, .].
        noise: standard normal, [T, B K, Z].
        training: see `unroll`.
        particles: K, samples of each sequence; row b K + k is the k-th of sequence b.
        ancestors: [T, B K] int32, the row of the step before that each row goes on from; None:
            itself.
        going_on: [T, B K] bool, rows that have not ended: the others keep their state. None: all.

    Returns:
        The final state, and all that depends on the recurrence, [T, B K, .].
    """

    def step(weights: Structure, state: Structure, now: Any) -> tuple[Structure, Inferred]:
        given, context, noise, ancestor, still = now
        given, context = repeated((given, context), particles)
        state = before = state if ancestors is None else gathered(state, ancestor[0])
        conditioning = cell.condition(weights, state, given)
        loc, scale = cell.posterior(weights, conditioning, context)
        latent = loc + scale * noise
        state, features = cell.advance(weights, conditioning, latent)
        if going_on is not None:
            state = tf.nest.map_structure(lambda v, old: tf.where(still, v, old), state, before)
        return state, Inferred(latent, loc, scale, features, cell.past(conditioning))

    dtype = noise.dtype
    past = tf.nest.map_structure(lambda _: dtype, cell.past_structure)
    dtypes = Inferred(dtype, dtype, dtype, dtype, past)
    rows = (v if v is None else v[:, tf.newaxis] for v in (ancestors, going_on))
    inputs = (*flipped((given, context, noise)), *(() if v is None else v for v in rows))
    weights = cell.loop_weights("posterior")
    return flipped(unroll(step, weights, flipped(state), inputs, dtypes, training=training))


def repeated(structure: Structure, samples: int | tf.Tensor, axis: int = -1) -> Structure:
    """Tensors with B entries along an axis as ones with B K, each K times.

    By default columns of what is feature-major, [F, B].
    """
    if isinstance(samples, int) and samples == 1:
        return structure
    return tf.nest.map_structure(lambda x: tf.repeat(x, samples, axis=axis), structure)


def gathered(structure: Structure, ancestors: tf.Tensor) -> Structure:
    """Columns of feature-major [F, B K] by their numbers [B K]."""
    return tf.nest.map_structure(lambda x: tf.gather(x, ancestors, axis=-1), structure)


def observe(
    cell: LatentCell, state: Structure, drive: tf.Tensor, noise: tf.Tensor
) -> tuple[Structure, Observed]:
    """Latents from the prior, frames from the data: filters what is known so far.

    Args:
        cell: the model.
        state: before the first step.
        drive: `cell.drive(x)`, [T, B, G].
        noise: standard normal, [T, B, Z].

    Returns:
        The final state; latents and features, [T, B, .].
    """

    def step(weights: Structure, state: Structure, now: Any) -> tuple[Structure, Observed]:
        return _prior_step(cell, weights, state, *now)

    dtypes = Observed(noise.dtype, noise.dtype)
    inputs = flipped((drive, noise))
    return flipped(unroll(step, cell.loop_weights("prior"), flipped(state), inputs, dtypes))


def prior_step(
    cell: LatentCell,
    state: Structure,
    drive: tf.Tensor,
    noise: tf.Tensor,
    weights: Structure = None,
) -> tuple[Structure, Observed]:
    """One step of `observe`, without the loop: the streaming step. Arguments are [B, .].

    With few rows most of its time goes into `weights`, unless `cell.loop_weights("prior")` is made
    once for many steps.
    """
    weights = cell.loop_weights("prior") if weights is None else weights
    state, drive, noise = flipped((state, drive, noise))
    return flipped(_prior_step(cell, weights, state, drive, noise))


def _prior_step(
    cell: LatentCell, weights: Structure, state: Structure, drive: tf.Tensor, noise: tf.Tensor
) -> tuple[Structure, Observed]:
    conditioning = cell.condition(weights, state, drive)
    loc, scale = cell.prior_in_loop(weights, conditioning)
    latent = loc + scale * noise
    state, features = cell.advance(weights, conditioning, latent)
    return state, Observed(latent, features)


def generate(
    cell: LatentCell,
    emission: Emission,
    state: Structure,
    x: tf.Tensor,
    noise: tf.Tensor,
    temperature: tf.Tensor,
) -> tuple[Structure, Generated]:
    """Latents from the prior, frames from the model's own emission.

    Args are those of `frames`, and the noise: standard normal, [T, B, Z + emission.noise_size].

    Returns the final (state, x), to go on from, and what was generated, [T, B, .].
    """
    dtype = tf.as_dtype(cell.compute_dtype)
    dtypes = Generated(dtype, dtype, noise.dtype, x.dtype)
    step, weights = _generation(cell, emission, temperature), cell.loop_weights("prior")
    (state, x), generated = unroll(step, weights, (flipped(state), x), noise, dtypes)
    return (flipped(state), x), generated


def frames(
    cell: LatentCell,
    emission: Emission,
    state: Structure,
    x: tf.Tensor,
    seeds: tf.Tensor,
    num_steps: tf.Tensor,
    temperature: tf.Tensor,
    compiled: bool = False,
) -> tf.Tensor:
    """What `generate` draws with the `row_noise` of seeds, [T, B, D] or [T, B] int32.

    Args:
        cell: the model.
        emission: draws the next frame.
        state: before the first step.
        x: the input of the first step, [B, D] or [B] int32.
        seeds: of the rows, [B, 2] int32.
        num_steps: T, scalar int32.
        temperature: [B, 2] or [B, 1]; scales latents' deviation, and the emission's randomness. Its
            dtype is that of the noise.
        compiled: whether XLA compiles `BLOCK` steps at a time: once for each B, whatever T is.
    """
    width = cell.latent_size + emission.noise_size
    step, weights = _generation(cell, emission, temperature), cell.loop_weights("prior")

    def run(_: Any, now: Structure, noise: tf.Tensor) -> tuple[Structure, tf.Tensor]:
        def only_x(weights: Any, now: Structure, noise: tf.Tensor) -> tuple[Structure, tf.Tensor]:
            now, generated = step(weights, now, noise)
            return now, generated.x

        return unroll(only_x, weights, now, noise, x.dtype)

    first = (flipped(state), x)
    if not compiled:
        noise = tf.cast(row_noise(seeds, num_steps, width), temperature.dtype)
        return run((), first, noise)[1]

    @functools.partial(tf.function, autograph=False, jit_compile=True)
    def block(_: Any, now: Structure, bits: tf.Tensor) -> tuple[Structure, tf.Tensor]:
        return run((), now, tf.cast(block_noise(bits, width), temperature.dtype))

    blocks = -(-num_steps // BLOCK)
    bits = row_blocks(seeds, blocks, BLOCK * width)
    _, drawn = unroll(block, (), first, bits, x.dtype)
    return tf.reshape(drawn, tf.concat([[blocks * BLOCK], tf.shape(x)], 0))[:num_steps]


def _generation(cell: LatentCell, emission: Emission, temperature: tf.Tensor) -> Step:
    # What is made in the loop is made at each step; no gradient is asked for.
    drive, emit, sample = cell.driver(), emission.emitter(cell), emission.sampler()
    of_latent, of_frame = temperature[:, :1], temperature[:, -1:]

    def step(weights: Structure, now: Structure, noise: tf.Tensor) -> tuple[Structure, Generated]:
        state, x = now
        latent_noise, frame_noise = tf.split(noise, [cell.latent_size, -1], axis=-1)
        latent_noise = flipped(tf.cast(of_latent * latent_noise, cell.compute_dtype))
        state, seen = _prior_step(cell, weights, state, drive(x), latent_noise)
        parameters = emit(seen.features, x)
        x = sample(parameters, frame_noise, of_frame)
        latent, features = flipped((seen.latent, seen.features))
        return (state, x), Generated(latent, features, parameters, x)

    return step
