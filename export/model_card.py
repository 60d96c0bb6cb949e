"""What a model is, for people who find its SavedModel: `assets.extra/MODEL_CARD.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from zforcing_tf.config import ExperimentConfig
from zforcing_tf.data.spec import DataSpec
from zforcing_tf.settings import as_text

_MODELS = {
    "rnn": "a recurrent network without latents",
    "storn": "STORN (Bayer, Osendorfer 2014)",
    "vrnn": "VRNN (Chung et al. 2015)",
    "srnn": "SRNN (Fraccaro et al. 2016)",
    "zforcing": "Z-Forcing (Goyal et al. 2017)",
}
_KINDS = {
    "binary": "frames of {size} zeros and ones",
    "real": "frames of {size} numbers",
    "symbol": "symbols of a vocabulary of {size}",
}


class Exported(NamedTuple):
    """What a version holds; `assets.extra/export.json` says it to programs."""

    version: int
    step: int
    """Updates that the weights have seen."""
    checkpoint: str
    """`best` or `last`."""
    dtype: str
    """In which the model computes."""
    trained_dtype: str
    iwae_samples: int = 0
    enable_xla: bool = False


def model_card(
    config: ExperimentConfig,
    spec: DataSpec,
    results: Mapping[str, Any],
    exported: Exported,
    signatures: str,
) -> str:
    """The card, Markdown.

    Args:
        config: of the run.
        spec: of its data.
        results: of the run, as in its `results.json`; perhaps none.
        exported: what the version holds.
        signatures: the listing, as text.
    """
    model = config.model.model
    lines = [
        f"# {model} on {spec.name}, version {exported.version}",
        "",
        f"A stochastic recurrent network: {_MODELS.get(model, model)}, "
        f"{_number(results.get('parameters'))} parameters, trained for {_epochs(results)}. "
        f"The weights are those after update {exported.step:,} (checkpoint: "
        f"{exported.checkpoint}); the model computes in {exported.dtype}.",
        "",
        "## Data",
        "",
        f"`{spec.name}`: sequences of up to {spec.max_length:,} steps, "
        f"{_KINDS[spec.kind].format(size=f'{spec.frame_size:,}')}{_in_the_world(spec)}. "
        "What the data may be used for, and so the model, its owner says: the licence of the data "
        "is not known to this program.",
        "",
        "## Results",
        "",
        *_results(results, exported),
        "",
        "## Signatures",
        "",
        "```",
        signatures,
        "```",
        "",
        "All bounds and log probabilities are in nats; inputs and outputs are in the units of the "
        "data. The same request with the same seeds gets the same answer.",
        "",
        "## Limits",
        "",
        *_limits(config),
        "",
        "## Training",
        "",
        "Settings that are not the defaults, as flags of `python -m zforcing_tf.train`:",
        "",
        "```",
        *_flags(config),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _in_the_world(spec: DataSpec) -> str:
    if spec.sound is not None:
        return f": consecutive samples of sound, {spec.sound.sample_rate:,} a second"
    if spec.text is not None:
        return f": {spec.text.tokens}s of text"
    if spec.music is not None:
        return f": keys of a piano, a step of {spec.music.step_seconds:g} seconds"
    if spec.image_shape is not None:
        return f": pixels of pictures of {spec.image_shape[0]} x {spec.image_shape[1]}"
    return ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number of"


def _epochs(results: Mapping[str, Any]) -> str:
    if "epochs" not in results:
        return "an unknown number of epochs"
    return f"{results['epochs']} epochs (best: {results.get('best_epoch', '?')})"


def _results(results: Mapping[str, Any], exported: Exported) -> list[str]:
    splits = {name: results[name] for name in ("validation", "test") if name in results}
    if not splits:
        return ["None are known: the run was not evaluated."]
    rows = ["| split | sequences | elbo, nats a sequence | nats a step | KL a step |"]
    rows.append("| --- | --- | --- | --- | --- |")
    for name, found in splits.items():
        cells = [found.get(k) for k in ("elbo", "nats_per_step", "kl_per_step")]
        shown = (f"{v:,.3f}" if isinstance(v, float) else "-" for v in cells)
        rows.append(f"| {name} | {found.get('num_sequences', '-')} | {' | '.join(shown)} |")
    rows += ["", f"Scored: {results.get('protocol', 'whole sequences')}; `results.json` has more."]
    steps = {name: found.get("step") for name, found in splits.items()}
    other = {name: step for name, step in steps.items() if step not in (None, exported.step)}
    if other:
        which = " and ".join(f"{name} of update {step:,}" for name, step in other.items())
        rows.append(
            f"**Not the weights of this export**: {which}. Those of the export are unknown."
        )
    if exported.dtype != exported.trained_dtype:
        rows.append(f"They were computed in {exported.trained_dtype}, not in {exported.dtype}.")
    return rows


def _limits(config: ExperimentConfig) -> list[str]:
    limits = [
        "- The elbo is a lower bound by one sample of the posterior: it moves with the seed.",
        "- A high bound says that a sequence is like the training data, not that it is right.",
    ]
    if not config.data.score_first_frame:
        limits.append(
            "- Trained given first frames: how a sequence begins it never learned. What `generate` "
            "makes from nothing is not to be trusted; `continue` goes on from a first frame."
        )
    return limits


def _flags(config: ExperimentConfig) -> list[str]:
    own, defaults = config.to_json(), ExperimentConfig().to_json()
    places = ("data_dir", "manual_dir", "run_dir")
    return [
        f"--{name}={as_text(value)}"
        for section, values in own.items()
        for name, value in values.items()
        if value != defaults[section][name] and name not in places
    ]
