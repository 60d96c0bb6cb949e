"""A long sequence frame by frame: the state between calls is in the caller's hands.

    stream = Stream(model)
    state = stream.initial_state(rows)
    for x in frames:                                   # [B, D] each, or [B] symbols
        state, seen = stream.step(state, x, seeds, temperature)

`seen` predicts the frame after x, and says how probable x was. Latents come from the prior, given
all frames so far: nothing is known of the future, as nothing is when a stream is listened to.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from zforcing_tf import unroll
from zforcing_tf.randomness import noise_at
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.unroll import Structure


class StreamState(NamedTuple):
    """What a stream leaves for its next call; tensors [B, .]."""

    cell: Structure
    """Before the step that takes the next frame as its input."""
    features: tf.Tensor
    """What the emission sees of the next frame's past, [B, F]."""
    skip: Structure
    """The last frame, where the emission sees it; else ()."""
    count: tf.Tensor
    """Frames so far, [B] int32."""


class Seen(NamedTuple):
    """What a step says."""

    log_prob: tf.Tensor
    """[B] nats: log p(x | z, frames before), z one sample of the prior. Its expectation is below
    that of log p(x | frames before). 0 for a first frame that the model is given."""
    mean: tf.Tensor
    """Expected next frame, [B, D]; of symbols the probabilities [B, V]."""
    sample: tf.Tensor
    """The next frame as `SequenceModel.generate` draws it: [B, D], or [B] int32."""


class Stream:
    """The streaming step of a model.

    With the seed and the temperature of `SequenceModel.generate`, its first frame, and each sample
    as the next frame, the stream is what that generates.

    Args:
        model: trained.
    """

    def __init__(self, model: SequenceModel) -> None:
        self._cell, self._emission = model.cell, model.emission
        self._given = model.first_frame_given
        self._wide = tf.float64 if model.cell.compute_dtype == "float64" else tf.float32

    def initial_state(self, rows: int | tf.Tensor) -> StreamState:
        """Of so many streams that have not begun."""
        cell, emission = self._cell, self._emission
        dtype = tf.as_dtype(cell.compute_dtype)
        return StreamState(
            cell.initial_state(rows),
            tf.zeros((rows, cell.feature_size), dtype),
            emission.first_input(rows) if emission.skip_size else (),
            tf.zeros((rows,), tf.int32),
        )

    def step(
        self, state: StreamState, x: tf.Tensor, seeds: tf.Tensor, temperature: tf.Tensor
    ) -> tuple[StreamState, Seen]:
        """Takes the next frame of each stream.

        Args:
            state: before it.
            x: [B, D], or [B] int32.
            seeds: [B, 2] int32, the same at each step.
            temperature: [B] float; scales latents' deviation, and the sample's randomness.

        Returns:
            The state after it, and what it says.
        """
        cell, emission = self._cell, self._emission
        temperature = tf.cast(temperature, self._wide)[:, tf.newaxis]
        begins = tf.equal(state.count, 0)
        if not self._given:
            state = tf.cond(
                tf.reduce_any(begins),
                lambda: self._begun(state, begins, seeds, temperature),
                lambda: state,
            )
        before = emission.skip(cell, state.skip) if emission.skip_size else None
        log_prob = emission.log_prob(emission(state.features, before), x)
        if self._given:
            log_prob = tf.where(begins, tf.zeros_like(log_prob), log_prob)
        # A frame that is given is none that noise was drawn for.
        index = state.count + (0 if self._given else 1)
        after, features, noise = self._moved(state.cell, x, seeds, index, temperature)
        parameters = emission(features, emission.skip(cell, x))
        skip = x if emission.skip_size else ()
        sample = emission.sample(parameters, noise, temperature)
        seen = Seen(log_prob, emission.mean(parameters), sample)
        return StreamState(after, features, skip, state.count + 1), seen

    def _begun(
        self, state: StreamState, begins: tf.Tensor, seeds: tf.Tensor, temperature: tf.Tensor
    ) -> StreamState:
        """Streams that begin, after the step that predicts their first frame."""
        rows = tf.shape(begins)[0]
        zero, first = tf.zeros((rows,), tf.int32), self._emission.first_input(rows)
        start = self._cell.initial_state(rows)
        moved, features, _ = self._moved(start, first, seeds, zero, temperature)
        new = begins[:, tf.newaxis]
        cells = tf.nest.map_structure(lambda a, b: tf.where(new, a, b), moved, state.cell)
        skip = state.skip
        if self._emission.skip_size:
            symbols = self._emission.family.symbols
            skip = tf.where(begins if symbols else new, first, state.skip)
        return StreamState(cells, tf.where(new, features, state.features), skip, state.count)

    def _moved(
        self,
        state: Structure,
        x: tf.Tensor,
        seeds: tf.Tensor,
        index: tf.Tensor,
        temperature: tf.Tensor,
    ) -> tuple[Structure, tf.Tensor, tf.Tensor]:
        """State and features after an input, and the noise of the frame that these predict."""
        cell = self._cell
        noise = noise_at(seeds, index, cell.latent_size + self._emission.noise_size)
        noise = tf.cast(noise, self._wide)
        of_latent, of_frame = tf.split(noise, [cell.latent_size, -1], axis=-1)
        of_latent = tf.cast(temperature * of_latent, cell.compute_dtype)
        state, observed = unroll.prior_step(cell, state, cell.drive(x), of_latent)
        return state, observed.features, of_frame
