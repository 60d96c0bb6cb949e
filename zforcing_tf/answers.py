"""What a trained model answers, as graphs. Rows do not depend on their batch, nor on padding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from zforcing_tf import inference, objectives, unroll
from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.inference import Inference, Particles, Parts
from zforcing_tf.layers.emission import Emission
from zforcing_tf.objectives import Bound, Terms
from zforcing_tf.particle_filter import Cloud
from zforcing_tf.randomness import row_noise, sample_seeds
from zforcing_tf.resampling import Resampling
from zforcing_tf.unroll import Structure
from zforcing_tf.windows import cut, over_windows

# Noise for other ends than the latents of a row must not be that of the latents.
_FOR_PREFIX, _FOR_RESAMPLING, _FOR_CHOICE = 1 << 30, 1 << 29, 1 << 28


class Scores(NamedTuple):
    """The bound and its parts.

    elbo [B] nats per sequence; the others [B, T] nats, zero in padding.
    """

    elbo: tf.Tensor
    log_prob_per_step: tf.Tensor
    kl_per_step: tf.Tensor


class Latents(NamedTuple):
    """Posterior of the latents: loc, scale and one sample, [B, T, Z] each, zero in padding."""

    loc: tf.Tensor
    scale: tf.Tensor
    latent: tf.Tensor


class Inferred(NamedTuple):
    """What one sample of the latents leaves."""

    state: Structure
    """After the last step, [B, .]."""
    kept: Structure
    """[T, B, ...]"""


class Answers:
    """Graphs over a cell and its emission; `SequenceModel` checks requests and hands them on.

    Args:
        cell: what happens in a step.
        emission: distribution of the next frame.
        first_frame_given: whether sequences are scored given their first frame.
        compiled: whether XLA compiles what needs one sample of the latents: faster, once it has
            for the numbers of rows and steps; and all steps at once, whatever memory that takes.
    """

    def __init__(
        self,
        cell: LatentCell,
        emission: Emission,
        first_frame_given: bool = False,
        compiled: bool = False,
    ) -> None:
        self._cell = cell
        self.compiled = compiled
        # Nothing asks for the terms of training: a graph would keep what they capture.
        self._parts = Parts(cell, emission, None, None, first_frame_given)
        family = emission.family
        frame = () if family.symbols else (family.frame_size,)
        x = tf.TensorSpec((None, None, *frame), emission.frame_dtype)
        lengths = tf.TensorSpec((None,), tf.int32)
        seeds = tf.TensorSpec((None, 2), tf.int32)
        number, temperature = tf.TensorSpec((), tf.int32), tf.TensorSpec((None, 2), tf.float32)

        def graph(function: Callable[..., Any], *signature: tf.TensorSpec) -> Callable[..., Any]:
            return tf.function(function, input_signature=signature, autograph=False)

        self.score = graph(self._score, x, lengths, seeds)
        self.log_weights = graph(self._log_weights, x, lengths, seeds, number, number)
        self._filter_graph = functools.cache(
            lambda how: graph(
                lambda x, n, seeds, count: self._filtered(x, n, seeds, count, how).bound,
                *(x, lengths, seeds, number),
            )
        )
        self.encode = graph(self._encode, x, lengths, seeds)
        self.score_and_encode = graph(self._score_and_encode, x, lengths, seeds)
        self.reconstruct = graph(self._reconstruct, x, lengths, seeds)
        after = functools.partial(functools.partial, self._after)
        self._prefix_state = graph(after(self._state_after), x, lengths, seeds)
        self._particle_state = graph(after(self._state_after_particles), x, seeds, number)
        state = tf.nest.map_structure(
            lambda v: tf.TensorSpec((None, v.shape[-1]), v.dtype), cell.initial_state(1)
        )
        last = tf.TensorSpec((None, *frame), emission.frame_dtype)
        self._frames = {
            compiled: graph(
                functools.partial(self._drawn, compiled), number, seeds, temperature, state, last
            )
            for compiled in (False, True)
        }

    def _infer(
        self,
        x: tf.Tensor,
        lengths: tf.Tensor,
        seeds: tf.Tensor,
        wanted: Callable[[Inference], Structure] = lambda _: (),
        specs: Structure = (),
        stop_at_ends: bool = False,
    ) -> Inferred:
        """One sample of the latents of each row, window by window.

        Args:
            x: [B, T, ...].
            lengths: [B].
            seeds: [B, 2].
            wanted: what to keep of a window, structure of [T, B, ...].
            specs: of it, structure of `tf.TensorSpec`s.
            stop_at_ends: as of `inference.explain`.
        """
        if self.compiled:
            return self._infer_compiled(x, lengths, seeds, wanted, stop_at_ends)
        state, seen = inference.observe(self._parts, self._parts.sequences(x, lengths))

        def explain(state: Structure, first: tf.Tensor, end: tf.Tensor) -> tuple[Any, Any]:
            noise = row_noise(seeds, end - first, self._cell.latent_size, first)
            window = cut(seen, first, end)
            found = inference.explain(self._parts, state, window, noise, stop_at_ends=stop_at_ends)
            return found.state, wanted(found)

        steps, rows = tf.unstack(tf.shape(seen.mask))
        return Inferred(*over_windows(explain, state, steps, rows, specs))

    def _infer_compiled(
        self,
        x: tf.Tensor,
        lengths: tf.Tensor,
        seeds: tf.Tensor,
        wanted: Callable[[Inference], Structure],
        stop_at_ends: bool,
    ) -> Inferred:
        @functools.partial(tf.function, autograph=False, jit_compile=True)
        def at_once(x: tf.Tensor, lengths: tf.Tensor, noise: tf.Tensor) -> tuple[Any, Any]:
            state, seen = inference.observe(self._parts, self._parts.sequences(x, lengths))
            found = inference.explain(self._parts, state, seen, noise, stop_at_ends=stop_at_ends)
            return found.state, wanted(found)

        steps = tf.shape(x)[1] - int(self._parts.first_frame_given)
        # XLA cannot draw it: the rows' generators are a loop over lists of unlike lengths.
        noise = row_noise(seeds, steps, self._cell.latent_size)
        return Inferred(*at_once(x, lengths, noise))

    @property
    def _term_specs(self) -> Structure:
        return (tf.TensorSpec((None, None), self._parts.wide_dtype),) * 2

    @property
    def _latent_specs(self) -> Structure:
        shape = (None, None, self._cell.latent_size)
        return (tf.TensorSpec(shape, tf.as_dtype(self._cell.compute_dtype)),) * 3

    def _score(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Scores:
        return _scores(*self._infer(x, lengths, seeds, _terms, self._term_specs).kept)

    def _log_weights(
        self,
        x: tf.Tensor,
        lengths: tf.Tensor,
        seeds: tf.Tensor,
        first: tf.Tensor,
        count: tf.Tensor,
    ) -> tf.Tensor:
        """`sum_t log w[t]` of samples `first` to `first + count - 1` of each row, [B, count]."""
        particles = Particles(count, weighed=True)
        state, seen = inference.observe(self._parts, self._parts.sequences(x, lengths))
        steps, rows = tf.unstack(tf.shape(seen.mask))
        seeds = sample_seeds(seeds, first, count)

        def explain(before: Structure, first: tf.Tensor, end: tf.Tensor) -> tuple[Any, Any]:
            state, total = before
            noise = row_noise(seeds, end - first, self._cell.latent_size, first)
            window = cut(seen, first, end)
            found = inference.explain(self._parts, state, window, noise, particles=particles)
            log_w = objectives.log_weights(found.terms, count)
            return (found.state, total + tf.reduce_sum(log_w, axis=0)), ()

        before = (inference.rows_of(state, count), tf.zeros((rows, count), self._parts.wide_dtype))
        (_, total), _ = over_windows(explain, before, steps, rows * count)
        return total

    def iwae(
        self,
        x: tf.Tensor,
        lengths: tf.Tensor,
        seeds: tf.Tensor,
        num_samples: int,
        samples_at_once: int,
    ) -> tf.Tensor:
        """Bound [B] of `num_samples` samples, computed so many at once."""
        chunks = [
            self.log_weights(x, lengths, seeds, first, min(samples_at_once, num_samples - first))
            for first in range(0, num_samples, samples_at_once)
        ]
        return objectives.log_mean(tf.concat(chunks, axis=1))

    def bound(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor, bound: Bound) -> tf.Tensor:
        """iwae or fivo [B] with all its samples at once."""
        count = tf.constant(bound.num_samples)
        if bound.name == "fivo":
            return self.filter(x, lengths, seeds, count, bound.resampling)
        return objectives.log_mean(self.log_weights(x, lengths, seeds, 0, count))

    def filter(
        self,
        x: tf.Tensor,
        lengths: tf.Tensor,
        seeds: tf.Tensor,
        count: tf.Tensor,
        resampling: Resampling,
    ) -> tf.Tensor:
        """Bound [B] of a particle filter of `count` particles."""
        return self._filter_graph(resampling)(x, lengths, seeds, count)

    def _filtered(
        self,
        x: tf.Tensor,
        lengths: tf.Tensor,
        seeds: tf.Tensor,
        count: tf.Tensor,
        resampling: Resampling,
    ) -> Cloud:
        state, seen = inference.observe(self._parts, self._parts.sequences(x, lengths))
        steps, rows = tf.unstack(tf.shape(seen.mask))
        own, drawing = sample_seeds(seeds, 0, count), _apart(seeds, _FOR_RESAMPLING)

        def explain(before: Cloud, first: tf.Tensor, end: tf.Tensor) -> tuple[Cloud, Any]:
            noise = row_noise(own, end - first, self._cell.latent_size, first)
            draws = row_noise(drawing, end - first, resampling.noise_size(count), first)
            particles = Particles(count, True, resampling, draws)
            window = cut(seen, first, end)
            after, _ = inference.filter_particles(self._parts, before, window, noise, particles)
            return after, ()

        before = inference.first_cloud(
            self._parts, inference.rows_of(state, count), seen.mask, count
        )
        return over_windows(explain, before, steps, rows * count)[0]

    def _encode(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Latents:
        kept = self._infer(x, lengths, seeds, _latents, self._latent_specs).kept
        return Latents(*(self._batch_major(v, lengths) for v in kept))

    def _score_and_encode(
        self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[Scores, Latents]:
        specs = (self._term_specs, self._latent_specs)
        terms, latents = self._infer(
            x, lengths, seeds, lambda found: (_terms(found), _latents(found)), specs
        ).kept
        return _scores(*terms), Latents(*(self._batch_major(v, lengths) for v in latents))

    def _reconstruct(self, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        emission = self._parts.emission
        spec = tf.TensorSpec((None, None, emission.family.frame_size), self._parts.wide_dtype)
        kept = self._infer(
            x, lengths, seeds, lambda found: emission.mean(found.parameters), spec
        ).kept
        return self._batch_major(kept, lengths)

    def _batch_major(self, x: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """[T, B, .] -> [B, T, .], zero in padding."""
        x = tf.transpose(x, (1, 0, 2))
        valid = lengths - int(self._parts.first_frame_given)
        mask = tf.sequence_mask(valid, tf.shape(x)[1])[..., tf.newaxis]
        return tf.where(mask, x, tf.zeros_like(x))

    def _state_after(self, prefix: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Structure:
        return self._infer(prefix, lengths, _apart(seeds, _FOR_PREFIX), stop_at_ends=True).state

    def _after(self, state_of: Callable[..., Structure], prefix: tf.Tensor, *how: Any) -> Structure:
        """`state_of` all, unless the prefix is the one frame given before the first step."""
        if not self._parts.first_frame_given:
            return state_of(prefix, *how)
        several, rows = tf.shape(prefix)[1] > 1, tf.shape(prefix)[0]
        return tf.cond(
            several, lambda: state_of(prefix, *how), lambda: self._cell.initial_state(rows)
        )

    def _state_after_particles(
        self, prefix: tf.Tensor, seeds: tf.Tensor, count: tf.Tensor
    ) -> Structure:
        """Of one particle of each row, drawn in proportion to its weight after the prefix."""
        lengths = tf.fill(tf.shape(seeds)[:1], tf.shape(prefix)[1])
        seen = self._filtered(prefix, lengths, _apart(seeds, _FOR_PREFIX), count, Resampling())
        choice = row_noise(_apart(seeds, _FOR_CHOICE), tf.constant(1), 1)[0]
        drawn = Resampling("always", "multinomial").draw(seen.log_weights, choice)[:, 0]
        index = tf.range(tf.shape(seeds)[0]) * count + drawn
        return tf.nest.map_structure(lambda v: tf.gather(v, index), seen.state)

    def generate(
        self, num_steps: tf.Tensor, seeds: tf.Tensor, temperature: tf.Tensor, compiled: bool
    ) -> tf.Tensor:
        """Frames [B, T, D], or symbols [B, T], from the start of a sequence.

        Args:
            num_steps: T, scalar int32.
            seeds: [B, 2] int32.
            temperature: [B, 2], of latents and of frames.
            compiled: whether XLA compiles the loop.
        """
        rows = tf.shape(seeds)[0]
        state, x = self._cell.initial_state(rows), self._parts.emission.first_input(rows)
        return self._frames[compiled](num_steps, seeds, temperature, state, x)

    def go_on(
        self,
        num_steps: tf.Tensor,
        seeds: tf.Tensor,
        temperature: tf.Tensor,
        compiled: bool,
        prefix: tf.Tensor,
        lengths: tf.Tensor,
        count: int,
    ) -> tf.Tensor:
        """As `generate`, after a prefix; `count` particles, if more than 1, need equal lengths."""
        if count == 1:
            state = self._prefix_state(prefix, lengths, seeds)
        else:
            state = self._particle_state(prefix, seeds, count)
        last = tf.gather(prefix, lengths - 1, axis=1, batch_dims=1)
        return self._frames[compiled](num_steps, seeds, temperature, state, last)

    def _drawn(
        self,
        compiled: bool,
        num_steps: tf.Tensor,
        seeds: tf.Tensor,
        temperature: tf.Tensor,
        state: Structure,
        x: tf.Tensor,
    ) -> tf.Tensor:
        """From the state after what is given, and its last frame."""
        cell, emission = self._cell, self._parts.emission
        temperature = tf.cast(temperature, self._parts.wide_dtype)
        x = unroll.frames(cell, emission, state, x, seeds, num_steps, temperature, compiled)
        return tf.transpose(x, (1, 0) if x.shape.rank == 2 else (1, 0, 2))


def _apart(seeds: tf.Tensor, end: int) -> tf.Tensor:
    return seeds + tf.constant([end, 0])


def _terms(found: Inference) -> tuple[tf.Tensor, tf.Tensor]:
    return found.terms.log_prob, found.terms.kl


def _scores(log_prob: tf.Tensor, kl: tf.Tensor) -> Scores:
    elbo = objectives.elbo(Terms(log_prob, kl))
    return Scores(elbo, tf.transpose(log_prob), tf.transpose(kl))


def _latents(found: Inference) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    inferred = found.inferred
    return inferred.posterior_loc, inferred.posterior_scale, inferred.latent
