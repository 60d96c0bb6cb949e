"""The network through which the posterior sees the data: it runs backward, or forward."""

from __future__ import annotations

from typing import Any, Literal

import keras
import tensorflow as tf

from zforcing_tf.layers.cudnn import lstm_states
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.gates import CoreState, LSTMState
from zforcing_tf.layers.recurrent_core import CoreKind, RecurrentCore
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import linear
from zforcing_tf.recompute import recomputed
from zforcing_tf.unroll import Training

Direction = Literal["backward", "forward"]
Seen = tuple[tf.Tensor, ...]
"""y, the mask, and d where there is one."""


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class Encoder(WeightedLayer):
    """`b[t] = core([d[t], e(y[t])], b[t+1])` from t = n-1 down to 0, with b[n] = 0.

    So b[t] has read `y[t] ... y[n-1]`. In padding (t >= n) the state stays what it was, whatever y
    holds there. (The released code starts inside the padding.) With `direction="forward"` it is
    `b[t] = core([d[t], e(y[t])], b[t-1])`, which has read `y[0] ... y[t]`.

    Args:
        units: H.
        embedding_size: E.
        initializer: of the input kernels.
        kind: `lstm` or `gru`.
        direction: `backward` or `forward`.
        beside_size: width of d, what else it reads at each step; 0 for nothing.
        cudnn: whether training takes cuDNN's kernel for an LSTM, which needs a GPU.
        window: steps W after which a network that runs backward starts anew: b[t] then reads up to
            the end of its window only, `y[t] ... y[W (floor(t / W) + 1) - 1]`. 0: never.
    """

    def __init__(
        self,
        units: int,
        embedding_size: int,
        initializer: Any = "glorot_uniform",
        kind: CoreKind = "lstm",
        direction: Direction = "backward",
        beside_size: int = 0,
        cudnn: bool = False,
        window: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if direction not in ("backward", "forward"):
            raise ValueError(f"direction must be 'backward' or 'forward', not {direction!r}")
        if window < 0 or (window and direction == "forward"):
            raise ValueError(f"window must be 0, or positive for 'backward', not {window}")
        self.window = window
        self.direction = direction
        self.beside_size = beside_size
        self.cudnn = cudnn
        own = {"initializer": initializer, "kind": kind, "dtype": self.dtype_policy}
        self.core = RecurrentCore(units, embedding_size, **own)
        if beside_size:
            shape = (beside_size, self.core.gates_size)
            self.beside_kernel = self.kernel("beside_kernel", shape, self.core.initializer)

    def drive(
        self, embedding: Embedding, targets: tf.Tensor, beside: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The data's share of the gates [T, B, G], from y [T, B, D] or [T, B] int32 and d."""
        drive = self.core.drive(embedding, targets)
        return drive if beside is None else drive + linear(beside, self.read(self.beside_kernel))

    def states(
        self,
        embedding: Embedding,
        targets: tf.Tensor,
        mask: tf.Tensor,
        beside: tf.Tensor | None = None,
        initial_state: CoreState | None = None,
        training: Training = False,
    ) -> tuple[tf.Tensor, CoreState | None]:
        """States b [T, B, H] from y and d: `drive` and `call` at once; and the whole last state.

        The last one is that of the first step where it runs backward. cuDNN does not tell it.
        """
        state = initial_state or self.core.initial_state(tf.shape(mask)[1])
        seen = (targets, mask) if beside is None else (targets, mask, beside)
        run = self._in_windows if self.window else self._whole
        return run(embedding, seen, state, training)

    def _in_windows(
        self, embedding: Embedding, seen: Seen, state: CoreState, training: Training
    ) -> tuple[tf.Tensor, CoreState | None]:
        """Windows are as good as sequences of their own: [T, B, .] -> [W, ceil(T / W) B, .]."""
        mask = seen[1]
        steps, rows = tf.unstack(tf.shape(mask))
        window = tf.minimum(self.window, tf.maximum(steps, 1))
        count = tf.maximum(-(-steps // window), 1)

        def fold(values: tf.Tensor) -> tf.Tensor:
            behind = [[0, count * window - steps]] + [[0, 0]] * (values.shape.rank - 1)
            whole = tf.pad(values, behind)
            return _regrouped(whole, (count, window, rows), (window, count * rows))

        zeros = self.core.initial_state((count - 1) * rows)
        starts = tf.nest.map_structure(lambda *v: tf.concat(v, axis=0), zeros, state)
        states, ends = self._whole(embedding, tuple(map(fold, seen)), starts, training)
        if ends is not None:
            ends = tf.nest.map_structure(lambda v: v[:rows], ends)
        states = _regrouped(states, (window, count, rows), (count * window, rows))[:steps]
        return tf.ensure_shape(states, (*mask.shape, self.core.units)), ends

    def _whole(
        self, embedding: Embedding, seen: Seen, state: CoreState, training: Training
    ) -> tuple[tf.Tensor, CoreState | None]:
        backward = self.direction == "backward"

        def run(state: CoreState, now: Any) -> tuple[CoreState, tf.Tensor]:
            targets, mask, *beside = now
            drive = self.drive(embedding, targets, *beside)
            states = self.core.run(drive, state, mask, backward, training)
            return tf.nest.map_structure(lambda v: v[0 if backward else -1], states), states.h

        if self.cudnn and training is True and isinstance(state, LSTMState):
            targets, mask, *beside = seen
            return self._by_cudnn(embedding(targets), mask, beside, state), None
        if training != "recompute":
            state, states = run(state, seen)
            return states, state
        layers, dtype = (embedding, self), tf.as_dtype(self.compute_dtype)
        state, states = recomputed(run, layers, state, seen, dtype, reverse=backward)
        return states, state

    def _by_cudnn(
        self, embedded: tf.Tensor, mask: tf.Tensor, beside: list[tf.Tensor], state: LSTMState
    ) -> tf.Tensor:
        kernel = self.read(self.core.input_kernel)
        if beside:
            embedded = tf.concat([embedded, *beside], axis=-1)
            kernel = tf.concat([kernel, self.read(self.beside_kernel)], axis=0)
        recurrent, bias = self.read(self.core.recurrent_kernel), self.read(self.core.bias)
        backward = self.direction == "backward"
        return lstm_states(embedded, mask, state, kernel, recurrent, bias, backward)

    def call(
        self,
        drive: tf.Tensor,
        mask: tf.Tensor,
        initial_state: CoreState | None = None,
        training: Training = False,
    ) -> tf.Tensor:
        """States b, [T, B, H].

        Args:
            drive: [T, B, G].
            mask: [T, B] bool, true on valid steps.
            initial_state: state before the first step it takes, [B, H] each; zeros by default.
            training: whether the gradient will be asked for.
        """
        state = initial_state or self.core.initial_state(tf.shape(mask)[1])
        return self.core.run(drive, state, mask, self.direction == "backward", training).h

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        core = self.core.get_config()
        return {
            **super().get_config(),
            **{name: core[name] for name in ("units", "embedding_size", "initializer", "kind")},
            "direction": self.direction,
            "beside_size": self.beside_size,
            "cudnn": self.cudnn,
            "window": self.window,
        }


def _regrouped(values: tf.Tensor, apart: Any, together: Any) -> tf.Tensor:
    """Takes the first axes [T, B] or [W, N B] apart into three, swaps two, puts them together."""
    frame = tf.shape(values)[2:]
    found = tf.reshape(values, tf.concat([apart, frame], axis=0))
    order = [1, 0, *range(2, found.shape.rank)]
    return tf.reshape(tf.transpose(found, order), tf.concat([together, frame], axis=0))
