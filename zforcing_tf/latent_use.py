"""What a trained model does with its latents, over some sequences of a split."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_probability as tfp

from zforcing_tf import inference, unroll
from zforcing_tf.data.spec import Split
from zforcing_tf.distributions import widened
from zforcing_tf.inference import Parts
from zforcing_tf.metrics import ActiveUnits
from zforcing_tf.mutual_information import mutual_information
from zforcing_tf.randomness import row_noise
from zforcing_tf.scoring import seeds_by_index
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.windows import cut, over_windows

tfd = tfp.distributions
Floats = npt.NDArray[np.floating]

POSITIONS = 4096
"""Steps of sequences from which the mutual information is estimated, at most."""
_KEPT_NUMBERS = 2**26
"""Numbers that a batch leaves behind, at most: 256 MB."""
# Latents of the prior take other noise than those of the posterior.
_FOR_PRIOR = 1 << 27


class Steps(NamedTuple):
    """What the two passes over a batch leave, time-major."""

    mask: tf.Tensor
    """[T, B] bool: steps that are scored."""
    log_prob: tf.Tensor
    """[T, B] nats, with latents from the posterior."""
    kl: tf.Tensor
    """[T, B] nats."""
    prior_log_prob: tf.Tensor
    """[T, B] nats, with latents from the prior."""
    kl_per_dimension: tf.Tensor
    """[T, Z] nats, sum over the batch."""
    loc: tf.Tensor
    """[T, B, Z], of the posterior; likewise the two below."""
    scale: tf.Tensor
    latent: tf.Tensor


class LatentUse(NamedTuple):
    """Sums and estimates over all sequences; nats."""

    bound: Floats
    """[N], with latents from the posterior: the elbo."""
    prior_bound: Floats
    """[N], `log p(x | z)` with latents from the prior, which is a bound of log p(x) too."""
    num_steps: npt.NDArray[np.int64]
    """[N], scored."""
    kl_per_dimension: Floats
    """[Z], mean over all steps."""
    kl_at_step: Floats
    """[T], mean over the sequences that have the step."""
    sequences_at_step: npt.NDArray[np.int64]
    """[T], how many these are."""
    active_units: int
    mutual_information: float
    num_positions: int
    """Behind the mutual information."""


def latent_use(
    model: SequenceModel, split: Split, index: npt.NDArray[np.int64], batch_size: int, seed: int
) -> LatentUse:
    """Two passes over sequences: one with latents from the posterior, one from the prior.

    Args:
        model: trained.
        split: that holds the sequences.
        index: which of them.
        batch_size: sequences at once, at most.
        seed: of the noise; the posterior's is that of `scoring.evaluate` with the same seed.
    """
    size, family = model.cell.latent_size, model.emission.family
    frame = () if family.symbols else (family.frame_size,)
    x = tf.TensorSpec((None, None, *frame), model.frame_dtype)
    graph = tf.function(
        lambda *given: _passes(model, *given),
        input_signature=(x, tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None, 2), tf.int32)),
        autograph=False,
    )
    longest = int(split.lengths[index].max())
    rows = max(1, min(batch_size, _KEPT_NUMBERS // (longest * (3 * size + 3))))
    bounds, prior_bounds, counts = [], [], []
    at_step = np.zeros((2, longest))
    per_dimension = np.zeros(size)
    units, positions = ActiveUnits(), _Positions(np.random.default_rng(seed), size)
    for start in range(0, len(index), rows):
        chosen = index[start : start + rows]
        values, lengths = split.padded(chosen)
        found = Steps(*(v.numpy() for v in graph(values, lengths, seeds_by_index(seed, 0, chosen))))
        bounds.append(np.sum(found.log_prob - found.kl, axis=0, dtype=np.float64))
        prior_bounds.append(np.sum(found.prior_log_prob, axis=0, dtype=np.float64))
        counts.append(found.mask.sum(axis=0))
        at_step[:, : len(found.mask)] += found.kl.sum(axis=1), found.mask.sum(axis=1)
        per_dimension += found.kl_per_dimension.sum(axis=0, dtype=np.float64)
        if size:
            units.update(found.loc.swapaxes(0, 1), counts[-1])
            positions.add(found)
    kl, sequences = at_step[:, at_step[1] > 0]
    return LatentUse(
        bound=np.concatenate(bounds),
        prior_bound=np.concatenate(prior_bounds),
        num_steps=np.concatenate(counts),
        kl_per_dimension=per_dimension / sequences.sum(),
        kl_at_step=kl / sequences,
        sequences_at_step=sequences.astype(np.int64),
        active_units=units.result() if size else 0,
        mutual_information=mutual_information(*positions.values) if size else 0.0,
        num_positions=positions.count,
    )


def _passes(model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> Steps:
    cell, emission = model.cell, model.emission
    parts = Parts(cell, emission, None, None)
    sequences = model.sequences(x, lengths)
    state, seen = inference.observe(parts, sequences)
    prior_seeds = seeds + tf.constant([_FOR_PRIOR, 0])

    def explain(before: Any, first: tf.Tensor, end: tf.Tensor) -> tuple[Any, Any]:
        state, prior_state = before
        now, (inputs, targets, mask) = cut(seen, first, end), cut(sequences, first, end)
        noise, prior_noise = (
            row_noise(own, end - first, cell.latent_size, first) for own in (seeds, prior_seeds)
        )
        found = inference.explain(parts, state, now, noise)
        q = (found.inferred.posterior_loc, found.inferred.posterior_scale)
        kl = tfd.kl_divergence(*(_normal(*v) for v in (q, cell.prior(found.inferred.past))))
        kl = tf.where(mask[..., tf.newaxis], kl, tf.zeros_like(kl))
        prior_state, observed = unroll.observe(
            cell, prior_state, cell.drive(inputs), tf.cast(prior_noise, cell.compute_dtype)
        )
        parameters = emission(observed.features, emission.skip(cell, inputs))
        prior_log_prob = emission.log_prob(parameters, targets)
        kept = Steps(
            mask=mask,
            log_prob=found.terms.log_prob,
            kl=found.terms.kl,
            prior_log_prob=tf.where(mask, prior_log_prob, tf.zeros_like(prior_log_prob)),
            kl_per_dimension=tf.reduce_sum(kl, axis=1),
            loc=q[0],
            scale=q[1],
            latent=found.inferred.latent,
        )
        return (found.state, prior_state), kept

    wide, latent_dtype = parts.wide_dtype, tf.as_dtype(cell.compute_dtype)
    terms = tf.TensorSpec((None, None), wide)
    latents = tf.TensorSpec((None, None, cell.latent_size), latent_dtype)
    specs = Steps(
        mask=tf.TensorSpec((None, None), tf.bool),
        log_prob=terms,
        kl=terms,
        prior_log_prob=terms,
        kl_per_dimension=tf.TensorSpec((None, cell.latent_size), wide),
        loc=latents,
        scale=latents,
        latent=latents,
    )
    steps, rows = tf.shape(sequences.mask)[0], tf.shape(sequences.mask)[1]
    kept: Steps = over_windows(explain, (state, state), steps, rows, specs)[1]
    return kept._replace(
        **{name: widened(getattr(kept, name)) for name in ("loc", "scale", "latent")}
    )


def _normal(loc: tf.Tensor, scale: tf.Tensor) -> Any:
    return tfd.Normal(widened(loc), widened(scale))


class _Positions:
    """A random choice of valid steps of sequences, the same in whatever batches they come."""

    def __init__(self, random: np.random.Generator, latent_size: int) -> None:
        self._random = random
        self._keys = np.zeros(0)
        self._values = np.zeros((3, 0, latent_size), np.float32)

    def add(self, found: Steps) -> None:
        valid = found.mask.T
        rows = np.stack([v.swapaxes(0, 1)[valid] for v in (found.loc, found.scale, found.latent)])
        keys = np.concatenate([self._keys, self._random.random(rows.shape[1])])
        kept = np.argsort(keys)[:POSITIONS]
        self._keys = keys[kept]
        self._values = np.concatenate([self._values, rows], axis=1)[:, kept]

    @property
    def count(self) -> int:
        return len(self._keys)

    @property
    def values(self) -> tuple[Floats, Floats, Floats]:
        """loc, scale and latent, [M, Z] each."""
        loc, scale, latent = self._values
        return loc, scale, latent
