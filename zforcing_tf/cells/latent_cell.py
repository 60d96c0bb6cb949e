"""What the models of the family disagree about, and nothing else."""

from __future__ import annotations

import abc
import typing
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.gates import CoreState
from zforcing_tf.layers.recurrent_core import CoreWeights, RecurrentCore
from zforcing_tf.layers.weights import deserialised, serialised
from zforcing_tf.products import flipped
from zforcing_tf.unroll import Structure, Training

LatentFrom = Literal["posterior", "prior"]


class Context(NamedTuple):
    """What the posterior sees of the data, computed before the loop."""

    posterior: Structure
    """[T, B, .]: its share of the posterior's first layer, read step by step in the loop."""
    backward_states: tf.Tensor | None
    """b, [T, B, H], the target of the auxiliary cost; None where there is no backward network."""
    encoder_state: Structure = ()
    """After the last step, of an encoder that runs forward."""


class LatentState(NamedTuple):
    """State of a cell whose next step sees the latent of the last one."""

    core: CoreState
    latent: tf.Tensor
    """z[t-1], [B, Z]; [Z, B] in the loop."""

    @classmethod
    def after(cls, core: CoreState, latent: tf.Tensor) -> tuple[LatentState, tf.Tensor]:
        """The state after a step, and features [H + Z, B] of which both are seen."""
        return cls(core, latent), tf.concat([core.h, latent], axis=0)


class Conditioning(NamedTuple):
    """What a core that moves after the latent is moved from."""

    state: CoreState
    """h[t-1] and, of an LSTM, c[t-1], [H, B] each."""
    hidden: tf.Tensor
    """Share of h[t-1] in the first layer of what gives the latent, posterior or prior, [M, B];
    empty where it sees none."""
    recurrent: tf.Tensor
    """`h W_hh`, [G, B]."""
    drive: tf.Tensor
    """[G, B]."""


class Weights(NamedTuple):
    """`Product`s of the loop: of the core, and of what gives the latent, posterior or prior."""

    core: CoreWeights
    hidden: Any = None
    """First layer, where it does not share a product with the core."""
    head: Any = None
    """Second layer."""


class LatentCell(keras.layers.Layer, abc.ABC):
    """One step of a sequential latent-variable model, in two halves around its latent.

    The half before the latent (`condition`) gives all that z[t] may depend on, the half after it
    (`advance`) the next state and what the emission sees. `run_ahead`, `given` and `context` do
    before the loop, in large products, what needs no latent; `prior` runs after it, on [T, B, .],
    from what `past` kept.

    Before and after the loop tensors are batch-major, [..., B, features]; inside it, in
    `condition`, `past`, `posterior` and `advance`, they are feature-major, [features, B] (see
    `products`).

    Implementations are final: a variant is an argument of a part, never a subclass. The annotations
    of a class name its parts, which are layers and the arguments of its constructor.
    """

    embedding: Embedding
    core: RecurrentCore
    posterior_network: ConditionalGaussian
    past_structure: ClassVar[Structure] = None
    """A structure like that of `past`; a single tensor unless the cell says otherwise."""
    carries_latent: ClassVar[bool] = False
    """Whether the state is a `LatentState`, and the emission sees the latent as it is."""

    def __init__(self, **parts_and_keras: Any) -> None:
        names = [n for n in typing.get_type_hints(type(self)) if n in parts_and_keras]
        parts = {name: parts_and_keras.pop(name) for name in names}
        super().__init__(**parts_and_keras)
        for name, part in parts.items():
            setattr(self, name, part)
        self._part_names = tuple(parts)

    @property
    def latent_size(self) -> int:
        """Z."""
        return self.posterior_network.size

    @property
    def feature_size(self) -> int:
        """F, width of what the emission sees."""
        return self.core.units + (self.latent_size if self.carries_latent else 0)

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the parts made their weights."""
        self.built = True

    def initial_state(self, batch_size: int | tf.Tensor) -> Structure:
        """State before the first step, tensors [batch_size, .]."""
        core = self.core.initial_state(batch_size)
        if not self.carries_latent:
            return core
        return LatentState(core, tf.zeros((batch_size, self.latent_size), self.compute_dtype))

    def initial_encoder_state(self, batch_size: int | tf.Tensor) -> Structure:
        """State before the first step of an encoder that runs forward; () where none does."""
        return ()

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

    def driver(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """`drive` for a loop over frames that are generated: [G, B] from x [B, .]."""
        return self.core.driver(self.embedding)

    def run_ahead(
        self,
        state: Structure,
        x: tf.Tensor,
        keep: tf.Tensor | None = None,
        training: Training = False,
    ) -> Structure:
        """What of the recurrence needs no latent, over a whole sequence: [T, B, .]; or nothing.

        Args:
            state: before the first step.
            x: inputs, [T, B, .].
            keep: dropout factors [T, B, E] on e(x), or None.
            training: whether the gradient will be asked for.
        """
        return ()

    def given(self, ahead: Structure, x: tf.Tensor, keep: tf.Tensor | None = None) -> Structure:
        """What `condition` needs of the data, when inputs are known: [T, B, .]. By default a drive.

        Args:
            ahead: what `run_ahead` gave, of all steps or of a stretch of them.
            x: inputs, [T, B, .].
            keep: dropout factors [T, B, E] on e(x), or None.
        """
        return self.drive(x, keep)

    @abc.abstractmethod
    def context(
        self,
        ahead: Structure,
        targets: tf.Tensor,
        mask: tf.Tensor,
        *how: Any,
    ) -> Context:
        """What the posterior sees of the data.

        Args:
            ahead: what `run_ahead` gave.
            targets: y, [T, B, D] or [T, B] int32.
            mask: [T, B] bool, true on valid steps.
            how: where an encoder starts, zeros by default; and whether the gradient will be asked
                for. The last two arguments of `Encoder.states`.
        """

    @abc.abstractmethod
    def loop_weights(self, latent_from: LatentFrom) -> Structure:
        """A structure of `Product`s, merged where they meet the same vector."""

    def condition(self, weights: Any, state: Any, given: Any) -> Any:
        """All that z[t] may depend on: the half of the step before the latent.

        `given` is the drive [G, B] of the step, or what the method `given` made. By default the
        core moves after the latent, in `advance`.
        """
        return Conditioning(state, *self.core.meet(weights.core, state), given)

    @abc.abstractmethod
    def past(self, conditioning: Structure) -> Structure:
        """What the prior of the step sees; the loop keeps it for `prior`."""

    @abc.abstractmethod
    def prior(self, past: Structure) -> tuple[tf.Tensor, tf.Tensor]:
        """loc and scale of p(z[t] | past), [..., Z] each."""

    def prior_in_loop(
        self, weights: Structure, conditioning: Structure
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`prior` inside the loop: loc and scale [Z, B], with `loop_weights("prior")`."""
        loc, scale = flipped(tuple(self.prior(flipped(self.past(conditioning)))))
        return loc, scale

    @abc.abstractmethod
    def posterior(
        self, weights: Structure, conditioning: Structure, context: Structure
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """loc and scale of q(z[t] | past, data), [Z, B] each, from `Context.posterior` at t."""

    def advance(
        self, weights: Any, conditioning: Any, latent: tf.Tensor
    ) -> tuple[Structure, tf.Tensor]:
        """Next state, and the features [F, B] that the emission sees."""
        state, _, recurrent, drive = conditioning
        state = self.core.advance(weights.core, state, recurrent, drive, latent)
        return state, state.h

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        parts = {name: getattr(self, name) for name in self._part_names}
        return {**super().get_config(), **serialised(parts)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LatentCell:
        """The inverse of `get_config`."""
        return cls(**deserialised(config))
