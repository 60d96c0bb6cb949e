"""Recordings as SavedModels take and give them: the same as the preparation of the data."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from export.endpoint import Wanted
from export.saved_model import write_model
from export.signatures import serving_module
from export.sound import heard, played
from tests import model_factory
from tests.export.served import SEED
from tests.slowly import slow_unless
from zforcing_tf import models
from zforcing_tf.data.description import Sound
from zforcing_tf.data.sound_frames import whole_frames
from zforcing_tf.data.spec import DataSpec

SIZE = 4
SCALES = {
    "standardised": Sound(8000, 0.01, 0.12),
    "linear": Sound(8000),
    "mu_law": Sound(8000, mu_law_bits=16),
}
each_scale = pytest.mark.parametrize("scale", SCALES)
each_scale_slowly = pytest.mark.parametrize(
    "scale", [slow_unless(scale == "mu_law", scale) for scale in SCALES]
)
COUNTS = np.array([21, 8, 4, 16], np.int32)
ONES = np.ones(4, np.float32)


@functools.lru_cache(maxsize=2)
def served(scale: str, scored: bool = True) -> tuple[Any, Any]:
    spec = DataSpec("speech", "real", SIZE, 12, sound=SCALES[scale])
    experiment = model_factory.experiment("gaussian", model="zforcing", score_first_frame=scored)
    model = models.build(experiment, spec)
    model_factory.randomise(model)
    path = Path(tempfile.mkdtemp(prefix="served-"))
    write_model(*serving_module(model, Wanted(spec)), path)
    return model, tf.saved_model.load(str(path)).signatures


def ask(scale: str, signature: str, scored: bool = True, **inputs: Any) -> dict[str, Any]:
    answers = served(scale, scored)[1][signature](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    return {name: value.numpy() for name, value in answers.items()}


def recordings() -> dict[str, np.ndarray]:
    """As a client has them: floats, with junk behind the end of each."""
    levels = np.random.default_rng(0).integers(-20000, 20000, (4, 21)).astype(np.float32)
    samples = levels / np.float32(32768)
    samples[np.arange(21) >= COUNTS[:, None]] = np.nan
    return {"samples": samples, "num_samples": COUNTS, "seed": SEED}


def frames(scale: str) -> list[np.ndarray]:
    """As the preparation of data has them."""
    given = recordings()["samples"]
    levels = [
        np.rint(row[:n] * 32768).astype(np.int16) for row, n in zip(given, COUNTS, strict=True)
    ]
    return [SCALES[scale].frames(whole_frames(one, SIZE)) for one in levels]


@each_scale
def test_what_is_heard_and_played_is_as_the_data_has_it(scale: str) -> None:
    sound = SCALES[scale]
    levels = np.arange(-32768, 32768).astype(np.int16)
    expected = sound.frames(levels)
    found = heard(tf.constant(levels.astype(np.float32) / 32768), sound)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-7)
    between = (levels.astype(np.float32) + 0.3) / 32768
    np.testing.assert_array_equal(heard(tf.constant(between), sound), found)
    loud = np.concatenate([expected, [9.0, -9.0]]).astype(np.float32)
    assert np.rint(played(tf.constant(loud), sound).numpy() * 32768).astype(int).tolist() == (
        sound.samples(loud).astype(int).tolist()
    )


@each_scale_slowly
def test_recordings_are_scored_as_their_frames(scale: str) -> None:
    model = served(scale)[0]
    score = ask(scale, "score_audio", **recordings())
    encoded = ask(scale, "encode_audio", **recordings())
    assert score["num_frames"].tolist() == encoded["num_frames"].tolist() == [5, 2, 1, 4]
    for row, x in enumerate(frames(scale)):
        seed = SEED[row : row + 1]
        expected = model.score(x[None], seed=seed)
        np.testing.assert_allclose(score["elbo"][row], expected.elbo[0], rtol=1e-5)
        assert not score["log_prob_per_step"][row, len(x) :].any()
        latents = model.encode(x[None], seed=seed).loc[0]
        np.testing.assert_allclose(encoded["latent_loc"][row, : len(x)], latents, atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "scored"),
    [
        slow_unless(scored == (scale == "standardised"), scale, scored)
        for scale in SCALES
        for scored in (True, False)
    ],
)
def test_a_reconstruction_is_as_long_as_its_frames(scale: str, scored: bool) -> None:
    model = served(scale, scored)[0]
    answer = ask(scale, "reconstruct_audio", scored, **recordings())
    assert answer["num_samples"].tolist() == [20, 8, 4, 16]
    for row, x in enumerate(frames(scale)):
        if not scored and len(x) == 1:
            means = x
        else:
            means = model.reconstruct(x[None], seed=SEED[row : row + 1])[0].numpy()
            means = means if scored else np.concatenate([x[:1], means])
        expected = SCALES[scale].samples(means).reshape(-1) / 32768
        np.testing.assert_allclose(answer["samples"][row, : expected.size], expected, atol=4e-5)
        assert not answer["samples"][row, expected.size :].any()


@each_scale_slowly
def test_as_many_samples_as_each_row_wants(scale: str) -> None:
    model, wanted = served(scale)[0], np.array([9, 1, 12, 5], np.int32)
    answer = ask(scale, "generate_audio", num_samples=wanted, seed=SEED, temperature=ONES)
    assert answer["samples"].shape == (4, 12)
    np.testing.assert_array_equal(answer["num_samples"], wanted)
    x = model.generate(3, seed=SEED).numpy()
    expected = SCALES[scale].samples(x).reshape(4, 12) / 32768
    expected[np.arange(12) >= wanted[:, None]] = 0
    np.testing.assert_allclose(answer["samples"], expected, atol=4e-5)
    longer = ask(scale, "continue_audio", **recordings(), num_wanted=wanted, temperature=ONES)
    for row, x in enumerate(frames(scale)):
        own = model.generate(3, seed=SEED[row : row + 1], prefix=x[None]).numpy()
        expected = SCALES[scale].samples(own).reshape(-1)[: wanted[row]] / 32768
        np.testing.assert_allclose(longer["samples"][row, : wanted[row]], expected, atol=4e-5)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_samples": COUNTS + 1},
         "num_samples[0] is 22; samples has 21 in a row and a frame takes 4: give 4 to 21"),
        ({"num_samples": COUNTS - 1}, "num_samples[2] is 3; samples has 21 in a row and a frame"),
        ({"num_samples": COUNTS[:3]}, "num_samples has 3 rows and samples has 4"),
        ({"samples": np.full((4, 21), 1.5, np.float32)},
         "samples[0, 0] is 1.5; give numbers of -1 to 1"),
        ({"samples": np.full((4, 21), np.nan, np.float32)}, "samples[0, 0] is nan; give numbers"),
        ({"samples": np.zeros((4, 0), np.float32), "num_samples": 0 * COUNTS},
         "num_samples[0] is 0; samples has 0 in a row"),
        ({name: value[:0] for name, value in recordings().items()},
         "samples has no rows; send one recording at least"),
    ],
)  # fmt: skip
def test_wrong_recordings_are_answered_with_a_sentence(
    wrong: dict[str, np.ndarray], sentence: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask("linear", "score_audio", **{**recordings(), **wrong})
    assert sentence in str(caught.value)


def test_wrong_wishes_are_answered_with_a_sentence() -> None:
    for wanted, sentence in [
        ([3, 0, 1, 1], "num_samples[1] is 0; give 1 or more"),
        ([400_001, 1, 1, 1], "num_samples asks for 400004 frames (rows times the longest)"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            ask(
                "linear",
                "generate_audio",
                num_samples=np.int32(wanted),
                seed=SEED,
                temperature=ONES,
            )
        assert sentence in str(caught.value)
