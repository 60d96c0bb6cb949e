"""From features to the distribution of the next frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from zforcing_tf.distributions import FAMILIES, EmissionName, widened
from zforcing_tf.layers.embedding import START_SYMBOL
from zforcing_tf.layers.masked_network import MaskedNetwork
from zforcing_tf.layers.mlp import lrelu3
from zforcing_tf.layers.weights import SERIAL_PACKAGE, WeightedLayer
from zforcing_tf.products import Product, flipped, linear

if TYPE_CHECKING:
    from zforcing_tf.cells.latent_cell import LatentCell


@keras.saving.register_keras_serializable(SERIAL_PACKAGE)
class Emission(WeightedLayer):
    """From `[features, skip]` to the distribution of a frame, float32 at least.

    The features pass through a linear or a hidden layer, once for a whole sequence. What that gives
    is the parameters of `family`; or, in an autoregressive emission,

        p(x | features) = product_d p(x[d] | x[0] ... x[d-1], features),

    what it gives to a `MaskedNetwork`, which adds what the numbers before x[d] in the frame say. A
    frame whose numbers are independent given the features leaves to the latent all that they have
    in common, which flatters models with a latent against those without (Lai et al. 2019).

    Args:
        family: name of the distribution.
        frame_size: D, or number of symbols.
        feature_size: F, width of the features.
        skip_size: E if the emission also sees e(x[t]), else 0.
        hidden_size: width of a hidden layer, 0 for none.
        components: of a mixture.
        sample_bits: of each number, where the family has discrete levels.
        autoregressive: whether each number of a frame depends on those before it.
        autoregressive_hidden_size: M, hidden units of that dependence, 0 for a linear one.
        initializer: of the matrices.

    Raises:
        ValueError: an autoregressive emission of symbols, of which a frame holds only one.

    References:
        Lai, Dai, Yang, Yoo 2019, Re-examination of the Role of Latent Variables in Sequence
        Modeling, arXiv 1902.01388.
    """

    def __init__(
        self,
        family: EmissionName,
        frame_size: int,
        feature_size: int,
        skip_size: int = 0,
        hidden_size: int = 0,
        components: int = 1,
        sample_bits: int = 16,
        autoregressive: bool = False,
        autoregressive_hidden_size: int = 0,
        initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.family = FAMILIES[family](frame_size, components, sample_bits)
        self.family_name = family
        self.feature_size = feature_size
        self.skip_size = skip_size
        self.hidden_size = hidden_size
        self.autoregressive = autoregressive
        self.autoregressive_hidden_size = autoregressive_hidden_size
        self.initializer = keras.initializers.get(initializer)
        inputs, outputs = feature_size + skip_size, self.family.parameter_size
        if autoregressive:
            if self.family.symbols:
                raise ValueError("an autoregressive emission needs frames of numbers, not symbols")
            self.number_family = FAMILIES[family](1, components, sample_bits)
            self.network = MaskedNetwork(
                frame_size,
                autoregressive_hidden_size,
                self.number_family.parameter_size,
                self.initializer,
                dtype=self.variable_dtype,
            )
            outputs = self.network.given_size
        if hidden_size:
            self.hidden_kernel = self.kernel(
                "hidden_kernel", (inputs, hidden_size), self.initializer
            )
            self.hidden_bias = self.vector("hidden_bias", hidden_size)
        self.output_kernel = self.kernel(
            "output_kernel", (hidden_size or inputs, outputs), self.initializer
        )
        self.output_bias = self.vector("output_bias", outputs)

    @property
    def frame_dtype(self) -> tf.DType:
        """Of x: int32 for symbols, else that of the weights."""
        return tf.int32 if self.family.symbols else tf.as_dtype(self.variable_dtype)

    def first_input(self, batch_size: tf.Tensor) -> tf.Tensor:
        """What stands before the first frame: zeros [B, D], or the start symbol [B] int32."""
        if self.family.symbols:
            return tf.fill([batch_size], START_SYMBOL)
        return tf.zeros((batch_size, self.family.frame_size), self.frame_dtype)

    def skip(self, cell: LatentCell, x: tf.Tensor) -> tf.Tensor | None:
        """What `call` takes as its second argument for inputs x: e(x), or None without a skip."""
        return cell.embed(x) if self.skip_size else None

    def call(self, features: tf.Tensor, skip: tf.Tensor | None = None) -> tf.Tensor:
        """Parameters [..., P] from features [..., F] and, if any, e(x) [..., E].

        They are those of `family`, or what an autoregressive emission gives to its network; the
        methods below take them as they are.
        """
        x = features if skip is None else tf.concat([features, skip], axis=-1)
        if self.hidden_size:
            x = lrelu3(linear(x, self.read(self.hidden_kernel)) + self.read(self.hidden_bias))
        return widened(linear(x, self.read(self.output_kernel)) + self.read(self.output_bias))

    def emitter(self, cell: LatentCell) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """`call` for a loop: its matrices are made now.

        Returns:
            A function that gives parameters [B, P] from features [F, B] and inputs x [B, .].
        """
        hidden = self.hidden_size
        first = (self.hidden_kernel, self.hidden_bias) if hidden else ()
        kernel, bias = map(self.read, first or (self.output_kernel, self.output_bias))
        of_features = Product(kernel[: self.feature_size], bias=bias)
        of_skip = cell.embedding.projector(kernel[self.feature_size :]) if self.skip_size else None
        head = (
            Product(self.read(self.output_kernel), bias=self.read(self.output_bias))
            if hidden
            else None
        )

        def emit(features: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            y = of_features(features)
            y = y if of_skip is None else y + of_skip(x)
            y = y if head is None else head(lrelu3(y))
            return widened(flipped(y))

        return emit

    def log_prob(self, parameters: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """log p(x), [...] nats, of frames [..., D] or symbols [...]; a start symbol counts as 0."""
        return self.scorer()(parameters, x)

    def scorer(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """`log_prob`, with its weights made now: outside of a loop that scores with it."""
        family, network = self.family, self.network if self.autoregressive else None
        weights = None if network is None else network.dense()

        def log_prob(parameters: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            x = tf.maximum(x, 0) if family.symbols else tf.cast(x, parameters.dtype)
            if network is None:
                return family.distribution(parameters).log_prob(x)
            each = self.number_family.distribution(network(parameters, x, weights))
            return tf.reduce_sum(each.log_prob(x[..., tf.newaxis]), axis=-1)

        return log_prob

    @property
    def noise_size(self) -> int:
        """Number of standard normals that one sample takes."""
        if not self.autoregressive:
            return self.family.noise_size
        return self.family.frame_size * self.number_family.noise_size

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """A frame [..., D], or symbol [...] int32.

        Args:
            parameters: [..., P].
            noise: standard normal, [..., noise_size].
            temperature: [..., 1] or scalar; 1 samples the distribution, 0 gives its mode
                (autoregressive: the mode of each number given those before it).
        """
        return self.sampler()(parameters, noise, temperature)

    def sampler(self) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        """`sample`, with its weights made now: outside of the loop that samples with it."""
        if not self.autoregressive:
            return self.family.sample
        network, draw_number = self.network, self.number_family.sample
        rows = network.rows()

        def sample(parameters: tf.Tensor, noise: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
            def draw_one(own: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
                return draw_number(own, noise, temperature)

            return network.draw(rows, parameters, noise, draw_one)

        return sample

    def mean(self, parameters: tf.Tensor) -> tf.Tensor:
        """Expected frame [..., D]; for symbols the probabilities [..., V].

        The mean of an autoregressive emission has no closed form: this one follows the modes, each
        number's mean being that given the modes of those before it. For a Gaussian without hidden
        units it is exact.
        """
        if not self.autoregressive:
            return self.family.mean(parameters)
        shape = tf.concat([tf.shape(parameters)[:-1], [self.noise_size]], 0)
        zero = tf.zeros((), parameters.dtype)
        modes = self.sample(parameters, tf.zeros(shape, parameters.dtype), zero)
        return tf.squeeze(self.number_family.mean(self.network(parameters, modes)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "family": self.family_name,
            "frame_size": self.family.frame_size,
            "feature_size": self.feature_size,
            "skip_size": self.skip_size,
            "hidden_size": self.hidden_size,
            "components": self.family.components,
            "sample_bits": self.family.sample_bits,
            "autoregressive": self.autoregressive,
            "autoregressive_hidden_size": self.autoregressive_hidden_size,
            "initializer": keras.initializers.serialize(self.initializer),
        }
