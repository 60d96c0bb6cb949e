"""The LSTM or GRU, its products laid open to the time loop, and how a latent enters it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.gates import CoreState, GRUGates, GRUState, LSTMGates, LSTMState
from zforcing_tf.layers.mlp import MLP
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import Product, flipped
from zforcing_tf.recompute import recomputed
from zforcing_tf.unroll import Training, unroll

Condition = Literal["concat", "layer_norm"]
CoreKind = Literal["lstm", "gru"]
GATES: dict[CoreKind, int] = {"lstm": 4, "gru": 3}
MODULATION_LIMIT = 3.0
EPSILON = 1e-5


class CoreWeights(NamedTuple):
    """What h and the latent meet in the loop, made once before it; an unused part is None."""

    gates: LSTMGates | GRUGates
    state: Product
    """What else meets h, [H, M], and the recurrent kernel W_hh, [H, G]."""
    latent: Product | None
    """`[Z, G]`: the linear code of z merged into the gates' kernel."""
    modulation: tuple[Product, Product] | None
    """Both layers of MLP_gen of `condition="layer_norm"`."""


def normalise(x: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Layer normalisation over an axis, variance with divisor n - 1, in float32 at least."""
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    centred = wide - tf.reduce_mean(wide, axis=axis, keepdims=True)
    divisor = tf.cast(tf.shape(x)[axis] - 1, wide.dtype)
    variance = tf.reduce_sum(tf.square(centred), axis=axis, keepdims=True) / divisor
    return tf.cast(centred * tf.math.rsqrt(variance + EPSILON), x.dtype)


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class RecurrentCore(WeightedLayer):
    """An LSTM or GRU over `[code(z), e(x)]`, with G = 4H or 3H gate values.

    `condition="concat"`: `gates = [code(z), e(x)] W_ih + h W_hh + b`, with `code(z) = z W_z + b_z`.
    `condition="layer_norm"`: z enters only through the recurrent layer normalisation, `gates =
    LN(e(x) W_ih) * gain + shift + LN(h W_hh) * (1 + u) + v`, `(u, v) = clip(MLP(z), -3, 3)`.

    Args:
        units: H.
        embedding_size: E, width of e(x).
        latent_size: Z; 0 for a network without a latent.
        code_size: M, width of code(z) or of the hidden layer of the MLP.
        condition: how the latent enters.
        initializer: of all matrices but the recurrent one, which is orthogonal.
        kind: `lstm` or `gru`.
    """

    def __init__(
        self,
        units: int,
        embedding_size: int,
        latent_size: int = 0,
        code_size: int = 0,
        condition: Condition = "concat",
        initializer: Any = "glorot_uniform",
        kind: CoreKind = "lstm",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in GATES:
            raise ValueError(f"kind must be 'lstm' or 'gru', not {kind!r}")
        if condition not in ("concat", "layer_norm"):
            raise ValueError(f"condition must be 'concat' or 'layer_norm', not {condition!r}")
        self.units = units
        self.embedding_size = embedding_size
        self.latent_size = latent_size
        self.code_size = code_size
        self.condition = condition
        self.kind = kind
        self.initializer = keras.initializers.get(initializer)
        gates = self.gates_size = GATES[kind] * units
        self.input_kernel = self.kernel("input_kernel", (embedding_size, gates), self.initializer)
        self.recurrent_kernel = self.kernel("recurrent_kernel", (units, gates), "orthogonal")
        if condition == "layer_norm":
            self.gain = self.vector("gain", gates, "ones")
            self.shift = self.vector("shift", gates)
            self.modulation = MLP(
                (latent_size,), code_size, 2 * gates, self.initializer, dtype=self.dtype_policy
            )
            return
        self.bias = self.vector("bias", gates)
        if latent_size:
            self.code_kernel = self.kernel(
                "code_kernel", (latent_size, code_size), self.initializer
            )
            self.code_bias = self.vector("code_bias", code_size)
            self.code_input_kernel = self.kernel(
                "code_input_kernel", (code_size, gates), self.initializer
            )

    def initial_state(self, batch_size: int | tf.Tensor) -> CoreState:
        """Zeros, `[batch_size, H]` each."""
        zeros = tf.zeros((batch_size, self.units), self.compute_dtype)
        return GRUState(zeros) if self.kind == "gru" else LSTMState(zeros, zeros)

    def drive(self, embedding: Embedding, x: tf.Tensor, keep: tf.Tensor | None = None) -> tf.Tensor:
        """The data's share of the gates, every bias included: `[..., G]` from x `[..., D]`."""
        kernel = self.read(self.input_kernel)
        if self.condition == "layer_norm":
            projected = normalise(embedding.project(x, kernel, 0.0, keep))
            return projected * self.read(self.gain) + self.read(self.shift)
        return embedding.project(x, kernel, self._whole_bias(), keep)

    def driver(self, embedding: Embedding) -> Callable[[tf.Tensor], tf.Tensor]:
        """`drive` for a loop over x: its matrices are made now, and it gives [G, B] from [B, .]."""
        kernel = self.read(self.input_kernel)
        if self.condition != "layer_norm":
            return embedding.projector(kernel, self._whole_bias())
        project = embedding.projector(kernel)
        gain, shift = (self.read(v)[:, tf.newaxis] for v in (self.gain, self.shift))
        return lambda x: normalise(project(x), axis=0) * gain + shift

    def _whole_bias(self) -> tf.Tensor:
        """That of the gates, and that of the code as the gates see it: [G]."""
        bias = self.read(self.bias)
        if self.latent_size:
            code_kernel = self.read(self.code_input_kernel)
            bias += tf.linalg.matvec(code_kernel, self.read(self.code_bias), transpose_a=True)
        return bias

    def loop_weights(self, *beside: tf.Tensor, bias: tf.Tensor | None = None) -> CoreWeights:
        """What h and the latent meet in the loop.

        Args:
            beside: the kernel [H, M] of another that meets the same h: one product serves both.
            bias: of what is beside, [M].
        """
        gates = GRUGates() if self.kind == "gru" else LSTMGates()
        kernels = (*beside, self.read(self.recurrent_kernel))
        if self.condition == "layer_norm":
            mlp = self.modulation
            modulation = mlp.first_product(), mlp.head_product()
            return CoreWeights(gates, Product(*kernels, bias=bias), None, modulation)
        state = Product(*kernels, bias=bias, keep=[True] * len(beside) + [False])
        if not self.latent_size:
            return CoreWeights(gates, state, None, None)
        code_kernel, input_kernel = self.read(self.code_kernel), self.read(self.code_input_kernel)
        latent = Product(tf.matmul(code_kernel, input_kernel), keep=[False])
        return CoreWeights(gates, state, latent, None)

    def meet(self, weights: CoreWeights, state: CoreState) -> tuple[tf.Tensor, tf.Tensor]:
        """What `beside` gives of h [M, B] (empty without any), and `h W_hh` [G, B]."""
        products = weights.state(state.h)
        if isinstance(products, list):
            return products[0], products[-1]
        return products[:0], products

    def advance(
        self,
        weights: CoreWeights,
        state: CoreState,
        recurrent: tf.Tensor,
        drive: tf.Tensor,
        latent: tf.Tensor | None = None,
    ) -> CoreState:
        """Next state [H, B] from `h W_hh` [G, B], the drive [G, B] and z [Z, B]."""
        if weights.modulation is not None:
            first, head = weights.modulation
            modulation = MLP.head(head, first(latent))
            modulation = tf.clip_by_value(modulation, -MODULATION_LIMIT, MODULATION_LIMIT)
            u, v = tf.split(modulation, 2, axis=0)
            recurrent = normalise(recurrent, axis=0) * (1.0 + u) + v
        elif weights.latent is not None:
            drive = drive + weights.latent(latent)
        if isinstance(state, GRUState):
            return weights.gates(drive, recurrent, state.h)
        return weights.gates(drive + recurrent, state.c)

    def step(
        self,
        weights: CoreWeights,
        state: CoreState,
        drive: tf.Tensor,
        latent: tf.Tensor | None = None,
    ) -> CoreState:
        """`meet` and `advance` at once, where nothing else happens between them."""
        return self.advance(weights, state, self.meet(weights, state)[1], drive, latent)

    def run(
        self,
        drive: tf.Tensor,
        state: CoreState,
        mask: tf.Tensor | None = None,
        reverse: bool = False,
        training: Training = False,
    ) -> CoreState:
        """States after each step [T, B, H], of a network without a latent.

        Args:
            drive: [T, B, G].
            state: before the first step it takes, [B, H] each.
            mask: [T, B] bool, false where the state stays what it was; None: nowhere.
            reverse: whether time runs from T-1 down to 0.
            training: whether the gradient will be asked for.
        """

        def step(weights: CoreWeights, state: Any, now: Any) -> tuple[CoreState, CoreState]:
            drive, *valid = now
            new = self.step(weights, state, drive)
            if valid:
                new = tf.nest.map_structure(lambda a, b: tf.where(valid[0], a, b), new, state)
            return new, new

        inputs = (flipped(drive),) if mask is None else (flipped(drive), mask[:, tf.newaxis])
        dtypes = tf.nest.map_structure(lambda part: part.dtype, state)
        first = flipped(state)
        weights = self.loop_weights()
        _, states = unroll(step, weights, first, inputs, dtypes, reverse=reverse, training=training)
        return flipped(states)

    def states(
        self,
        embedding: Embedding,
        x: tf.Tensor,
        state: CoreState,
        keep: tf.Tensor | None = None,
        training: Training = False,
    ) -> CoreState:
        """States after each step [T, B, H] from x [T, B, .]: `drive` and `run` at once."""

        def run(state: CoreState, now: Any) -> tuple[CoreState, CoreState]:
            states = self.run(self.drive(embedding, *now), state, training=training)
            return tf.nest.map_structure(lambda v: v[-1], states), states

        inputs = (x,) if keep is None else (x, keep)
        if training != "recompute":
            return run(state, inputs)[1]
        dtypes = tf.nest.map_structure(lambda v: v.dtype, state)
        return recomputed(run, (embedding, self), state, inputs, dtypes)[1]

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "embedding_size": self.embedding_size,
            "latent_size": self.latent_size,
            "code_size": self.code_size,
            "condition": self.condition,
            "initializer": keras.initializers.serialize(self.initializer),
            "kind": self.kind,
        }
