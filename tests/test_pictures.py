"""Pictures and arrays of sequences: that they are there, with all rows and what was to be drawn."""

import contextlib

import matplotlib.image
import numpy as np
import pytest

from zforcing_tf import music_pictures, picture_grid, pictures, sound_pictures
from zforcing_tf.data.description import Music, Sound
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


RATE = 8000
SOUND = DataSpec("sound", "real", 80, 100, sound=Sound(RATE))
MUSIC = DataSpec("music", "binary", 88, 100, music=Music(21, 0.5))


def sine(hertz, amplitude=0.5, steps=50):
    t = np.arange(80 * steps) / RATE
    return (amplitude * np.sin(2 * np.pi * hertz * t)).reshape(1, steps, 80).astype(np.float32)


def row_of(x, given=0, length=None):
    return Row("row", "row", x, np.full(len(x), length or x.shape[1], np.int32), given)


@pytest.fixture
def panels(monkeypatch):
    """The axes of each picture, [row][sequence][part], as they were when it was saved."""
    pages, page = [], picture_grid.page

    @contextlib.contextmanager
    def kept(*arguments, **values):
        with page(*arguments, **values) as made:
            pages.append(made.panels)
            yield made

    for module in (sound_pictures, music_pictures):
        monkeypatch.setattr(module, "page", kept)
    return pages


def test_a_sound_is_drawn_over_seconds_and_kilohertz(tmp_path, panels):
    """1 kHz is a quarter of 4 kHz from below; the real sound is 0.5 s and decides about colours."""
    rows = [row_of(sine(1000)), row_of(sine(2000, 0.005, 100), given=25)]
    drawn(tmp_path / "a.png", rows, SOUND)
    ((real,), (other,)) = panels[0]
    assert [axis.get_xlim() for axis in (*real, *other)] == [(0, 1)] * 4
    images = [axis.get_images()[0] for axis in (real[1], other[1])]
    assert [image.get_extent() for image in images] == [[0, 0.5, 0, 4], [0, 1, 0, 4]]
    bins = [np.argmax(np.mean(image.get_array(), axis=1)) for image in images]
    assert bins == [32, 64]  # of 128 up to 4 kHz
    (low, high), again = (image.get_clim() for image in images)
    assert (low, high) == again
    assert high == pytest.approx(-6, abs=0.1) and high - low == pytest.approx(70)
    assert [len(axis.get_lines()) for axis in (*real, *other)] == [1, 0, 2, 1]
    assert other[1].get_lines()[0].get_xdata() == [0.25, 0.25]
    np.testing.assert_allclose(real[0].get_lines()[0].get_ydata(), sine(1000).ravel(), atol=2e-5)


def test_silence_has_a_picture(tmp_path):
    drawn(tmp_path / "a.png", [row_of(np.zeros((2, 3, 80), np.float32))], SOUND)
    drawn(tmp_path / "b.png", [row_of(np.zeros((2, 3, 88), np.float32))], MUSIC)


def test_music_is_drawn_over_seconds_and_keys(tmp_path, panels):
    """C4 and A5 alone are played, so that keys from three below to three above are drawn."""
    x = np.zeros((1, 8, 88), np.float32)
    x[0, :4, 60 - 21] = 1
    x[0, 4:6, 81 - 21] = 0.4
    drawn(tmp_path / "a.png", [row_of(x, given=3, length=7)], MUSIC)
    ((((axis,),),),) = panels
    (image,) = axis.get_images()
    assert image.get_extent() == [0, 3.5, 56.5, 84.5]
    assert axis.get_ylim() == (56.5, 84.5)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["C4", "C5", "C6"]
    assert axis.get_yticks().tolist() == [60, 72, 84]
    np.testing.assert_array_equal(image.get_array().filled(0), x[0, :7, 36:64].T)
    (given,) = axis.patches
    assert given.get_extents().transformed(axis.transData.inverted()).x1 == pytest.approx(1.5)


def test_keys_have_names():
    names = [music_pictures.key_name(key) for key in (21, 36, 60, 61, 69, 108)]
    assert names == ["A0", "C2", "C4", "C#4", "A4", "C8"]


def test_pages_have_four_columns_at_most_and_room_where_sequences_lack(tmp_path, panels):
    many, one = np.zeros((2, 6, 3, 88), np.float32), np.zeros((1, 3, 88), np.float32)
    drawn(tmp_path / "a.png", [row_of(many[0]), row_of(one)], MUSIC)
    (first, second) = panels[0]
    assert len(first) == len(second) == 4
    assert [parts[0].axison for parts in second] == [True, False, False, False]
    assert [len(parts[0].get_images()) for parts in second] == [1, 0, 0, 0]
