"""What TensorBoard finds in a run."""

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory
from zforcing_tf.data.description import Music, Sound, Text
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.training.fit import fit
from zforcing_tf.training.history import History
from zforcing_tf.training.run_directory import RunDirectory
from zforcing_tf.training.summaries import Summaries


def written(folder):
    """Tag -> step -> value, of all event files of a folder.

    Images become [n, H, W, C], audio the rate and [n, t] numbers, text strings.
    """
    found = defaultdict(dict)
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                plugin = value.metadata.plugin_data.plugin_name
                if plugin == "images":
                    array = np.stack([tf.image.decode_png(png).numpy() for png in array[2:]])
                if plugin == "audio":
                    sounds = [tf.audio.decode_wav(wav) for wav in array[:, 0]]
                    (rate,) = {int(sound.sample_rate) for sound in sounds}
                    array = rate, np.stack([sound.audio.numpy()[:, 0] for sound in sounds])
                found[value.tag][event.step] = array
    return found


def test_a_training_writes_what_the_history_has(experiment):
    fit(experiment)
    run = RunDirectory(experiment.run.run_dir)
    rows = History(run.history).rows()
    for split in ("train", "validation"):
        found = written(run.summaries / split)
        names = [name for name in rows[0] if name.startswith(f"{split}_")]
        assert set(found) == {name.removeprefix(f"{split}_") for name in names}
        for name in names:
            values = found[name.removeprefix(f"{split}_")]
            for row in rows:
                assert float(values[int(row["step"])]) == pytest.approx(row[name], rel=1e-6)


def test_samples_are_shown_as_images(tmp_path):
    """Binary pictures of 3 x 4, of which a frame holds one row of three."""
    spec = DataSpec("images", "binary", model_factory.FRAME_SIZE, 4, (4, 3))
    model, summaries = model_factory.build("bernoulli"), Summaries(tmp_path)
    summaries.samples(7, model, spec, 5)
    summaries.samples(8, model, spec, 0)
    summaries.flush()
    found = written(tmp_path / "train")
    assert {tag.rpartition("/")[0] or tag for tag in found} == {"samples"}
    ((step, images),) = next(iter(found.values())).items()
    assert (step, images.shape) == (7, (5, 4, 3, 1))
    expected = np.reshape(model.generate(4, 5, seed=7), images.shape)
    np.testing.assert_array_equal(images, 255 * expected.astype(np.uint8))


def test_samples_begin_with_the_first_frames_that_a_model_is_given(tmp_path):
    spec = DataSpec("images", "binary", model_factory.FRAME_SIZE, 4, (4, 3))
    model = model_factory.build("bernoulli", score_first_frame=False)
    first = np.array([[[1, 0, 1]], [[0, 1, 1]]], np.float32)
    summaries = Summaries(tmp_path)
    summaries.samples(7, model, spec, 5, first)
    summaries.flush()
    ((_, images),) = next(iter(written(tmp_path / "train").values())).items()
    np.testing.assert_array_equal(images[:, 0, :, 0], 255 * first[:, 0])
    rest = model.generate(3, None, seed=7, prefix=first)
    np.testing.assert_array_equal(images[:, 1:, :, 0], 255 * np.array(rest))


def test_other_data_has_no_images(tmp_path):
    summaries = Summaries(tmp_path)
    summaries.samples(7, model_factory.build("gaussian"), model_factory.spec("gaussian"), 5)
    summaries.flush()
    assert not written(tmp_path / "train")


def only(values):
    """The one step of a tag, and its value."""
    ((step, value),) = values.items()
    return step, value


def test_samples_of_sound_are_heard_and_seen(tmp_path):
    """A second, at 30 samples a second and 3 in a frame: 10 steps, and 4 sequences of 9 asked."""
    sound = Sound(30, loc=0.01, scale=0.1)
    spec = DataSpec("sound", "real", model_factory.FRAME_SIZE, 500, sound=sound)
    model, summaries = model_factory.build("gaussian"), Summaries(tmp_path)
    summaries.samples(7, model, spec, 9)
    summaries.flush()
    found = written(tmp_path / "train")
    assert set(found) == {"samples", "spectrograms"}
    expected = sound.samples(model.generate(10, 4, seed=7)).reshape(4, 30)
    step, (rate, audio) = only(found["samples"])
    assert (step, rate, audio.shape) == (7, 30, (4, 30))
    np.testing.assert_allclose(audio * 32768, expected, atol=2)
    step, images = only(found["spectrograms"])
    assert (step, images.shape[0], images.shape[3], images.dtype) == (7, 4, 1, np.uint8)
    assert images.max() == 255


def test_samples_of_music_are_piano_rolls(tmp_path):
    """10 seconds in steps of 2: 5 steps of 8 pixels, 3 keys of 4 pixels, the highest above."""
    music = Music(lowest_key=60, step_seconds=2.0)
    spec = DataSpec("music", "binary", model_factory.FRAME_SIZE, 500, music=music)
    model, summaries = model_factory.build("bernoulli"), Summaries(tmp_path)
    summaries.samples(7, model, spec, 2)
    summaries.flush()
    step, images = only(written(tmp_path / "train")["samples"])
    assert (step, images.shape) == (7, (2, 12, 40, 1))
    roll = model.generate(5, 2, seed=7).numpy()
    np.testing.assert_array_equal(
        images[:, 2::4, 3::8, 0], 255 - 255 * roll[..., ::-1].transpose(0, 2, 1)
    )
    assert 0 < roll.mean() < 1


def test_samples_of_text_are_sentences(tmp_path):
    words = ("</s>", "<unk>", "a", "good", "bad", "film")
    spec = DataSpec("text", "symbol", model_factory.VOCABULARY, 9, text=Text(words))
    model, summaries = model_factory.build("categorical"), Summaries(tmp_path)
    summaries.samples(7, model, spec, 9)
    summaries.flush()
    step, block = only(written(tmp_path / "train")["samples"])
    lines = block.item().decode().splitlines()
    assert step == 7 and len(lines) == 4
    for line, symbols in zip(lines, model.generate(9, 4, seed=7).numpy(), strict=True):
        assert line.startswith("    ")
        assert line.strip().startswith(spec.text.sentence(symbols) or "(no words)")


def test_samples_are_no_longer_than_sequences_of_the_data(tmp_path):
    spec = DataSpec("music", "binary", model_factory.FRAME_SIZE, 2, music=Music(60, 0.5))
    summaries = Summaries(tmp_path)
    summaries.samples(7, model_factory.build("bernoulli"), spec, 1)
    summaries.flush()
    assert only(written(tmp_path / "train")["samples"])[1].shape == (1, 12, 16, 1)
