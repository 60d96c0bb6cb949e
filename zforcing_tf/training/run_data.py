"""The data of a run that is there already: the same as it was trained on, or none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from zforcing_tf.config import DataConfig
from zforcing_tf.data import identity, registry
from zforcing_tf.data.spec import Dataset
from zforcing_tf.errors import UserError
from zforcing_tf.training.json_files import read_json
from zforcing_tf.training.run_directory import RunDirectory


def load_data(
    run: RunDirectory,
    data: DataConfig,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> Dataset:
    """The dataset that a run was trained on.

    Args:
        run: the run.
        data: its settings, or such as cut the same sequences otherwise.
        data_dir: where TFDS keeps its datasets now; None: where the run had them.
        manual_dir: where what the user brought is now; None: where the run had it.

    Raises:
        UserError: it cannot be had, or other data is there now.
    """
    if manual_dir is not None:
        data = dataclasses.replace(data, manual_dir=manual_dir)
    elif data.manual_dir and not Path(data.manual_dir).expanduser().exists():
        raise UserError(
            f"the data of {run.path} is no longer at {data.manual_dir} (seen from {Path.cwd()}): "
            "say with --manual_dir where it is now"
        )
    dataset = registry.load(data, data_dir)
    check_data(run, dataset)
    return dataset


def check_data(run: RunDirectory, dataset: Dataset) -> None:
    """UserError if a run was trained on other data than this."""
    if not run.data.exists():
        return
    changes = identity.differences(read_json(run.data), identity.described(dataset))
    if changes:
        raise UserError(
            f"{run.path} was trained on other data than is there now ({'; '.join(changes)}): "
            "give what it was trained on with --manual_dir or --data_dir, or train on this in "
            "another --run_dir"
        )
