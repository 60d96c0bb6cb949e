"""What a trained model makes: samples, reconstructions, completions."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zforcing_tf.data.spec import DataSpec, Split
from zforcing_tf.errors import UserError
from zforcing_tf.randomness import row_seeds
from zforcing_tf.sequence_model import SequenceModel

_PROBABILITIES_AT_ONCE = 2**24
_MOST_NUMBERS = 2**28  # of a row: 1 GiB in float32


class Row(NamedTuple):
    """Sequences of one origin."""

    name: str
    """Identifier, for arrays."""
    title: str
    """For people."""
    x: npt.NDArray[Any]
    """[n, T, D], or symbols [n, T] int32."""
    lengths: npt.NDArray[np.int32]
    given: int = 0
    """Steps at the start that are real and were given to the model."""


class Extent(NamedTuple):
    """How much of a kind of data people look at, or listen to."""

    sequences: int
    """Of each row."""
    steps: int
    """Of samples."""
    longest: int | None = None
    """Steps shown of a real sequence, and of its continuation; None: all."""
    given: int | None = None
    """Most steps given to a continuation; None: half of the shortest sequence."""
    step_seconds: float = 0.0
    """Duration of a step, of data that takes time."""
    unit: str = "step"
    """What a step is called."""
    means: bool = False
    """Whether samples without the noise of frames are shown too: that of sound, where the numbers
    of a frame are independent, covers what is underneath."""


def extent(
    spec: DataSpec, num_sequences: int = 0, num_steps: int = 0, seconds: float = 0.0
) -> Extent:
    """What is shown unless the arguments, where they are not 0, say otherwise.

    Sound: 4 sequences of 3 seconds at most, of which 1 second is given to a continuation. Music: 4
    of 30 seconds, 10 of them given. Text: 16 sentences of 100 tokens at most, 5 of them given.
    Other data: 16 whole sequences. Samples are as long as the longest sequence of the data, or the
    most that is shown. At most half of a sequence of median length is given.

    Args:
        spec: of the data.
        num_sequences: of each row.
        num_steps: of samples.
        seconds: of samples, instead of num_steps, of data that takes time.

    Raises:
        UserError: a number of seconds for data that takes no time, or beside a number of steps;
            more than is made at once.
    """
    found = _extent(spec, num_sequences, num_steps, seconds)
    numbers = 1 if spec.kind == "symbol" else spec.frame_size
    if found.sequences * found.steps * numbers > _MOST_NUMBERS and (num_steps or seconds):
        raise UserError(
            f"{found.sequences} samples of {found.steps} steps of {numbers} numbers are more than "
            f"the {_MOST_NUMBERS} numbers that are made at once: give fewer or shorter ones"
        )
    return found


def _extent(spec: DataSpec, num_sequences: int, num_steps: int, seconds: float) -> Extent:
    step_seconds = seconds_per_step(spec)
    if seconds:
        if not math.isfinite(seconds):
            raise UserError(f"{seconds} is no number of seconds: give one above 0")
        if not step_seconds:
            raise UserError(
                f"seconds are for sound and music, and {spec.name!r} is neither: give a number of "
                "steps"
            )
        if num_steps:
            raise UserError("a number of steps and one of seconds are two lengths: give one")
        num_steps = steps_of(seconds, step_seconds)
    if step_seconds:
        most, given = (3, 1) if spec.sound else (30, 10)
        steps = num_steps or min(steps_of(most, step_seconds), spec.max_length)
        given_steps = steps_of(given, step_seconds)
        count = num_sequences or 4
        return Extent(count, steps, steps, given_steps, step_seconds, means=bool(spec.sound))
    if spec.text:
        steps = num_steps or min(spec.max_length, 100)
        return Extent(num_sequences or 16, steps, steps, 5, unit=spec.text.tokens)
    return Extent(num_sequences or 16, num_steps or spec.max_length)


def seconds_per_step(spec: DataSpec) -> float:
    """Duration of a frame; 0 for data that takes no time."""
    if spec.sound:
        return spec.frame_size / spec.sound.sample_rate
    return spec.music.step_seconds if spec.music else 0.0


def steps_of(seconds: float, step_seconds: float) -> int:
    """The nearest number of steps, at least 1."""
    return max(1, round(seconds / step_seconds))


def gallery(
    model: SequenceModel,
    split: Split,
    shown: Extent,
    temperature: float,
    seed: int,
    num_particles: int = 1,
) -> list[Row]:
    """Real sequences, reconstructions, samples at two temperatures, and completions.

    A model that is given first frames instead of scoring them does not know how sequences begin:
    its samples are given those of the real ones.

    A completion is given the beginning of a real sequence: its latents are drawn from the posterior
    given that alone, or by a particle filter, then the model goes on by itself. Of symbols, a
    reconstruction is the likeliest one at each step.

    Args:
        model: trained.
        split: where real sequences come from; fewer are shown if it has fewer.
        shown: how many sequences, and how much of them.
        temperature: of the second row of samples.
        seed: of the noise, and of the choice of real sequences.
        num_particles: of the filter over what is given to a completion; 1: none.
    """
    count = min(shown.sequences, split.num_sequences)
    index = np.random.default_rng(seed).choice(split.num_sequences, count, replace=False)
    x, lengths = split.padded(np.sort(index), shown.longest)
    rows = [Row("real", "real", x, lengths)]
    known = int(model.first_frame_given)
    if model.cell.latent_size and x.shape[1] > known:
        through = _reconstructed(model, x, lengths, seed)
        rows.append(
            Row("reconstructions", "reconstructed through the latents", through, lengths, known)
        )
    full = np.full(count, shown.steps, np.int32)
    drawn: list[tuple[str, str, Any]] = [
        ("samples", "samples, temperature 1", 1.0),
        ("samples_cool", f"samples, temperature {temperature:g}", temperature),
    ]
    if shown.means and not model.emission.autoregressive:  # whose frames have no mean to draw
        title = "samples of the latents, means of the frames"
        drawn.append(("samples_mean", title, [[1.0, 0.0]]))
    for name, title, value in drawn:
        samples = continued(model, x[:, :known], shown.steps, seed, value)
        rows.append(Row(name, title, samples, full, known))
    if shown.given is None:
        given = int(lengths.min()) // 2
    else:
        given = min(shown.given, max(1, int(np.median(lengths)) // 2))
    total = shown.longest or int(lengths.max())
    long_enough = lengths > given
    if 0 < given < total and long_enough.any():
        prefix = x[long_enough, :given]
        whole = continued(model, prefix, total, seed, num_particles=num_particles)
        every = np.full(len(whole), total, np.int32)
        title = f"{_share(shown, given, lengths)} given, rest by the model"
        rows.append(Row("completions", title, whole, every, given))
    return rows


def continued(
    model: SequenceModel,
    prefix: npt.NDArray[Any],
    steps: int,
    seed: int,
    temperature: Any = 1.0,
    num_particles: int = 1,
) -> npt.NDArray[Any]:
    """A prefix [n, P, ...], of no step too, and what the model makes of it: [n, steps, ...]."""
    count, given = prefix.shape[:2]
    if not given:
        return np.asarray(model.generate(steps, count, seed, temperature).numpy())
    if given >= steps:
        return prefix[:, :steps]
    own = model.generate(
        steps - given, None, seed, temperature, prefix=prefix, num_particles=num_particles
    )
    return np.concatenate([prefix, own.numpy()], axis=1)


def _share(shown: Extent, given: int, lengths: npt.NDArray[np.int32]) -> str:
    if shown.step_seconds:
        return f"first {given * shown.step_seconds:.3g} s"
    if shown.given is None and (lengths == lengths.max()).all():
        return "first half"
    return f"first {given} {shown.unit}{'s' * (given > 1)}"


def _reconstructed(
    model: SequenceModel, x: npt.NDArray[Any], lengths: npt.NDArray[np.int32], seed: int
) -> npt.NDArray[Any]:
    """Like x; its first frame, where models are given that instead of scoring it, is that of x."""
    known = x[:, : int(model.first_frame_given)]
    if not model.emission.family.symbols:
        means = model.reconstruct(x, lengths, seed).numpy()
        return np.concatenate([known, means], axis=1)
    # Probabilities of all symbols at all steps are many: some sequences at once.
    seeds = row_seeds(seed, len(x)).numpy()
    at_once = max(1, _PROBABILITIES_AT_ONCE // (x.shape[1] * model.emission.family.frame_size))
    likeliest = [
        model.reconstruct(*(v[start : start + at_once] for v in (x, lengths, seeds)))
        .numpy()
        .argmax(axis=-1)
        .astype(x.dtype)
        for start in range(0, len(x), at_once)
    ]
    return np.concatenate([known, np.concatenate(likeliest)], axis=1)
