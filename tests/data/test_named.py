"""Any dataset of TensorFlow Datasets by its name, from a builder with features of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow_datasets as tfds

from zforcing_tf.config import DataConfig
from zforcing_tf.data import registry
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError

COUNTS = {"train": 3, "valid": 2, "test": 1}
TEXTS = ["A film.", "a film", "The end", "a", "an end", "film"]
_F = tfds.features


class EveryKind(tfds.core.GeneratorBasedBuilder):
    """Features of all kinds, in two configurations."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("good", "bad")]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=_F.FeaturesDict(
                {
                    "x": _F.Tensor(shape=(None, 3), dtype=np.float32),
                    "series": _F.Sequence(np.float64),
                    "rows": _F.Sequence(_F.Tensor(shape=(2,), dtype=np.float32)),
                    "tags": _F.Sequence(_F.ClassLabel(num_classes=7)),
                    "keys": _F.Tensor(shape=(None, 4), dtype=np.uint8),
                    "pairs": _F.Tensor(shape=(None, 2), dtype=np.int64),
                    "flags": _F.Tensor(shape=(5,), dtype=np.bool_),
                    "picture": _F.Image(shape=(4, 6, 1)),
                    "colours": _F.Image(shape=(4, 6, 3)),
                    "mask": _F.Image(shape=(4, 6, 1)),
                    "any_size": _F.Image(shape=(None, None, 1)),
                    "text": _F.Text(),
                    "texts": _F.Sequence(_F.Text()),
                    "sound": _F.Audio(),
                    "parts": _F.Sequence({"a": np.int64}),
                    "label": np.int64,
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[Any]:
        for key in range(COUNTS[split]):
            values = record(split, key)
            if self.builder_config.name == "bad" and (split, key) in (("train", 1), ("test", 0)):
                values["series"][2] = np.nan
            if self.builder_config.name == "bad" and (split, key) == ("valid", 1):
                values["x"][1, 2] = np.inf
                values["text"] = b"caf\xe9"
            yield key, values


def record(split: str, key: int) -> dict[str, Any]:
    seed = list(COUNTS).index(split) * 3 + key
    random = np.random.RandomState(seed)
    steps = 3 + seed

    def picture(*shape: int, high: int = 256) -> npt.NDArray[np.uint8]:
        return random.randint(0, high, shape).astype(np.uint8)

    return {
        "x": random.normal(size=(steps, 3)).astype(np.float32),
        "series": random.normal(size=steps),
        "rows": random.normal(size=(steps, 2)).astype(np.float32),
        "tags": random.randint(0, 5, steps),
        "keys": picture(steps, 4, high=2),
        "pairs": random.randint(0, 5, (steps, 2)),
        "flags": random.rand(5) < 0.5,
        "picture": picture(4, 6, 1),
        "colours": picture(4, 6, 3),
        "mask": picture(4, 6, 1, high=2),
        "any_size": picture(2, 2, 1),
        "text": TEXTS[sum(list(COUNTS.values())[: list(COUNTS).index(split)]) + key],
        "texts": ["a"],
        "sound": np.zeros(steps, np.int64),
        "parts": {"a": [1]},
        "label": key,
    }


class TrainOnly(tfds.core.GeneratorBasedBuilder):
    """One split of as many records as the configuration is called."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("2", "3", "25")]
    SPLITS = ("train",)

    def _info(self) -> tfds.core.DatasetInfo:
        features = _F.FeaturesDict({"x": _F.Tensor(shape=(2,), dtype=np.int64)})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples() for split in self.SPLITS}

    def _generate_examples(self) -> Iterator[Any]:
        for key in range(int(self.builder_config.name)):
            yield key, {"x": np.array([key, 0])}


class TrainAndTest(TrainOnly):
    SPLITS = ("train", "test")


class OnlyTest(TrainOnly):
    SPLITS = ("test",)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all of these are prepared on first use."""
    return tmp_path_factory.mktemp("prepared")


def load(root: Path, name: str, feature: str = "", **settings: Any) -> Dataset:
    return registry.load(
        DataConfig(f"tfds:{name}", data_dir=str(root), feature=feature, **settings)
    )


def values(feature: str) -> dict[str, list[npt.NDArray[Any]]]:
    names = {"train": "train", "validation": "valid", "test": "test"}
    return {
        split: [record(name, k)[feature] for k in range(COUNTS[name])]
        for split, name in names.items()
    }


def assert_frames(dataset: Dataset, expected: dict[str, list[npt.NDArray[Any]]]) -> None:
    for split in dataset.splits:
        wanted = [np.asarray(rows) for rows in expected[split.name]]
        assert split.lengths.tolist() == [len(rows) for rows in wanted]
        dtype = np.int32 if dataset.spec.kind == "symbol" else np.float32
        assert split.values.dtype == dtype
        np.testing.assert_array_equal(split.values, np.concatenate(wanted).astype(dtype))


@pytest.mark.parametrize(
    ("feature", "kind", "size"),
    [
        ("", "real", 3),
        ("rows", "real", 2),
        ("keys", "binary", 4),
    ],
)
def test_rows_of_numbers(root: Path, feature: str, kind: str, size: int) -> None:
    dataset = load(root, "every_kind/good", feature)
    assert (dataset.spec.name, dataset.spec.kind) == ("tfds:every_kind/good", kind)
    assert (dataset.spec.frame_size, dataset.spec.image_shape) == (size, None)
    assert_frames(dataset, values(feature or "x"))
    assert [("own units" in note) for note in dataset.notes] == [True] * (kind == "real")


@pytest.mark.parametrize(("feature", "kind"), [("series", "real"), ("flags", "binary")])
def test_single_numbers(root: Path, feature: str, kind: str) -> None:
    dataset = load(root, "every_kind", feature)  # without a configuration the first
    assert (dataset.spec.kind, dataset.spec.frame_size) == (kind, 1)
    expected = {s: [v[:, None] for v in rows] for s, rows in values(feature).items()}
    assert_frames(dataset, expected)


def test_symbols(root: Path) -> None:
    dataset = load(root, "every_kind/good", "tags")
    greatest = max(int(max(v)) for rows in values("tags").values() for v in rows)
    assert (dataset.spec.kind, dataset.spec.frame_size) == ("symbol", greatest + 1)
    assert_frames(dataset, values("tags"))


@pytest.mark.parametrize("rows_per_step", [1, 2, 0])
@pytest.mark.parametrize(
    ("feature", "channels", "kind", "scale"),
    [("picture", 1, "real", 255), ("colours", 3, "real", 255), ("mask", 1, "binary", 1)],
)
def test_images(
    root: Path, feature: str, channels: int, kind: str, scale: float, rows_per_step: int
) -> None:
    dataset = load(root, "every_kind/good", feature, rows_per_step=rows_per_step)
    steps = 4 // rows_per_step if rows_per_step else 24
    assert (dataset.spec.kind, dataset.spec.max_length) == (kind, steps)
    assert dataset.spec.frame_size == 24 * channels // steps
    assert dataset.spec.image_shape == ((4, 6) if channels == 1 else None)
    expected = {
        split: [v.reshape(steps, -1).astype(np.float32) / np.float32(scale) for v in rows]
        for split, rows in values(feature).items()
    }
    assert_frames(dataset, expected)


def test_text(root: Path) -> None:
    dataset = load(root, "every_kind/good", "text")
    text = dataset.spec.text
    assert text is not None
    assert text.vocabulary == ("</s>", "<unk>", "a", "film", ".", "end", "the")
    assert_frames(
        dataset,
        {
            "train": [np.array(v) for v in ([2, 3, 4, 0], [2, 3, 0], [6, 5, 0])],
            "validation": [np.array(v) for v in ([2, 0], [1, 5, 0])],
            "test": [np.array([3, 0])],
        },
    )


def test_text_in_another_encoding(root: Path) -> None:
    for _ in range(2):  # what was taken with them left out is not taken without being asked
        with pytest.raises(UserError) as error:
            load(root, "every_kind/bad", "text")
        assert str(error.value) == (
            "record 1 of split valid is not in UTF-8 (byte 4 of it) (records counted from 0), in "
            "feature 'text' of dataset 'every_kind/bad': prepare it in UTF-8, or have such texts "
            "left out with --skip_bad_records"
        )
        dataset = load(root, "every_kind/bad", "text", skip_bad_records=True)
        assert dataset.skipped == ("record 1 of split valid is not in UTF-8 (byte 4 of it)",)
        assert dataset.validation.num_sequences == 1
        assert any(
            note.startswith("tfds:every_kind/bad validation: 1 texts, 2 tokens")
            and note.endswith("; 0 texts left out for their length")
            for note in dataset.notes
        )


@pytest.mark.parametrize("count", [3, 25])
def test_missing_splits_are_cut_off_the_end(root: Path, count: int) -> None:
    size = max(1, count // 10)
    dataset = load(root, f"train_only/{count}")
    first = [split.values.reshape(-1, 2)[:, 0].tolist() for split in dataset.splits]
    cuts = [list(range(count))[i:j] for i, j in ((0, -2 * size), (-2 * size, -size), (-size, None))]
    assert first == cuts
    assert dataset.notes == (
        f"tfds:train_only/{count} has no split test: it is cut off, as "
        f"train[{count - size}:{count}]",
        f"tfds:train_only/{count} has no split validation: it is cut off, as "
        f"train[{count - 2 * size}:{count - size}]",
    )
    dataset = load(root, f"train_and_test/{count}")
    first = [split.values.reshape(-1, 2)[:, 0].tolist() for split in dataset.splits]
    whole = list(range(count))
    assert first == [whole[:-size], whole[-size:], whole]


def test_splits_that_cannot_be_had(root: Path) -> None:
    with pytest.raises(UserError, match="no split test and no split validation, and too few recor"):
        load(root, "train_only/2")
    with pytest.raises(
        UserError, match="'only_test' has the splits test but no train: choose anot"
    ):
        load(root, "only_test")


def test_not_finite(root: Path) -> None:
    with pytest.raises(UserError) as error:
        load(root, "every_kind/bad", "series")
    assert str(error.value) == (
        "record 1 of split train holds nan in step 2, which is no finite number of 32 bits "
        "(counted from 0), in feature 'series' of dataset 'every_kind/bad': repair the dataset, or "
        "have such records left out with --skip_bad_records"
    )
    with pytest.raises(UserError, match="record 1 of split valid holds inf in step 1, which is no"):
        load(root, "every_kind/bad")
    for _ in range(2):
        dataset = load(root, "every_kind/bad", skip_bad_records=True)
        expected = values("x")
        del expected["validation"][1]
        assert_frames(dataset, expected)
        assert dataset.skipped == (
            "record 1 of split valid holds inf in step 1, which is no finite number of 32 bits",
        )
    with pytest.raises(
        UserError, match="split 'test' of dataset .* has no sequence of at least on"
    ):
        load(root, "every_kind/bad", "series", skip_bad_records=True)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("sound", "'sound' of dataset .* is sound: have its recordings .* --dataset=audio_folder"),
        ("pairs", "'pairs' of dataset .* holds integers in frames of 2 numbers: choose one of flo"),
        ("any_size", r"holds images of different sizes, \[None, None, 1\]: prepare the dataset"),
        ("texts", "'texts' of dataset .* holds object values: choose one of numbers, text or ima"),
        ("parts", "'parts' of dataset .* holds a: choose a feature without parts"),
        ("label", r"'label' of dataset .* has the shape \[\]: choose one of \[steps, numbers\] or"),
        (
            "y",
            "'every_kind/good' has no feature 'y' but x, series, rows, tags, keys, pairs, flags, "
            "picture, colours, mask, any_size, text, texts, sound, parts, label: choose one of the",
        ),
    ],
)
def test_features_that_cannot_be_used(root: Path, feature: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(root, "every_kind/good", feature)


def test_rows_that_do_not_divide(root: Path) -> None:
    with pytest.raises(UserError, match="--rows_per_step=3 does not divide the 4 rows of an image"):
        load(root, "every_kind/good", "picture", rows_per_step=3)


@pytest.mark.parametrize("name", ["no_such_thing", "every_kind/no_such_configuration", ""])
def test_unknown_names(root: Path, name: str) -> None:
    message = f"finds no dataset {name!r} .*: mend the name in --dataset=tfds:{name}, or name the f"
    with pytest.raises(UserError, match=message):
        load(root, name)


def test_prepared_without_its_code(root: Path) -> None:
    """As it is in another program, where only the files are known."""
    load(root, "every_kind/good")
    registered = tfds.core.registered._DATASET_REGISTRY
    code = registered.pop("every_kind")
    try:
        dataset = load(root, "every_kind/good")
    finally:
        registered["every_kind"] = code
    assert_frames(dataset, values("x"))
