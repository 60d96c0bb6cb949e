"""Images as sequences of rows or pixels."""

from __future__ import annotations

import numpy as np
import pytest

from zforcing_tf.data.images import image_dataset, steps_per_image
from zforcing_tf.data.validation import validate
from zforcing_tf.errors import UserError

RANDOM = np.random.RandomState(0)
IMAGES = {
    split: RANDOM.randint(0, 2, (count, 6, 4)).astype(np.uint8)
    for split, count in (("train", 5), ("validation", 2), ("test", 1))
}


@pytest.mark.parametrize(
    ("rows_per_step", "num_steps", "frame_size"),
    [(0, 24, 1), (1, 6, 4), (2, 3, 8), (3, 2, 12), (6, 1, 24)],
)
def test_frames_are_the_pixels_in_raster_order(
    rows_per_step: int, num_steps: int, frame_size: int
) -> None:
    assert steps_per_image("some", (6, 4), rows_per_step) == num_steps
    dataset = image_dataset("some", IMAGES, num_steps)
    validate(dataset, num_steps)
    assert dataset.spec.frame_size == frame_size
    assert dataset.spec.max_length == num_steps
    assert dataset.spec.image_shape == (6, 4)
    x, lengths = dataset.train.padded(np.arange(5))
    assert x.shape == (5, num_steps, frame_size)
    assert set(lengths) == {num_steps}
    np.testing.assert_array_equal(x.reshape(IMAGES["train"].shape), IMAGES["train"])


@pytest.mark.parametrize("rows_per_step", [4, 5, 7, -1])
def test_rows_must_divide(rows_per_step: int) -> None:
    with pytest.raises(UserError) as error:
        steps_per_image("some", (6, 4), rows_per_step)
    assert str(error.value) == (
        f"--rows_per_step={rows_per_step} does not divide the 6 rows of an image of 'some': "
        "choose 1, 2, 3, 6, or 0 for one pixel in each step"
    )
