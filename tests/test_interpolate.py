"""Sentences between two sentences, and the program that writes them."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from tests import model_factory as factory
from zforcing_tf import interpolate
from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data import registry
from zforcing_tf.data.description import END, UNKNOWN, Text
from zforcing_tf.data.spec import Dataset, DataSpec, Split
from zforcing_tf.decoder import Decoder, Given
from zforcing_tf.errors import UserError
from zforcing_tf.interpolation import (
    EndPoint,
    as_markdown,
    as_text,
    columns,
    end_point,
    pairs_of,
    symbols_of,
)
from zforcing_tf.interpolation import interpolate as between
from zforcing_tf.randomness import SAMPLE_STEP
from zforcing_tf.sequence_model import SequenceModel
from zforcing_tf.training.checkpoint import Checkpoints, Progress
from zforcing_tf.training.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
TEXT = Text((END, UNKNOWN, "good", "bad", "film", "."))
CHARACTERS = Text((END, UNKNOWN, "a", "b", " ", "|"), "character")
STEPS = 8
each_model = pytest.mark.parametrize("name", ["storn", "vrnn", "srnn", "zforcing"])


def randomised(model: SequenceModel) -> SequenceModel:
    """With large weights and no bias of its own for each symbol, so that latents matter."""
    factory.randomise(model, scale=1.5)
    model.emission.output_bias.assign(tf.zeros_like(model.emission.output_bias))
    return model


def model_of(name: str, dtype: str = "float64") -> SequenceModel:
    return randomised(factory.build("categorical", model=name, dtype=dtype))


def symbols(*values: int) -> np.ndarray:
    return np.array([*values, TEXT.end], np.int32)


@each_model
def test_the_best_sample_has_the_greatest_importance_weight(name):
    """Weights in another order of computation, one by one; together they are the bound."""
    model, x, seed, count = model_of(name), symbols(2, 4, 5), (2**31 - 1, 4), 12
    found = end_point(model, x, count, seed, samples_at_once=5)
    scored = []
    for k in range(count):
        of_sample = (seed[0] + k * SAMPLE_STEP + 2**31) % 2**32 - 2**31
        row = np.array([[of_sample, seed[1]]], np.int32)
        weight = float(model.iwae(x[np.newaxis], num_samples=1, seed=row)[0])
        scored.append((weight, model.encode(x[np.newaxis], seed=row).latent[0].numpy()))
    weight, latents = max(scored, key=lambda each: each[0])
    assert found.log_weight == pytest.approx(weight, abs=1e-9)
    np.testing.assert_allclose(found.latents, latents, atol=1e-12)
    np.testing.assert_array_equal(found.symbols, x)
    bound = model.iwae(x[np.newaxis], num_samples=count, seed=np.array([seed], np.int32))
    mean = np.log(np.mean(np.exp([weight for weight, _ in scored])))
    assert float(bound[0]) == pytest.approx(mean, abs=1e-9)
    assert len({round(weight, 6) for weight, _ in scored}) == count


@each_model
def test_the_ends_are_decoded_as_by_themselves(name):
    """Whichever of the two is longer, and whatever stands at the other end."""
    model = model_of(name)
    decoder = Decoder(model, TEXT.end, [TEXT.unknown])
    ends = [end_point(model, x, 3, (0, i)) for i, x in enumerate((symbols(2, 3, 4, 5), symbols(3)))]
    for first, second in (ends, ends[::-1]):
        found = between(decoder, first, second, STEPS, num_points=3, top_k=6, beam=3, seed=(1, 2))
        assert list(found.decoded) == ["argmax", "top-6", "beam-3"]
        np.testing.assert_array_equal(found.weights, [0, 0.5, 1])
        for place, end in ((0, first), (2, second)):
            alone = Given.of(end.latents[np.newaxis], STEPS)
            seed = np.array([[1 + (1 << 27), 2]], np.int32)
            expected = (
                decoder.greedy(alone).x[0],
                decoder.sample(alone, 6, seed=seed).x[0],
                decoder.beam_search(alone, 3).x[0, 0],
            )
            for ours, own in zip(found.decoded.values(), expected, strict=True):
                np.testing.assert_array_equal(ours.x[place], own)


def test_the_middle_is_the_mean_of_both_where_both_have_latents():
    model = model_of("srnn")
    decoder, generator = Decoder(model, TEXT.end, [TEXT.unknown]), np.random.default_rng(0)
    latents = 2 * generator.standard_normal((2, STEPS, 2))
    first, second = (EndPoint(symbols(2), each, 0.0) for each in latents)
    found = between(decoder, first, second, STEPS, num_points=5)
    expected = decoder.greedy(Given.of(latents.mean(axis=0, keepdims=True)))
    np.testing.assert_array_equal(found.decoded["argmax"].x[2], expected.x[0])
    assert len(np.unique(found.decoded["argmax"].x, axis=0)) > 2


def test_all_points_share_the_noise_of_drawing():
    model = model_of("vrnn")
    end = end_point(model, symbols(2, 3), 2)
    decoder = Decoder(model, TEXT.end)
    found = between(decoder, end, end, STEPS, num_points=4, top_k=3)
    assert len(np.unique(found.decoded["top-3"].x, axis=0)) == 1


def split_of(*sentences: np.ndarray) -> Split:
    lengths = np.array([len(sentence) for sentence in sentences], np.int32)
    return Split("test", np.concatenate(sentences), lengths)


def test_pairs_are_of_different_sentences_that_are_fit():
    fit = [symbols(2, 3), symbols(3, 3), symbols(4), symbols(5, 4, 3), symbols(2)]
    split = split_of(symbols(), *fit, symbols(2, 1, 3), symbols(2, 2, 2, 2))
    pairs = pairs_of(split, TEXT, num_pairs=9, max_steps=4, seed=0)
    assert len(pairs) == 2  # of five sentences
    taken = [tuple(sentence) for pair in pairs for sentence in pair]
    assert len(set(taken)) == 4 and set(taken) <= {tuple(sentence) for sentence in fit}
    few = [pairs_of(split, TEXT, 1, 4, seed) for seed in (0, 0, 1, 2, 3)]
    assert all(len(pairs) == 1 for pairs in few)
    texts = [[TEXT.sentence(x) for x in pairs[0]] for pairs in few]
    assert texts[0] == texts[1] and any(other != texts[0] for other in texts)


def test_a_split_without_fit_sentences_says_so():
    split = split_of(symbols(2), symbols(2, 1), symbols(2, 2, 2, 2))
    with pytest.raises(UserError, match=r"^the test split has 1 sentences of 2 to 4 steps without"):
        pairs_of(split, TEXT, 1, 4, 0)


def test_sentences_of_users_become_symbols():
    found, unknown = symbols_of(" Good  film dull BAD dull . ", TEXT, 7)
    np.testing.assert_array_equal(found, [2, 4, 1, 3, 1, 5, 0])
    assert found.dtype == np.int32 and unknown == ["dull"]
    found, unknown = symbols_of("Good bad", TEXT, 7, lower_case=False)
    np.testing.assert_array_equal(found, [1, 3, 0])
    assert unknown == ["Good"]
    found, unknown = symbols_of("good </s> <unk> bad", TEXT, 7)
    np.testing.assert_array_equal(found, [2, 1, 1, 3, 0])
    assert unknown == [END, UNKNOWN]
    found, unknown = symbols_of("ab a|c", CHARACTERS, 7)
    np.testing.assert_array_equal(found, [2, 3, 4, 2, 5, 1, 0])
    assert unknown == ["c"]


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("", "a sentence to go from or to is empty: give one word at least"),
        ("  \t", "a sentence to go from or to is empty"),
        ("bad bad bad", "the sentence 'bad bad bad' has 4 steps, its end among them: give one of"),
    ],
)
def test_impossible_sentences_are_refused(sentence, message):
    with pytest.raises(UserError, match=f"^{message}"):
        symbols_of(sentence, TEXT, 3)


def decoded(*rows):
    model = model_of("vrnn")
    end = EndPoint(np.array([2, 4, 5, 0]), np.zeros((4, 2)), -3.25)
    found = between(Decoder(model), end, end, STEPS, num_points=len(rows))
    every = np.array(rows, np.int32)
    only = {"argmax": found.decoded["argmax"]._replace(x=every)}
    return found._replace(decoded=only)


def test_a_table_for_people():
    found = decoded([2, 4, 0], [0, 0, 0], [3, 3, 3])
    assert as_text(found, TEXT).splitlines() == [
        "first: good film . (log weight -3.2 nats)",
        "second: good film . (log weight -3.2 nats)",
        "",
        "weight  argmax",
        "0.0     good film",
        "0.5     (no words)",
        "1.0     bad bad bad ...",
    ]
    assert [column.values[1] for column in columns(decoded(*[[0, 0, 0]] * 4), TEXT)][0] == "0.33"


def test_markdown_takes_nothing_for_its_own():
    found = decoded([2, 5, 0], [5, 1, 0])
    page = as_markdown([found, found], CHARACTERS, "# Title")
    lines = page.splitlines()
    assert lines[0] == "# Title" and "## Pair 1" in lines and "## Pair 2" in lines
    assert lines.count("| 0.0 | a\\| |") == 2  # a bar is no end of a cell
    assert lines.count("| 1.0 | \\|\\<unk\\> |") == 2  # and no tag is left out
    assert lines.count("first: a | (log weight -3.2 nats)") == 2


def a_run(path: Path, text: Text | None = TEXT, **values) -> Path:
    """A run with a checkpoint of a model that was not trained."""
    config = factory.experiment("auto", run_dir=str(path), **values)
    kind, size = ("symbol", len(text.vocabulary)) if text else ("binary", 3)
    spec = DataSpec("reviews", kind, size, STEPS, text=text)
    run = RunDirectory(path)
    with run.lock():
        run.open_for_training(config)
        run.write_data(spec.to_json())
    from zforcing_tf import models

    model = models.build(config, spec)
    if text:
        randomised(model)
    model.compile(optimizer=models.optimizer(config, model), jit_compile=False)
    Checkpoints(run.checkpoints, model).save("best", Progress(epoch=1))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("interpolate") / "run", model="zforcing")


@pytest.fixture
def with_flags(monkeypatch):
    """Runs the program's main in this process."""
    given = {"first": None, "second": None, "num_points": 3, "pairs": 2, "max_steps": STEPS}
    given |= {"top_k": 3, "beam": 3, "num_samples": 4, "seed": 0}
    given |= {"checkpoint": "best", "data_dir": None, "manual_dir": None}

    def call(run_dir, **values):
        flag_values = types.SimpleNamespace(run_dir=str(run_dir), **{**given, **values})
        monkeypatch.setattr(flags, "FLAGS", flag_values)
        return interpolate.main()

    return call


def test_the_program_goes_between_sentences_that_are_given(run):
    """A process of its own; the data is not needed for it."""
    done = subprocess.run(
        [sys.executable, "-m", "zforcing_tf.interpolate", f"--run_dir={run}",
         "--first=Good film .", "--second=dull film", "--num_samples=5"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        0,
        "WARNING: not in the vocabulary of the run: dull\n",
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("first: good film . (log weight -")
    assert lines[1].startswith("second: <unk> film (log weight -")
    assert lines[3].split() == ["weight", "argmax", "top-10", "beam-10"]
    assert [line.split()[0] for line in lines[4:15]] == [f"{k / 10:.1f}" for k in range(11)]
    assert not any(UNKNOWN in line for line in lines[4:])
    path = run / "samples" / "interpolations.md"
    assert lines[15:] == ["", str(path)]
    page = path.read_text()
    assert page.startswith("# From one sentence to another\n") and page.count("## Pair") == 1
    assert "the best of 5 samples" in page and "second: \\<unk\\> film" in page
    # The same sentences in both forms.
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    cells = [" ".join(row.strip("| ").split(" | ")) for row in rows[2:]]
    assert cells == [" ".join(line.split()) for line in lines[4:15]]


def test_a_model_that_never_learned_how_sentences_begin(tmp_path, with_flags):
    run = a_run(tmp_path / "run", model="zforcing", score_first_frame=False)
    with pytest.raises(UserError, match="trained with --noscore_first_frame, so it never learned"):
        with_flags(run)


def test_pairs_of_the_test_split_by_the_seed(run, with_flags, monkeypatch, capsys):
    sentences = [symbols(*values) for values in ((2, 3), (3, 2), (4, 5), (5, 4), (2, 2), (3, 3))]
    test, spec = split_of(*sentences), DataSpec("reviews", "symbol", 6, STEPS, text=TEXT)
    data = Dataset(spec, test, test, test)
    asked = []
    monkeypatch.setattr(registry, "load", lambda *given: (asked.append(given), data)[1])
    pages = []
    for values in ({"data_dir": "/there"}, {}, {"seed": 1}):
        with_flags(run, **values)
        pages.append((run / "samples" / "interpolations.md").read_text())
    (config, place), *_ = asked
    assert isinstance(config, type(ExperimentConfig().data)) and place == "/there"
    assert pages[0] == pages[1] != pages[2]
    known = {f"first: {TEXT.sentence(x)}" for x in sentences}
    firsts = [line.partition(" (")[0] for line in pages[0].splitlines() if line[:6] == "first:"]
    assert len(set(firsts)) == 2 and set(firsts) <= known
    assert capsys.readouterr().out.count("weight  argmax") == 3  # one pair of each is printed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run_dir": ""}, "--run_dir is empty"),
        ({"first": "good"}, "--first needs another sentence at the other end: give --second too"),
        ({"second": "good"}, "--second needs another sentence at the other end: give --first too"),
        ({"first": "good", "second": " "}, "a sentence to go from or to is empty"),
        ({"first": "good", "second": "bad " * STEPS}, "the sentence 'bad .*' has 9 steps"),
    ],
)
def test_impossible_requests_are_refused(run, with_flags, values, message):
    with pytest.raises(UserError, match=f"^{message}"):
        with_flags(**{"run_dir": run, **values})


def test_a_run_that_is_no_text_is_refused(with_flags, tmp_path):
    path = a_run(tmp_path / "run", None)
    with pytest.raises(UserError, match=r"is a run on 'reviews', which is no text: this program"):
        with_flags(path)


def test_a_run_without_a_latent_is_refused(with_flags, tmp_path):
    path = a_run(tmp_path / "run", model="rnn")
    with pytest.raises(UserError, match=r"^the model rnn has no latent to decode"):
        with_flags(path, first="good", second="bad")


def test_what_cannot_be_written_is_said(run, with_flags):
    path = run / "samples" / "interpolations.md"
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(UserError, match=rf"^cannot write {path}: Is a directory; mend that"):
        with_flags(run, first="good", second="bad")
    path.rmdir()


def test_low_precision_decodes_too():
    model = randomised(factory.build("categorical", model="srnn", dtype="mixed_bfloat16"))
    ends = [end_point(model, x, 3) for x in (symbols(2, 3), symbols(4))]
    found = between(Decoder(model, TEXT.end), *ends, STEPS, num_points=4)
    for decoded in found.decoded.values():
        assert decoded.x.shape == (4, STEPS) and np.isfinite(decoded.log_prob).all()
