"""Writes the SavedModel of a trained run, which TensorFlow alone loads and a model server serves.

  python -m export.saved_model --run_dir=runs/digits --export_dir=exports/digits

writes exports/digits/<version>/, the version being the training step: the model, and in
assets.extra/ the configuration and results of the run, the signatures of the model, MODEL_CARD.md,
and requests by which a server warms up. It appears only after it has given the answers of the
Python model, in a process without this library and through the C++ loader of a server. Takes a
minute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from absl import flags, logging

from zforcing_tf import programs
from zforcing_tf.errors import UserError

if TYPE_CHECKING:
    from zforcing_tf.config import ExperimentConfig
    from zforcing_tf.data.spec import DataSpec, Split
    from zforcing_tf.sequence_model import SequenceModel
    from zforcing_tf.training.run_directory import RunDirectory

EXTRA = "assets.extra"
"""Folder of a SavedModel that TensorFlow leaves to others."""


def export(
    run_dir: str | os.PathLike[str],
    export_dir: str | os.PathLike[str],
    checkpoint: Literal["best", "last"] = "best",
    version: int | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    iwae_samples: int = 0,
    dtype: str | None = None,
    keep_versions: int = 0,
    enable_xla: bool = False,
) -> Path:
    """Exports the model of a run.

    Args:
        run_dir: folder of the run.
        export_dir: folder of all versions of the model; made if it is missing.
        checkpoint: weights of the best epoch, or the last ones.
        version: a number, at least 0; by default the training step.
        data_dir: where TFDS keeps the run's data, on whose validation split the export is tried; by
            default where the run had it. Without the data it is tried on what the model generates.
        manual_dir: the same of data that the user brought.
        iwae_samples: K of the signature `score_iwae`; 0: without it.
        dtype: in which the model computes, such as `mixed_bfloat16`; by default that of the run.
        keep_versions: how many exports stay, this one among them: older ones are removed when it
            is there. 0: all.
        enable_xla: whether XLA compiles the signatures, `step` and `score_iwae` excepted, for each
            number of rows and steps when it is first asked for.

    Returns:
        `<export_dir>/<version>`.

    Raises:
        UserError: no run or no checkpoint there, a version that exists, a folder that cannot be
            written, or a SavedModel that does not answer as the model does. Nothing has been
            exported then.
    """
    from zforcing_tf.training.run_directory import RunDirectory

    folder, run = _local(export_dir), RunDirectory(os.fspath(run_dir))
    # What is wrong with either shows before TensorFlow is imported.
    trained_dtype = run.open_for_reading().run.dtype
    from .staging import refuse_existing, refuse_place, remove_older, staged

    refuse_place(folder)
    if version is not None:
        refuse_existing(folder / str(version))
    from zforcing_tf.training.checkpoint import load_model

    from .endpoint import Wanted
    from .model_card import Exported, model_card
    from .signatures import listing, serving_module
    from .verify import expectations, verify
    from .warmup import write_warmup

    model, config, spec, step = load_model(run.path, checkpoint, dtype)
    version = step if version is None else version
    refuse_existing(folder / str(version))
    wanted = Wanted(spec, config.data.lower_case, iwae_samples, enable_xla)
    module, signatures = serving_module(model, wanted)
    split = _sequences(run, model, config, spec, data_dir, manual_dir)
    expected = expectations(model, listing(signatures), split, wanted)
    with staged(folder, version) as staging:
        write_model(module, signatures, staging)
        exported = Exported(
            version, step, checkpoint, config.run.dtype, trained_dtype, iwae_samples, enable_xla
        )
        _describe(run, exported._asdict(), listing(signatures), staging / EXTRA)
        results, shown = run.read_results(), summary(listing(signatures))
        card = model_card(config, spec, results, exported, shown)
        (staging / EXTRA / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        verify(staging, expected)
        write_warmup(staging / EXTRA, folder.name, expected.cases, spec.frame_size)
    remove_older(folder, version, keep_versions)
    return folder / str(version)


def _sequences(
    run: RunDirectory,
    model: SequenceModel,
    config: ExperimentConfig,
    spec: DataSpec,
    data_dir: str | None,
    manual_dir: str | None,
) -> Split:
    """What an export is tried on."""
    from zforcing_tf.training.run_data import load_data

    from .cases import generated

    try:
        return load_data(run, config.data, data_dir, manual_dir).validation
    except UserError as error:
        logging.warning("verifying on sequences that the model generates, without data: %s", error)
        return generated(model, spec.max_length)


def _local(export_dir: str | os.PathLike[str]) -> Path:
    path = os.fspath(export_dir)
    if not path:
        raise UserError("--export_dir is empty; give the model's folder, such as exports/digits")
    if "://" in path:
        raise UserError(f"--export_dir={path} is not a local folder; export to one, then copy it")
    return Path(path).expanduser().absolute()


def write_model(module: Any, signatures: Mapping[str, Any], path: Path) -> None:
    """Writes what `serving_module` gives as a SavedModel, without the gradients of its functions.

    Raises:
        UserError: TensorFlow cannot write there.
    """
    import tensorflow as tf

    from zforcing_tf.training.writing import reason

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(path), signatures=dict(signatures), options=options)
    except tf.errors.OpError as error:
        raise UserError(
            f"the SavedModel cannot be written to {path.parent} ({reason(error)}); make "
            "room there, or give another --export_dir"
        ) from error


def _describe(
    run: RunDirectory, exported: Mapping[str, Any], listing: Mapping[str, Any], path: Path
) -> None:
    """Writes what the run was, and what can be asked, into a folder of the SavedModel."""
    import shutil

    from zforcing_tf.training.json_files import write_json

    path.mkdir()
    for file in (run.config, run.data, run.results):
        if file.exists():
            shutil.copyfile(file, path / file.name)
    write_json(path / "export.json", exported)
    write_json(path / "signatures.json", listing)


def summary(listing: Mapping[str, Any]) -> str:
    """The signatures in two lines each: `score  x float32 [?, ?, 16], ...`, `-> elbo float32`."""

    def one(name: str, spec: Mapping[str, Any]) -> str:
        shape = ", ".join("?" if size is None else str(size) for size in spec["shape"])
        return f"{name} {spec['dtype']} [{shape}]"

    def side(specs: Mapping[str, Any]) -> str:
        return ", ".join(one(name, spec) for name, spec in specs.items())

    width = max(map(len, listing))
    lines = []
    for name, specs in listing.items():
        lines.append(f"{name.ljust(width)}  {side(specs['inputs'])}")
        lines.append(f"{' ' * width}  -> {side(specs['outputs'])}")
    return "\n".join(lines)


def snippet(path: Path, listing: Mapping[str, Any], num_steps: int) -> str:
    """Five lines of Python that load a SavedModel and score two sequences with TensorFlow alone."""
    spec = listing["score"]["inputs"]["x"]
    shape = [2, num_steps, *spec["shape"][2:]]
    return "\n".join(
        (
            "import tensorflow as tf",
            f'score = tf.saved_model.load({str(path)!r}).signatures["score"]',
            f"x = tf.zeros({shape}, tf.{spec['dtype']})  # two sequences of {num_steps} frames",
            f"lengths, seed = tf.fill([2], {num_steps}), tf.constant([[0, 1], [0, 2]])",
            'print(score(x=x, lengths=lengths, seed=seed)["elbo"])  # nats, for each sequence',
        )
    )


def main() -> None:
    """Runs the program."""
    values = flags.FLAGS
    programs.check_run_dir(values.run_dir)
    path = export(
        values.run_dir,
        values.export_dir,
        values.checkpoint,
        values.version,
        values.data_dir,
        values.manual_dir,
        values.iwae_samples,
        values.dtype,
        values.keep_versions,
        values.enable_xla,
    )
    from zforcing_tf.training.json_files import read_json

    listing = read_json(path / EXTRA / "signatures.json")
    data = path / EXTRA / "data.json"
    num_steps = read_json(data)["max_length"] if data.exists() else 1
    print(f"{path}\n\n{summary(listing)}\n\nTensorFlow alone loads it:\n")
    print(snippet(path, listing, num_steps))


def define_flags() -> None:
    """Defines the flags of the program."""
    flags.DEFINE_string("run_dir", "", "Folder of the run.")
    flags.DEFINE_string("export_dir", "", "Folder of all versions of the model.")
    flags.DEFINE_integer(
        "version",
        None,
        "Name of the version, a number; without it, the step.",
        lower_bound=0,
        upper_bound=2**63 - 1,  # what a model server reads
    )
    flags.DEFINE_integer(
        "iwae_samples",
        0,
        "Samples of a signature score_iwae, a tighter bound; 0: without it.",
        lower_bound=0,
    )
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float32", "float64", "mixed_bfloat16"],
        "In which the model computes; without it, as in the run.",
    )
    flags.DEFINE_integer(
        "keep_versions",
        0,
        "Exports that stay, this one among them: older ones are removed then. 0: all.",
        lower_bound=0,
    )
    flags.DEFINE_boolean(
        "enable_xla",
        False,
        "Whether XLA compiles the signatures: with few rows they answer sooner, after seconds for "
        "each new number of rows and steps. All but step and score_iwae.",
    )
    programs.define_run_flags()


def run() -> None:
    """Entry point of the command."""
    define_flags()
    programs.run(main)


if __name__ == "__main__":
    run()
