"""The model that is trained, scored, sampled and exported: parts of one family."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from zforcing_tf import inference, objectives, requests, unroll
from zforcing_tf.answers import Answers, Latents, Scores
from zforcing_tf.cells.latent_cell import LatentCell
from zforcing_tf.errors import UserError
from zforcing_tf.inference import Inference, Parts
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.emission import Emission
from zforcing_tf.layers.weights import SERIAL_PACKAGE, deserialised, serialised
from zforcing_tf.metrics import Count, Ratio
from zforcing_tf.objectives import Bound, Schedule, Weights
from zforcing_tf.randomness import Rows, row_noise, row_seeds
from zforcing_tf.requests import check_counts, checked, checked_generation, checked_prefix
from zforcing_tf.resampling import Resampling
from zforcing_tf.sequences import Keep, Sequences
from zforcing_tf.training.carried import CarriedState
from zforcing_tf.training.finite import apply_if_finite, loss_scale
from zforcing_tf.training.gradients import gradient_function, gradient_inputs
from zforcing_tf.training.guard import Guard

Batch = dict[str, tf.Tensor]


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class SequenceModel(keras.Model):
    """A stochastic recurrent network over sequences x [B, T, D] (symbols: [B, T] int32).

    Unless first frames are given, they are scored: behind a frame of zeros (for symbols, none).

    Args:
        cell: what happens in a step.
        emission: distribution of the next frame.
        auxiliary: network of the auxiliary cost, or None.
        backward_emission: reverse language model of the backward network, or None.
        kl_weight: schedule of the KL's weight; likewise the two below.
        auxiliary_weight: of the auxiliary cost.
        backward_weight: of the backward emission.
        bound: what training maximises.
        dropout: rate, in training, on embedded inputs and on features.
        clip_norm: global norm to which gradients are clipped.
        enable_xla: whether forward and backward pass of the training step are compiled with XLA.
        concurrent_parts: in how many parts training computes a batch, side by side.
        recompute: whether training computes windows of time twice rather than keep what they leave.
        first_frame_given: whether sequences are scored given their first frame.
        carried_rows: rows of each batch in training if it goes on from the one before, else 0.
        seed: of all noise.
    """

    def __init__(
        self,
        cell: LatentCell,
        emission: Emission,
        auxiliary: Auxiliary | None = None,
        backward_emission: Emission | None = None,
        kl_weight: Schedule = Schedule(),
        auxiliary_weight: Schedule = Schedule(0.0, 0.0),
        backward_weight: Schedule = Schedule(0.0, 0.0),
        bound: Bound = Bound(),
        dropout: float = 0.0,
        clip_norm: float = 100.0,
        enable_xla: bool = False,
        concurrent_parts: int = 1,
        recompute: bool = False,
        first_frame_given: bool = False,
        carried_rows: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        # Frames stay as they are: parts cast what they compute with.
        super().__init__(autocast=False, **kwargs)
        self.cell = cell
        self.emission = emission
        self.auxiliary = auxiliary
        self.backward_emission = backward_emission
        self.schedules = Weights(kl_weight, auxiliary_weight, backward_weight)
        self.bound = bound
        self.dropout = dropout
        self.clip_norm = clip_norm
        self.recompute = recompute
        self.first_frame_given = first_frame_given
        self.carried_rows = carried_rows
        self.seed = seed
        self.step_counter = self.add_weight(
            name="step",
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )
        ratios = ["elbo", "nats_per_step", "kl_per_step", "loss"]
        ratios += ["bound"] if bound.name != "elbo" else []
        ratios += ["auxiliary_per_step"] if auxiliary else []
        ratios += ["backward_per_step"] if backward_emission else []
        self.ratios = {name: Ratio(name) for name in ratios}
        self.gradient_norm = Ratio("gradient_norm")
        self.skipped_updates = Count("skipped_updates")
        self.guard = Guard()
        self.set_form(enable_xla, concurrent_parts)
        self._answers = Answers(cell, emission, first_frame_given)
        self.carried = CarriedState(self, cell, carried_rows) if carried_rows else None
        for layer in self._flatten_layers(include_self=False):
            layer.build(None)
        self.built = True

    def sequences(self, x: tf.Tensor, lengths: tf.Tensor, *before: Any) -> Sequences:
        """Time-major targets, inputs and mask of batch-major x; see `Parts.sequences`."""
        return self._parts.sequences(x, lengths, *before)

    def infer(
        self, sequences: Sequences, noise: tf.Tensor, keep: Keep | None = None, **start: Any
    ) -> Inference:
        """Posterior and terms of the objective; see `inference.infer`."""
        start = {"start_is_data": self.first_frame_given, **start}
        return inference.infer(self._parts, sequences, noise, keep, **start)

    @property
    def _parts(self) -> Parts:
        given = self.first_frame_given
        return Parts(self.cell, self.emission, self.auxiliary, self.backward_emission, given)

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update from {"x": [B, T, ...], "lengths": [B]}, or this replica's part of it."""
        context = tf.distribute.get_replica_context()
        if not self.optimizer.built:  # before a graph asks for its loss scale
            self.optimizer.build(self.trainable_variables)
        gradients, sums, after = self.gradients(*gradient_inputs(self, batch))
        if self.carried:
            self.carried.keep(after)
        seen = self.guard.seen(sums, gradients[0].dtype)
        *gradients, seen = context.all_reduce("SUM", [*gradients, seen])
        norm = tf.linalg.global_norm(gradients) / loss_scale(self.optimizer)
        gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        finite = tf.math.is_finite(norm) & self.guard.all_finite(seen)
        apply_if_finite(self.optimizer, gradients, self.trainable_variables, finite)
        self.step_counter.assign_add(1)
        self.guard.note(seen, finite, self.step_counter.value)
        self.skipped_updates.update_state(tf.logical_not(finite))
        self.gradient_norm.update_state(tf.where(finite, norm, 0.0), finite)
        self._update_ratios({k: tf.where(finite, v, tf.zeros_like(v)) for k, v in sums.items()})
        return _reducible(self.trained_metrics())

    def trained_metrics(self) -> dict[str, tf.Tensor]:
        """What training tells of an epoch so far."""
        # Along particles that were drawn anew log p - KL is no bound.
        unknown = ("elbo",) if self.bound.name == "fivo" else ()
        return {m.name: m.result() for m in self.metrics if m.name not in unknown}

    def set_form(self, enable_xla: bool, parts: int, gradients: Any = None) -> None:
        """Chooses how training steps are computed; results differ by rounding only.

        Args:
            enable_xla: whether XLA compiles them.
            parts: of a batch, side by side.
            gradients: their `gradient_function`, if there is one already.
        """
        self.enable_xla, self.concurrent_parts = enable_xla, parts
        self.gradients = gradients or gradient_function(self, enable_xla, parts)
        self.train_function = None  # Keras would go on with the one that it made

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Adds a batch to the metrics, with one sample of the posterior.

        A row's noise depends on its "index" [B] int32 in the data, else on its place in the batch.
        """
        x, lengths = requests.checked_batch(self.emission.family, self.frame_dtype, batch)
        rows = Rows.of(tf.distribute.get_replica_context(), tf.shape(x)[0])
        index = batch.get("index", rows.offset + tf.range(rows.local))
        seeds = tf.stack([tf.fill(tf.shape(index), self.seed), index], axis=1)
        sequences = self.sequences(x, lengths)
        noise = row_noise(seeds, tf.shape(sequences.mask)[0], self.cell.latent_size)
        terms = self.infer(sequences, noise).terms
        losses = objectives.loss(terms, Weights(1.0, 0.0, 0.0))
        sums = objectives.sums(terms, losses, sequences.mask)
        if self.bound.name != "elbo":
            losses = -self._answers.bound(x, lengths, seeds, self.bound)
        self._update_ratios(sums | {"bound": -tf.reduce_sum(losses)})
        found = {name: ratio.result() for name, ratio in self.ratios.items() if name != "loss"}
        return _reducible(found)

    def _update_ratios(self, sums: dict[str, tf.Tensor]) -> None:
        for name, ratio in self.ratios.items():
            per_step = name.endswith("_per_step")
            numerator = name.removesuffix("_per_step").replace("nats", "bound")
            ratio.update_state(sums[numerator], sums["steps" if per_step else "sequences"])

    def _get_metrics_result_or_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Reads the metrics themselves: `logs` may hold a mean of what single replicas had."""
        return {name: value for name, value in self.get_metrics_result().items() if name in logs}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Does nothing: all is built, and Keras's own way fails on uneven replica batches."""

    # Use of a trained model. Rows are independent: of their batch, and of what padding holds.
    def call(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """The bound [B] of {"x", "lengths"}, noise from the model's seed: `score` for Keras."""
        return self.score(inputs["x"], inputs["lengths"], self.seed).elbo

    @property
    def frame_dtype(self) -> tf.DType:
        """Dtype of x: int32 for symbols, else that of the weights."""
        return self.emission.frame_dtype

    @property
    def answers_compiled(self) -> bool:
        """Whether XLA compiles what the model is asked for; see `compiled_answers`."""
        return self._answers.compiled

    @contextlib.contextmanager
    def compiled_answers(self) -> Iterator[None]:
        """Within it XLA compiles what the model is asked for, `iwae` and `fivo` excepted.

        Each new number of rows or steps takes seconds at first; then answers come sooner, above all
        with few rows. They differ by rounding from those without.
        """
        usual = self._answers
        self._answers = Answers(self.cell, self.emission, self.first_frame_given, compiled=True)
        try:
            yield
        finally:
            self._answers = usual

    def score(self, x: Any, lengths: Any = None, seed: Any = 0) -> Scores:
        """One-sample bound of each sequence.

        Args:
            x: [B, T, D], or [B, T] symbols.
            lengths: [B] valid steps, 1 to T; all by default.
            seed: scalar, or [B, 2] int32 with a seed for each row.

        Raises:
            UserError: a wrong shape, a length outside of 1 to T, a number that is not finite.
        """
        return self._answers.score(*self._request(x, lengths, seed))

    def _request(self, x: Any, lengths: Any, seed: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        x, lengths = checked(self.emission.family, self.frame_dtype, x, lengths)
        return x, lengths, row_seeds(seed, tf.shape(x)[0])

    def iwae(
        self,
        x: Any,
        lengths: Any = None,
        num_samples: int = 100,
        seed: Any = 0,
        samples_at_once: int = 128,
    ) -> tf.Tensor:
        """Importance-weighted bound [B] nats (Burda et al. 2016): tighter with more samples.

        Args:
            x: as of `score`, and so lengths, seed and errors.
            lengths: [B].
            num_samples: K.
            seed: sample k of a row has the noise that `score` has with the seed
                (seed[0] + k SAMPLE_STEP, seed[1]).
            samples_at_once: bounds the memory, which does not grow with T times samples anyway;
                changes no result but by rounding.
        """
        check_counts(num_samples=num_samples, samples_at_once=samples_at_once)
        x, lengths, seeds = self._request(x, lengths, seed)
        return self._answers.iwae(x, lengths, seeds, num_samples, samples_at_once)

    def fivo(
        self,
        x: Any,
        lengths: Any = None,
        num_particles: int = 16,
        seed: Any = 0,
        resampling: Resampling = Resampling(),
    ) -> tf.Tensor:
        """Bound [B] nats of a particle filter with the posterior as proposal.

        Maddison et al. 2017. For long sequences tighter than `iwae` with as many samples where the
        posterior does not look ahead; else it may be looser. Arguments and errors as of `score`.
        """
        check_counts(num_particles=num_particles)
        if not isinstance(resampling, Resampling):
            raise UserError(f"resampling is {resampling!r}; give a Resampling(criterion, scheme)")
        x, lengths, seeds = self._request(x, lengths, seed)
        return self._answers.filter(x, lengths, seeds, num_particles, resampling)

    def encode(self, x: Any, lengths: Any = None, seed: Any = 0) -> Latents:
        """Posterior of the latents of sequences; arguments and errors as `score`."""
        return self._answers.encode(*self._request(x, lengths, seed))

    def score_and_encode(
        self, x: Any, lengths: Any = None, seed: Any = 0
    ) -> tuple[Scores, Latents]:
        """Both in one pass, from the same sample; arguments and errors as `score`."""
        return self._answers.score_and_encode(*self._request(x, lengths, seed))

    def reconstruct(self, x: Any, lengths: Any = None, seed: Any = 0) -> tf.Tensor:
        """Mean of the emission [B, T, D] under a sample of the posterior; arguments as `score`."""
        return self._answers.reconstruct(*self._request(x, lengths, seed))

    def generate(
        self,
        num_steps: int,
        num_sequences: int | None = None,
        seed: Any = 0,
        temperature: Any = 1.0,
        prefix: Any = None,
        prefix_lengths: Any = None,
        num_particles: int = 1,
        compiled: bool | None = None,
    ) -> tf.Tensor:
        """Samples of the model, or continuations of a prefix.

        Args:
            num_steps: T, frames to generate.
            num_sequences: B; with a prefix, or with row seeds, it follows from them.
            seed: as of `score`.
            temperature: scalar, [B], or [B, 2] for latents and for frames; 1 samples, 0: modes.
            prefix: [B, P, D] (or [B, P] symbols) to go on from, its latents drawn from the
                posterior.
            prefix_lengths: [B] steps of it in each row, 1 to P; all by default.
            num_particles: of a particle filter over the prefix, to go on from one drawn by its
                weight: nearer to the true posterior than its approximation alone, 1.
            compiled: whether XLA compiles the loop: several times faster with one sequence, after
                about a second for each new number of sequences. Frames differ by rounding, which
                may grow. By default from 256 steps on, except in a graph of the caller's; and
                always within `compiled_answers`.

        Returns:
            x [B, T, D], or [B, T] int32; without the prefix.
        """
        given = (prefix, prefix_lengths, num_particles)
        prefix, lengths = checked_prefix(self.emission.family, self.frame_dtype, *given)
        if prefix is not None:
            num_sequences = tf.shape(prefix)[0]
        elif num_sequences is None:
            num_sequences = 1
        asked = checked_generation(num_steps, num_sequences, seed, temperature)
        if compiled is None:
            compiled = (
                self.answers_compiled
                or tf.executing_eagerly()
                and bool(num_steps >= unroll.COMPILED_FROM)
            )
        if prefix is None:
            return self._answers.generate(num_steps, *asked, compiled)
        return self._answers.go_on(num_steps, *asked, compiled, prefix, lengths, num_particles)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        parts = {"cell": self.cell, "emission": self.emission}
        optional = {"auxiliary": self.auxiliary, "backward_emission": self.backward_emission}
        parts |= {name: part for name, part in optional.items() if part is not None}
        weights = {f"{n}_weight": s for n, s in self.schedules._asdict().items()}
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            **serialised(parts),
            **{name: list(dataclasses.astuple(schedule)) for name, schedule in weights.items()},
            "bound": dataclasses.asdict(self.bound),
            "dropout": self.dropout,
            "clip_norm": self.clip_norm,
            "enable_xla": self.enable_xla,
            "concurrent_parts": self.concurrent_parts,
            "recompute": self.recompute,
            "first_frame_given": self.first_frame_given,
            "carried_rows": self.carried_rows,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SequenceModel:
        """The inverse of `get_config`."""
        config = deserialised(config)
        names = [f"{name}_weight" for name in Weights._fields]
        config |= {name: Schedule(*config[name]) for name in names}
        given = config.pop("bound")
        resampling = Resampling(**given.pop("resampling"))
        return cls(**config, bound=Bound(**given, resampling=resampling))


def _reducible(results: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Results as Keras can take their mean over workers: along an axis, which they have to have."""
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return results
    return {name: tf.reshape(value, [1]) for name, value in results.items()}
