"""The serving contract: what a SavedModel answers, as graph functions over the one trained model.

| signature     | inputs                               | outputs                                  |
| ------------- | ------------------------------------ | ---------------------------------------- |
| `score`       | x [B,T,D], lengths [B], seed [B,2]   | elbo [B]; log_prob_per_step [B,T],       |
|               |                                      | kl_per_step [B,T]; all in nats           |
| `encode`      | x, lengths, seed                     | latent_loc, latent_scale, latent [B,T,Z] |
| `reconstruct` | x, lengths, seed                     | x_mean [B,T,D]                           |
| `generate`    | num_steps [B], seed, temperature [B] | x [B,Tmax,D], lengths [B]                |
| `continue`    | x, lengths, num_steps [B], seed,     | x [B,Tmax,D], lengths [B]: what comes    |
|               | temperature [B]                      | after x                                  |

and `initial_state` and `step` of `streaming.py`; for text those of `text.py`, for recordings those
of `sound.py`; where K samples are asked for `score_iwae`, with the inputs of `score` and a tighter
bound, iwae [B]. `serving_default` is `score`.

Symbols are x [B,T] int32; their x_mean [B,T,V] are probabilities. What lies behind the end of a row
is zero in each output. All inputs share their first dimension, so that a model server can put
requests together; a row's answer depends neither on the batch it came in, nor on what its padding
holds, nor on chance: its noise is a function of its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from zforcing_tf.sequence_model import SequenceModel

from . import checks, sound, streaming, text
from .endpoint import NOTHING_MORE, Endpoint, Outputs, Wanted, latents

DEFAULT_SIGNATURE = "score"


def serving_module(
    model: SequenceModel, wanted: Wanted = NOTHING_MORE
) -> tuple[tf.Module, dict[str, Any]]:
    """What `tf.saved_model.save` takes.

    The module holds variables and nothing else: a Keras object on it would ask for Keras when it is
    loaded. What only training needs (auxiliary network, backward emission, optimizer) stays behind.

    Args:
        model: trained; later changes of its weights change the module.
        wanted: which signatures there are besides those of each model.

    Returns:
        The module, and a concrete function for each name of a signature.
    """
    module = tf.Module(name="model")
    module.weights = [v.value for part in (model.cell, model.emission) for v in part.variables]
    with wanted.answers(model):
        signatures = _signatures(model, wanted, module)
    return module, {"serving_default": signatures[DEFAULT_SIGNATURE], **signatures}


def _signatures(model: SequenceModel, wanted: Wanted, module: tf.Module) -> dict[str, Any]:
    endpoints, spec = _endpoints(model), wanted.spec
    if wanted.iwae_samples:
        endpoints["score_iwae"] = _of_sequences(model, _iwae(wanted.iwae_samples))
    if spec is not None and spec.text is not None:
        module.vocabulary = text.Vocabulary(spec.text, wanted.lower_case)
        endpoints |= text.endpoints(model, module.vocabulary)
    if spec is not None and spec.sound is not None:
        endpoints |= sound.endpoints(model, spec.sound)
    return {name: endpoint.concrete() for name, endpoint in endpoints.items()}


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
        "encode": _of_sequences(model, latents),
        "reconstruct": _of_sequences(model, _reconstruct),
        "generate": _generate(model),
        "continue": _continue(model),
        **streaming.endpoints(model),
    }


def _of_sequences(
    model: SequenceModel,
    answer: Callable[[SequenceModel, tf.Tensor, tf.Tensor, tf.Tensor], Outputs],
) -> Endpoint:
    family = model.emission.family

    def function(x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
        return answer(model, *checks.sequences(family, x, lengths, seed))

    return Endpoint(function, sequence_specs(model))


def sequence_specs(model: SequenceModel) -> tuple[tf.TensorSpec, tf.TensorSpec, tf.TensorSpec]:
    """Of x, lengths and seed."""
    family = model.emission.family
    frame = () if family.symbols else (family.frame_size,)
    return (
        tf.TensorSpec((None, None, *frame), model.frame_dtype, name="x"),
        tf.TensorSpec((None,), tf.int32, name="lengths"),
        tf.TensorSpec((None, 2), tf.int32, name="seed"),
    )


def _score(model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
    return dict(model.score(x, lengths, seed)._asdict())


def _iwae(
    num_samples: int,
) -> Callable[[SequenceModel, tf.Tensor, tf.Tensor, tf.Tensor], Outputs]:
    def answer(model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor) -> Outputs:
        return {"iwae": model.iwae(x, lengths, num_samples, seed)}

    return answer


def _reconstruct(
    model: SequenceModel, x: tf.Tensor, lengths: tf.Tensor, seed: tf.Tensor
) -> Outputs:
    x_mean = model.reconstruct(x, lengths, seed)
    return {"x_mean": tf.ensure_shape(x_mean, (None, None, model.emission.family.frame_size))}


def _generate(model: SequenceModel) -> Endpoint:
    def function(num_steps: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor) -> Outputs:
        num_steps, seed, temperature = checks.generation(num_steps, seed, temperature)
        return _drawn(model, num_steps, seed=seed, temperature=temperature)

    return Endpoint(function, checks.GENERATION)


def _continue(model: SequenceModel) -> Endpoint:
    family = model.emission.family

    def function(
        x: tf.Tensor,
        lengths: tf.Tensor,
        num_steps: tf.Tensor,
        seed: tf.Tensor,
        temperature: tf.Tensor,
    ) -> Outputs:
        x, lengths, seed = checks.sequences(family, x, lengths, seed)
        num_steps, seed, temperature = checks.generation(num_steps, seed, temperature)
        x, num_steps = checks.continuation(x, num_steps)
        how = {"seed": seed, "temperature": temperature}
        return _drawn(model, num_steps, prefix=x, prefix_lengths=lengths, **how)

    x, lengths, _ = sequence_specs(model)
    return Endpoint(function, (x, lengths, *checks.GENERATION))


def _drawn(model: SequenceModel, num_steps: tf.Tensor, **how: tf.Tensor) -> Outputs:
    """As many frames as each row wants."""
    family = model.emission.family
    longest = tf.reduce_max(num_steps)
    x = model.generate(longest, **how)
    x = tf.ensure_shape(x, (None, None, *([] if family.symbols else [family.frame_size])))
    wanted = tf.sequence_mask(num_steps, longest)
    wanted = wanted if family.symbols else wanted[..., tf.newaxis]
    return {"x": tf.where(wanted, x, tf.zeros_like(x)), "lengths": num_steps}
