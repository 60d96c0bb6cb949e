"""The released implementation's numbers, and the one mapping from its weights to ours.

`README.md` beside this file says what the arrays are. Its biases b_ih and b_hh are added, so ours
is their sum and the gradient of ours is that of each. Its auxiliary network always has rows for h
and is fed zeros with `z_force`; ours then has no such rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zforcing_tf.cells.zforcing import ZForcingCell
from zforcing_tf.layers.auxiliary import Auxiliary
from zforcing_tf.layers.conditional_gaussian import ConditionalGaussian
from zforcing_tf.layers.embedding import Embedding
from zforcing_tf.layers.emission import Emission
from zforcing_tf.layers.encoder import Encoder
from zforcing_tf.layers.recurrent_core import LSTMState, RecurrentCore
from zforcing_tf.sequence_model import SequenceModel, Sequences

Arrays = dict[str, np.ndarray]
FILES = sorted(Path(__file__).parent.rglob("*.npz"))


class Mapped(NamedTuple):
    """A variable of ours and the arrays of theirs that it stands for."""

    variable: keras.Variable
    names: tuple[str, ...]
    rows: slice
    """Those of their rows that ours has."""


class Released:
    """One file: settings, arrays, and a model of ours with its weights."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.dtype = dtype
        with np.load(path) as arrays:
            self.arrays: Arrays = {name: arrays[name] for name in arrays.files}
        self.model = self._model()
        self.mapping = self._mapping()
        for variable, names, rows in self.mapping:
            variable.assign(sum(self.arrays[f"w/{name}"] for name in names)[rows])

    def setting(self, name: str) -> int:
        return int(self.arrays[f"cfg/{name}"])

    @property
    def layer_norm(self) -> bool:
        return bool(self.arrays["cfg/cond_ln"])

    @property
    def sees_state(self) -> bool:
        return not bool(self.arrays["cfg/z_force"])

    def _model(self) -> SequenceModel:
        family = {"gaussian": "gaussian", "softmax": "categorical"}[
            str(self.arrays["cfg/out_type"])
        ]
        d, e, h = (self.setting(f"{name}_dim") for name in ("inp", "emb", "rnn"))
        m, z = self.setting("mlp_dim"), self.setting("z_dim")
        own = {"dtype": self.dtype}
        cell = ZForcingCell(
            embedding=Embedding(d, e, family == "categorical", **own),
            backward_encoder=Encoder(h, e, **own),
            prior_network=ConditionalGaussian((h,), m, z, **own),
            posterior_network=ConditionalGaussian((h, h), m, z, **own),
            core=RecurrentCore(h, e, z, m, "layer_norm" if self.layer_norm else "concat", **own),
            **own,
        )
        past = h if self.sees_state else 0
        loss = "l2" if bool(self.arrays["cfg/use_l2"]) else "gaussian"
        return SequenceModel(
            cell,
            Emission(family, d, h, **own),
            Auxiliary(z, h, m, past, loss, **own),
            Emission(family, d, h, **own),
            **own,
        )

    def _mapping(self) -> list[Mapped]:
        model, cell, core = self.model, self.model.cell, self.model.cell.core
        backward = cell.backward_encoder.core
        everything = slice(None)
        pairs = [
            (cell.embedding.table, "emb_W"),
            (backward.input_kernel, "bwd_W_ih"),
            (backward.recurrent_kernel, "bwd_W_hh"),
            (backward.bias, "bwd_b_ih", "bwd_b_hh"),
            (core.recurrent_kernel, "fwd_W_hh"),
            (model.emission.output_kernel, "fwd_out_W"),
            (model.emission.output_bias, "fwd_out_b"),
            (model.backward_emission.output_kernel, "bwd_out_W"),
            (model.backward_emission.output_bias, "bwd_out_b"),
        ]
        if cell.embedding.bias is not None:
            pairs += [(cell.embedding.bias, "emb_b")]
        mlps = [(cell.prior_network.mlp, "pri"), (cell.posterior_network.mlp, "inf")]
        mlps += [(core.modulation, "gen")] if self.layer_norm else []
        for mlp, name in mlps:
            pairs += _mlp_pairs(mlp, name)
        if self.layer_norm:
            pairs += [(core.gain, "fwd_ln_ih_gain"), (core.shift, "fwd_ln_ih_bias")]
            pairs += [(core.input_kernel, "fwd_W_ih")]
        else:
            pairs += [(core.bias, "fwd_b_ih", "fwd_b_hh")]
            pairs += [(core.code_kernel, "gen_W"), (core.code_bias, "gen_b")]
        mapping = [Mapped(variable, tuple(names), everything) for variable, *names in pairs]
        if not self.layer_norm:
            code = self.setting("mlp_dim")
            mapping += [Mapped(core.code_input_kernel, ("fwd_W_ih",), slice(code))]
            mapping += [Mapped(core.input_kernel, ("fwd_W_ih",), slice(code, None))]
        auxiliary = model.auxiliary.network.mlp
        first = everything if self.sees_state else slice(self.setting("rnn_dim"), None)
        mapping += [Mapped(auxiliary.kernel_1, ("aux_W1",), first)]
        return mapping + [
            Mapped(variable, tuple(names), everything)
            for variable, *names in _mlp_pairs(auxiliary, "aux")[1:]
        ]

    def tensor(self, name: str) -> tf.Tensor:
        array = self.arrays[name]
        dtype = self.dtype if array.dtype.kind == "f" else "int32"
        return tf.constant(array, dtype)

    def sequences(self, lengths: tf.Tensor) -> Sequences:
        mask = tf.transpose(tf.sequence_mask(lengths, self.setting("T")))
        return Sequences(self.tensor("in/x"), self.tensor("in/y"), mask)

    def state(self) -> LSTMState:
        return LSTMState(self.tensor("in/h0"), self.tensor("in/c0"))

    def lengths(self, mode: str) -> tf.Tensor:
        if mode == "full":
            return tf.fill([self.setting("B")], self.setting("T"))
        return tf.constant(self.arrays["in/lengths"], tf.int32)

    def compiled(self, way: str, function: Callable[..., object]) -> Callable[..., object]:
        """A function as it is (eager), as a graph, or through XLA."""
        if way == "eager":
            return function
        return tf.function(function, autograph=False, jit_compile=way == "xla")


def _mlp_pairs(mlp: object, name: str) -> list[tuple[object, str]]:
    variables = (mlp.kernel_1, mlp.bias_1, mlp.kernel_2, mlp.bias_2)
    return list(
        zip(variables, (f"{name}_{part}" for part in ("W1", "b1", "W2", "b2")), strict=True)
    )
