"""Pictures and arrays of sequences: that they are there, with all rows and what was to be drawn."""

import matplotlib.image
import numpy as np
import pytest

from zforcing_tf import pictures
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.sampling import Row

IMAGES = DataSpec("images", "binary", 4, 4, (4, 4))
CURVES = DataSpec("curves", "real", 2, 6)
SYMBOLS = DataSpec("text", "symbol", 5, 6)


def rows(count, *, given=0, sequences=3, steps=4, width=4):
    x = np.random.default_rng(0).integers(0, 2, (sequences, steps, width)).astype(np.float32)
    lengths = np.full(sequences, steps, np.int32)
    return [Row(f"row_{i}", f"row {i}", x, lengths, given) for i in range(count)]


def drawn(path, *arguments):
    """The pixels of a picture, [rows, columns, 4]."""
    assert pictures.save_gallery(path, *arguments) == [path]
    return matplotlib.image.imread(path)


@pytest.mark.parametrize("spec", [IMAGES, CURVES], ids=["images", "curves"])
def test_a_picture_has_all_rows(tmp_path, spec):
    """As high as there are rows, as wide as the longest has sequences, 16 at most."""
    for count in (1, 4):
        width = 4 if spec is IMAGES else 2
        picture = drawn(tmp_path / "new" / "a.png", rows(count, width=width), spec)
        assert picture.shape[:2] == (int(0.95 * 150 * count), int(0.62 * 150 * 3))
        bands = np.array_split(picture[..., :3].min(axis=2), count)
        assert all((band < 0.5).any() for band in bands)
    wide = drawn(tmp_path / "b.png", rows(1, sequences=40, width=width), spec)
    assert wide.shape[1] == int(0.62 * 150 * 16)


def test_pixels_are_those_of_the_sequence(tmp_path):
    """All ones are black, all zeros white; what lies behind the end of a sequence is not drawn."""
    x = np.ones((2, 4, 4), np.float32)
    x[1] = 0
    lengths = np.array([2, 4], np.int32)
    picture = drawn(tmp_path / "a.png", [Row("row", "", x, lengths)], IMAGES)[..., 0]
    left, right = np.array_split(picture, 2, axis=1)
    assert 0.2 < np.mean(left < 0.1) < 0.5  # the upper half of its image
    assert np.mean(right < 0.1) == 0


def test_what_was_given_is_marked(tmp_path):
    for spec, width in ((IMAGES, 4), (CURVES, 2)):
        plain = drawn(tmp_path / "a.png", rows(1, width=width), spec)
        marked = drawn(tmp_path / "b.png", rows(1, width=width, given=2), spec)
        assert plain.shape == marked.shape and (plain != marked).any()


def test_rows_of_fewer_sequences_leave_room(tmp_path):
    short = rows(1, sequences=1)[0]
    picture = drawn(tmp_path / "a.png", [*rows(1), short], IMAGES)
    assert (picture[picture.shape[0] // 2 :, picture.shape[1] // 2 :, :3] == 1).all()


def test_symbols_are_not_drawn(tmp_path):
    assert pictures.save_gallery(tmp_path / "a.png", rows(2), SYMBOLS) == []
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_kept_by_name(tmp_path):
    path = tmp_path / "new" / "samples.npz"
    assert pictures.save_arrays(path, rows(2)) == path
    with np.load(path) as arrays:
        assert set(arrays) == {"row_0", "row_0_lengths", "row_1", "row_1_lengths"}
        np.testing.assert_array_equal(arrays["row_1"], rows(2)[1].x)
        assert arrays["row_0_lengths"].tolist() == [4, 4, 4]
