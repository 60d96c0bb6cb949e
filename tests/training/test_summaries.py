"""What TensorBoard finds in a run."""

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.training.fit import fit
from zforcing_tf.training.history import History
from zforcing_tf.training.run_directory import RunDirectory
from zforcing_tf.training.summaries import Summaries


def written(folder):
    """Tag -> step -> value, of all event files of a folder; images become [n, H, W, C]."""
    found = defaultdict(dict)
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                if value.metadata.plugin_data.plugin_name == "images":
                    array = np.stack([tf.image.decode_png(png).numpy() for png in array[2:]])
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


def test_other_data_has_no_images(tmp_path):
    summaries = Summaries(tmp_path)
    summaries.samples(7, model_factory.build("gaussian"), model_factory.spec("gaussian"), 5)
    summaries.flush()
    assert not written(tmp_path / "train")
