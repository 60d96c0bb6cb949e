"""The serving contract: what a SavedModel answers, as graph functions over the one trained model.

| signature     | inputs                               | outputs                                  |
| ------------- | ------------------------------------ | ---------------------------------------- |
| `score`       | x [B,T,D], lengths [B], seed [B,2]   | elbo [B]; log_prob_per_step [B,T],       |
|               |                                      | kl_per_step [B,T]; all in nats           |
| `encode`      | x, lengths, seed                     | latent_loc, latent_scale, latent [B,T,Z] |
| `reconstruct` | x, lengths, seed                     | x_mean [B,T,D]                           |
| `generate`    | num_steps [B], seed, temperature [B] | x [B,Tmax,D], lengths [B]                |

`serving_default` is `score`. Symbols are x [B,T] int32; their x_mean [B,T,V] are probabilities.
What lies behind the end of a row is zero in each output. All inputs share their first dimension, so
that a model server can put requests together; a row's answer depends neither on the batch it came
in, nor on what its padding holds, nor on chance: its noise is a function of its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from zforcing_tf.distributions import widened
from zforcing_tf.sequence_model import SequenceModel

from . import checks

DEFAULT_SIGNATURE = "score"

Outputs = dict[str, tf.Tensor]


class Endpoint(NamedTuple):
    """A graph function, and the named specs of its arguments in their order."""

    function: Callable[..., Outputs]
    inputs: tuple[tf.TensorSpec, ...]


def serving_module(model: SequenceModel) -> tuple[tf.Module, dict[str, Any]]:
    """What `tf.saved_model.save` takes.

    The module holds variables and nothing else: a Keras object on it would ask for Keras when it is
    loaded. What only training needs (auxiliary network, backward emission, optimizer) stays behind.

    Args:
        model: trained; later changes of its weights change the module.

    Returns:
        The module, and a concrete function for each name of a signature.
    """
    module = tf.Module(name="model")
    module.weights = [v.value for part in (model.cell, model.emission) for v in part.variables]
    signatures = {}
    for name, endpoint in _endpoints(model).items():
        graph = tf.function(endpoint.function, input_signature=endpoint.inputs, autograph=False)
        signatures[name] = graph.get_concrete_function()
    return module, {"serving_default": signatures[DEFAULT_SIGNATURE], **signatures}


def listing(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs and outputs of signatures, as `json` writes them.

    Args:
        signatures: as `serving_module` gives them.

    Returns:
        `{signature: {"inputs": {name: {"dtype": ..., "shape": [...]}}, "outputs": ...}}`; a
        dimension that each request chooses is null.
    """

    def side(specs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in sorted(specs.items())
        }

    return {
        name: {
            "inputs": side({spec.name: spec for spec in function.structured_input_signature[0]}),
            "outputs": side(function.structured_outputs),
        }
        for name, function in sorted(signatures.items())
    }


def _endpoints(model: SequenceModel) -> dict[str, Endpoint]:
    return {
        "score": _of_sequences(model, _score),
        "encode": _of_sequences(model, _encode),
        "reconstruct": _of_sequences(model, _reconstruct),
        "generate": _generate(model),
    }


def _of_sequences(
    model: SequenceModel,
    answer: Callable[[SequenceModel, tf.Tensor, tf.Tensor, tf.Tensor], Outputs],
) -> Endpoint:
    family = model.emission.family

    def function(x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
        return answer(model, *checks.sequences(family, x, lengths, seed))

    frame = () if family.symbols else (family.frame_size,)
    specs = (
        tf.TensorSpec((None, None, *frame), model.frame_dtype, name="x"),
        tf.TensorSpec((None,), tf.int32, name="lengths"),
        tf.TensorSpec((None, 2), tf.int32, name="seed"),
    )
    return Endpoint(function, specs)


def _score(model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
    return dict(model.score(x, lengths, seed)._asdict())


def _encode(model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
    latents = model.encode(x, lengths, seed)
    named = {"latent_loc": latents.loc, "latent_scale": latents.scale, "latent": latents.latent}
    shape = (None, None, model.cell.latent_size)
    return {name: tf.ensure_shape(widened(value), shape) for name, value in named.items()}


def _reconstruct(
    model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor
) -> Outputs:
    x_mean = model.reconstruct(x, lengths, seed)
    return {"x_mean": tf.ensure_shape(x_mean, (None, None, model.emission.family.frame_size))}


def _generate(model: SequenceModel) -> Endpoint:
    frame = () if model.emission.family.symbols else (model.emission.family.frame_size,)

    def function(num_steps: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor) -> Outputs:
        num_steps, seed, temperature = checks.generation(num_steps, seed, temperature)
        longest = tf.reduce_max(num_steps)
        x = model.generate(longest, seed=seed, temperature=temperature)
        x = tf.ensure_shape(x, (None, None, *frame))
        wanted = tf.sequence_mask(num_steps, longest)
        wanted = wanted if not frame else wanted[..., tf.newaxis]
        return {"x": tf.where(wanted, x, tf.zeros_like(x)), "lengths": num_steps}

    specs = (
        tf.TensorSpec((None,), tf.int32, name="num_steps"),
        tf.TensorSpec((None, 2), tf.int32, name="seed"),
        tf.TensorSpec((None,), tf.float32, name="temperature"),
    )
    return Endpoint(function, specs)
