"""Stochastic recurrent networks in TensorFlow: Z-Forcing and its family.

Names are imported on first use, so that `import zforcing_tf` does not wait for TensorFlow.

Example:
    import zforcing_tf

    model, config, spec, step = zforcing_tf.load_model("runs/digits_zforcing_aux")
    model.score(x, lengths).elbo          # [B] nats
    model.generate(num_steps=4, num_sequences=10)
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "DataConfig": "config",
    "ExperimentConfig": "config",
    "ModelConfig": "config",
    "ObjectiveConfig": "config",
    "OptimizerConfig": "config",
    "RunConfig": "config",
    "DataSpec": "data.spec",
    "Dataset": "data.spec",
    "Split": "data.spec",
    "load_dataset": "data.registry",
    "UserError": "errors",
    "build": "models",
    "SequenceModel": "sequence_model",
    "load_model": "training.checkpoint",
    "fit": "training.fit",
}
_RENAMED = {"load_dataset": "load"}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(module, _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return __all__
