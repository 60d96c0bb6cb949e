"""What the models of the family disagree about, and nothing else."""

from __future__ import annotations

import abc
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.recurrent_core import RecurrentCore
from zforcing_tf.layers.weights import deserialised
from zforcing_tf.unroll import Structure


class Context(NamedTuple):
    """What the posterior sees of the data, computed before the loop."""

    posterior: Structure
    """[T, B, .]: its share of the posterior's first layer, read step by step in the loop."""
    backward_states: tf.Tensor | None
    """b, [T, B, H], the target of the auxiliary cost; None where there is no backward network."""


class LatentCell(keras.layers.Layer, abc.ABC):
    """One step of a sequential latent-variable model, in two halves around its latent.

    The half before the latent (`condition`) gives all that z[t] may depend on, the half after it
    (`advance`) the next state and what the emission sees. `drive` and `context` do before the loop,
    in large products, what needs no recurrence; `prior` runs after it, on [T, B, .], from what
    `past` kept.

    Before and after the loop tensors are batch-major, [..., B, features]; inside it, in
    `condition`, `past`, `posterior` and `advance`, they are feature-major, [features, B] (see
    `products`).

    Implementations are final: a variant is an argument of a part, never a subclass.
    """

    embedding: Embedding
    core: RecurrentCore
    latent_size: int
    feature_size: int
    past_structure: Structure = None
    """A structure like that of `past`; a single tensor unless the cell says otherwise."""

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the parts made their weights."""
        self.built = True

    @abc.abstractmethod
    def initial_state(self, batch_size: int | tf.Tensor) -> Structure:
        """State before the first step, tensors [batch_size, .]."""

    def embed(self, x: tf.Tensor) -> tf.Tensor:
        """e(x), [..., E], for the emission's skip."""
        return self.embedding(x)

    def drive(self, x: tf.Tensor, keep: tf.Tensor | None = None) -> tf.Tensor:
        """The data's share of the core's pre-activations: [..., G] from x [..., D] or [...] int32.

        Args:
            x: inputs, [T, B, .] before the loop when they are known, [B, .] when they are
                generated.
            keep: dropout factors [..., E] on e(x), or None.
        """
        return self.core.drive(self.embedding, x, keep)

    @abc.abstractmethod
    def context(
        self,
        targets: tf.Tensor,
        mask: tf.Tensor,
        initial_state: Structure = None,
        training: bool = False,
    ) -> Context:
        """What the posterior sees of the data.

        Args:
            targets: y, [T, B, D] or [T, B] int32.
            mask: [T, B] bool, true on valid steps.
            initial_state: where a backward network starts; zeros by default.
            training: whether the gradient will be asked for.
        """

    @abc.abstractmethod
    def loop_weights(self, latent_from: Literal["posterior", "prior"]) -> Structure:
        """A structure of `Product`s, merged where they meet the same vector."""

    @abc.abstractmethod
    def condition(self, weights: Structure, state: Structure, drive: tf.Tensor) -> Structure:
        """All that z[t] may depend on: the half of the step before the latent."""

    @abc.abstractmethod
    def past(self, conditioning: Structure) -> Structure:
        """What the prior of the step sees; the loop keeps it for `prior`."""

    @abc.abstractmethod
    def prior(self, past: Structure) -> tuple[tf.Tensor, tf.Tensor]:
        """loc and scale of p(z[t] | past), [..., Z] each."""

    @abc.abstractmethod
    def posterior(
        self, weights: Structure, conditioning: Structure, context: Structure
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """loc and scale of q(z[t] | past, data), [Z, B] each, from `Context.posterior` at t."""

    @abc.abstractmethod
    def advance(
        self, weights: Structure, conditioning: Structure, latent: tf.Tensor
    ) -> tuple[Structure, tf.Tensor]:
        """Next state, and the features [F, B] that the emission sees."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LatentCell:
        """The inverse of `get_config`."""
        return cls(**deserialised(config))
