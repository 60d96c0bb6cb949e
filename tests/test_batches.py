"""What `fit` and `evaluate` of the Python API say to batches that are none."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import model_factory as factory
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.errors import UserError

X = factory.batch("gaussian")["x"]


def fit(batch):
    model = factory.trainable("gaussian")
    return model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history


def test_without_lengths_all_steps_count():
    whole = fit({"x": X, "lengths": np.full(3, 5, np.int32)})
    assert fit({"x": X}) == whole


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (X, r'a batch is .*; give a data set of batches \{"x"'),
        ({"frames": X}, 'give a data set of batches {"x"'),
        ({"x": X[..., :2]}, "frames of x have width 2; this model takes"),
        ({"x": X[0]}, "x has shape"),
        ({"x": X, "lengths": np.full(2, 5)}, "x has 3 rows: give one length each"),
        ({"x": X, "lengths": np.full(3, 2.5)}, "lengths are float64; give whole numbers"),
    ],
)
def test_a_batch_that_does_not_fit(batch, message):
    with pytest.raises(
        UserError, match=message.replace("{", r"\{") if "\\" not in message else message
    ):
        fit(batch)


@pytest.mark.parametrize("lengths", [(5, 0, 5), (5, 6, 5), (-1, 5, 5)])
def test_impossible_lengths(lengths):
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be 1 to its number of steps"):
        fit({"x": X, "lengths": np.array(lengths, np.int32)})


def test_an_epoch_without_any_update_has_no_bound():
    history = fit({"x": np.full_like(X, np.nan), "lengths": np.full(3, 5, np.int32)})
    assert history["skipped_updates"] == [1.0] and np.isnan(history["elbo"]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kind": "symbols"},
            "data of kind 'symbols' is unknown: give one of binary, real, symbol",
        ),
        ({"frame_size": 0}, "frame_size of data is 0: give 1 or more"),
        ({"max_length": -1}, "max_length of data is -1: give 1 or more"),
    ],
)
def test_a_description_of_data_that_means_nothing(fields, message):
    with pytest.raises(UserError, match=message):
        DataSpec(**{"name": "mine", "kind": "real", "frame_size": 3, "max_length": 5, **fields})
