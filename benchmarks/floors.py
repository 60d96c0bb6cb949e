"""What simple models reach on a data set: the least that a trained one has to beat.

  python benchmarks/floors.py --dataset=audio_folder --manual_dir=DIR
  python benchmarks/floors.py --dataset=audio_folder --manual_dir=DIR --sound_scale=mu_law
  python benchmarks/floors.py --dataset=piano_roll --manual_dir=FILE
  python benchmarks/floors.py --dataset=text_file --manual_dir=DIR

fits on the training split and scores validation and test: sound by independent samples, by frames
of a full-covariance Gaussian, and by linear prediction (of companded sound also before it was
companded, and in bits a sample); binary frames by independent numbers and by each number given the
last one (half a count is added to each: Jeffreys' prior); symbols by their frequency and by Witten
and Bell's pairs (1e-12 at least). With --noscore_first_frame first frames are only given, as to a
model. Takes seconds to minutes; the flags are those of the data of an experiment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import flags

from zforcing_tf import config as configuration
from zforcing_tf import programs, tables
from zforcing_tf.data.companding import inverse_mu_law

Array = npt.NDArray[Any]
Score = Callable[[Array], Array]
"""From one sequence [T, ...] to the log-likelihood of each step, [T] nats."""
Sequences = Callable[[], Iterator[Array]]
"""Those of a split, from the first one each time."""
ORDER = 20
BITS = "bits/sample"


def sequences(split: Any) -> Iterator[Array]:
    """Each sequence [T, ...] of a split."""
    for start, length in zip(split.starts, split.lengths, strict=True):
        yield split.frames(slice(int(start), int(start + length)))


def expanded(floors: dict[str, Score], bits: int) -> dict[str, Score]:
    """Floors of linear sound, as densities of companded samples."""
    mu = 2**bits - 1

    def log_slope(y: Array) -> Array:
        """Log of the derivative of the linear sample by the companded one, sum over a frame."""
        x = inverse_mu_law(y.astype(np.float64), bits)
        return (np.log1p(mu * np.abs(x)) + math.log(math.log1p(mu) / mu)).sum(axis=1)

    def companded(score: Score) -> Score:
        return lambda y: score(inverse_mu_law(y, bits)) + log_slope(y)

    return {f"{name}, not companded": companded(score) for name, score in floors.items()}


def sound(train: Sequences) -> dict[str, Score]:
    """Floors of frames [T, D] of consecutive samples."""
    size = next(train()).shape[1]
    moments, count = np.zeros((size + 1, size + 1)), 0
    for x in train():
        frames = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(np.float64)
        moments += frames.T @ frames
        count += len(x)
    mean = moments[-1, :-1] / count
    covariance = moments[:-1, :-1] / count - np.outer(mean, mean)
    covariance += 1e-6 * np.trace(covariance) / size * np.eye(size)
    precision, log_det = np.linalg.inv(covariance), np.linalg.slogdet(2 * math.pi * covariance)[1]

    def full_covariance(x: Array) -> Array:
        centred = x.astype(np.float64) - mean
        distances = np.einsum("ti,ij,tj->t", centred, precision, centred)
        return -0.5 * (distances + log_det)

    return {
        "samples by N(0, 1)": lambda x: -0.5 * (np.square(x) + math.log(2 * math.pi)).sum(axis=1),
        "frames by a Gaussian": full_covariance,
        **linear_prediction(train),
    }


def linear_prediction(train: Sequences) -> dict[str, Score]:
    """Floors of frames [T, D] of consecutive samples, each predicted from those before it."""
    normal = np.zeros((ORDER + 1, ORDER + 1))
    for x in train():
        past = _with_past(x)
        normal += past.T @ past
    ridge = 1e-9 * np.trace(normal) * np.eye(ORDER)
    weights = np.linalg.solve(normal[1:, 1:] + ridge, normal[1:, 0])
    residuals = (_residuals(x, weights) for x in train())
    total, squares, absolute = np.sum(
        [(e.size, np.square(e).sum(), np.abs(e).sum()) for e in residuals], axis=0
    )
    variance, spread = squares / total, absolute / total

    def predicted_gauss(x: Array) -> Array:
        e = _residuals(x, weights)
        return by_step(x, -0.5 * (np.square(e) / variance + math.log(2 * math.pi * variance)))

    def predicted_laplace(x: Array) -> Array:
        e = _residuals(x, weights)
        return by_step(x, -(np.abs(e) / spread + math.log(2 * spread)))

    def by_step(x: Array, values: Array) -> Array:
        return values.reshape(x.shape).sum(axis=1)

    return {
        f"linear prediction, {ORDER} taps, Gauss": predicted_gauss,
        f"linear prediction, {ORDER} taps, Laplace": predicted_laplace,
    }


def _with_past(x: Array) -> Array:
    """Each sample and those before it, the last first: [n, 1 + ORDER]; zeros before the first."""
    samples = np.concatenate([np.zeros(ORDER), x.reshape(-1).astype(np.float64)])
    windows = np.lib.stride_tricks.sliding_window_view(samples, ORDER + 1)
    return windows[:, ::-1]


def _residuals(x: Array, weights: Array) -> Array:
    past = _with_past(x)
    return past[:, 0] - past[:, 1:] @ weights


def binary(train: Any) -> dict[str, Score]:
    """Floors of frames [T, D] of zeros and ones."""
    size = train.frames(slice(0, 1)).shape[1]
    ones, count = np.zeros(size), 0
    pairs = np.zeros((2, 2, size))  # [last, now]
    for x in sequences(train):
        ones += x.sum(axis=0)
        count += len(x)
        for last in (0, 1):
            for now in (0, 1):
                pairs[last, now] += ((x[:-1] == last) & (x[1:] == now)).sum(axis=0)
    alone = (ones + 0.5) / (count + 1)
    after = (pairs[:, 1] + 0.5) / (pairs.sum(axis=1) + 1)  # [last, D]: the number is one

    def independent(x: Array) -> Array:
        return np.log(np.where(x == 1, alone, 1 - alone)).sum(axis=1)

    def markov(x: Array) -> Array:
        p = np.concatenate([alone[None], np.where(x[:-1] == 1, after[1], after[0])])
        return np.log(np.where(x == 1, p, 1 - p)).sum(axis=1)

    return {"numbers independent": independent, "each given its last": markov}


def symbols(train: Any, size: int) -> dict[str, Score]:
    """Floors of symbols [T]."""
    counts = np.bincount(train.frames(slice(None)), minlength=size)
    unigram = counts / counts.sum()
    pairs: dict[tuple[int, int], int] = {}
    for x in sequences(train):
        for pair in zip([size, *x[:-1].tolist()], x.tolist(), strict=True):
            pairs[pair] = pairs.get(pair, 0) + 1
    total, kinds = np.zeros(size + 1), np.zeros(size + 1)
    for (last, _), number in pairs.items():
        total[last] += number
        kinds[last] += 1

    def frequency(x: Array) -> Array:
        return np.log(np.maximum(unigram[x], 1e-12))

    def pair(x: Array) -> Array:
        values = []
        for last, now in zip([size, *x[:-1].tolist()], x.tolist(), strict=True):
            seen = pairs.get((last, now), 0) + kinds[last] * unigram[now]
            weight = total[last] + kinds[last]
            values.append(math.log(max(seen / weight if weight else unigram[now], 1e-12)))
        return np.array(values)

    return {"frequency": frequency, "pairs (Witten, Bell)": pair}


def main() -> None:
    """Runs the program."""
    from zforcing_tf.data import registry

    settings = configuration.from_flags().data
    data, given = registry.load(settings), int(not settings.score_first_frame)
    bits = data.spec.sound.mu_law_bits if data.spec.sound else 0
    if data.spec.kind == "symbol":
        floors = symbols(data.train, data.spec.frame_size)
    elif data.spec.kind == "binary":
        floors = binary(data.train)
    else:
        floors = sound(lambda: sequences(data.train))
    if bits:
        linear = linear_prediction(lambda: (inverse_mu_law(x, bits) for x in sequences(data.train)))
        floors |= expanded(linear, bits)
    for split in (data.validation, data.test):
        columns: dict[str, list[float]] = {"nats/sequence": [], "nats/step": [], "macro": []}
        if data.spec.kind == "symbol":
            columns["perplexity"] = []
        if bits:
            columns[BITS] = []
        for score in floors.values():
            longer = (x for x in sequences(split) if len(x) > given)
            found = np.array([score(x)[given:].sum() for x in longer])
            steps = split.lengths[split.lengths > given] - given
            columns["nats/sequence"].append(float(found.mean()))
            columns["nats/step"].append(float(found.sum() / steps.sum()))
            columns["macro"].append(float((found / steps).mean()))
            per_step = columns["nats/step"][-1]
            if "perplexity" in columns:
                columns["perplexity"].append(math.exp(-per_step))
            if BITS in columns:  # 2^bits levels from -1 to 1
                size = data.spec.frame_size * math.log(2)
                columns[BITS].append(bits - 1 - per_step / size)
        scored = ", first frames not scored" * given
        print(f"{data.spec.name}, {split.name}, {split.num_sequences} sequences{scored}:")
        rows = [tables.Column(name, name, values) for name, values in columns.items()]
        print(tables.as_text([tables.Column("floor", "", list(floors)), *rows]), flush=True)


if __name__ == "__main__":
    configuration.define_flags(
        [field.name for section, field in configuration.settings() if section == "data"],
        flags.FLAGS,
    )
    programs.run(main)
