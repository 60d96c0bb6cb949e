"""Adam in one pass over each weight."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zforcing_tf.layers.weights import SERIAL_PACKAGE


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, whose formula it keeps, by TensorFlow's kernel for it.

    Keras makes a dozen operations of an update, each of which reads and writes whole matrices; the
    kernel makes one (on CPU and GPU), which for millions of weights takes a third of the time.
    """

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        """Updates one weight, and its moments."""
        if self.amsgrad:  # which the kernel does not know
            super().update_step(gradient, variable, learning_rate)
            return
        index, dtype = self._get_variable_index(variable), variable.dtype
        first, second = self._momentums[index].value, self._velocities[index].value
        update = tf.cast(self.iterations + 1, dtype)
        # `tf.cast` of a number would go through float32.
        beta_1, beta_2 = (tf.constant(b, dtype) for b in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=tf.pow(beta_1, update),
            beta2_power=tf.pow(beta_2, update),
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
        )

    def finalize_variable_values(self, var_list: Any) -> None:
        """Leaves the weights alone, in whose place Keras puts their means after each `fit`.

        The next epoch goes on from the weights; `averaging.averaged_weights` asks for the means.
        """
