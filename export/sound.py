"""Recordings in, recordings out: for a model of sound, at its sample rate.

| signature           | inputs                          | outputs                                  |
| ------------------- | ------------------------------- | ---------------------------------------- |
| `score_audio`       | samples [B,N] float32, of -1 to | elbo [B]; log_prob_per_step, kl_per_step |
|                     | 1; num_samples [B]; seed [B,2]  | [B,T]; num_frames [B]                    |
| `encode_audio`      | the same                        | latent_loc, latent_scale, latent [B,T,Z] |
|                     |                                 | num_frames [B]                           |
| `reconstruct_audio` | the same                        | samples [B,N'], num_samples [B]          |
| `generate_audio`    | num_samples [B], seed,          | samples [B,Nmax], num_samples [B]        |
|                     | temperature [B]                 |                                          |
| `continue_audio`    | samples, num_samples,           | the same: what comes after samples       |
|                     | num_wanted [B], seed,           |                                          |
|                     | temperature                     |                                          |

Samples are rounded to 16 bits and cut into frames as those of the data were; what is left at the
end of a recording and fills no frame is not heard. The elbo is that of the numbers that the model
sees, standardised or companded.
"""

from __future__ import annotations

import math

import tensorflow as tf

from zforcing_tf.data.description import FULL_SCALE, Sound
from zforcing_tf.sequence_model import SequenceModel

from . import checks
from .endpoint import Endpoint, Outputs, latents


def endpoints(model: SequenceModel, sound: Sound) -> dict[str, Endpoint]:
    """The signatures of a model of sound."""
    size = model.emission.family.frame_size

    def read(samples: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Frames [B, T, D] and their numbers [B]."""
        count = tf.shape(samples)[1] // size
        frames = tf.reshape(samples[:, : count * size], (-1, count, size))
        return tf.cast(heard(frames, sound), model.frame_dtype), num_samples // size

    def written(x: tf.Tensor, num_samples: tf.Tensor) -> Outputs:
        """Samples of frames [B, T, D], as many as each row wants; zero behind."""
        samples = tf.reshape(played(x, sound), (tf.shape(x)[0], -1))
        samples = samples[:, : tf.reduce_max(num_samples)]
        wanted = tf.sequence_mask(num_samples, tf.shape(samples)[1])
        samples = tf.where(wanted, samples, tf.zeros_like(samples))
        return {"samples": samples, "num_samples": num_samples}

    def score(samples: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> Outputs:
        samples, num_samples, seed = checks.recordings(samples, num_samples, seed, size)
        x, lengths = read(samples, num_samples)
        return {**model.score(x, lengths, seed)._asdict(), "num_frames": lengths}

    def encode(samples: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> Outputs:
        samples, num_samples, seed = checks.recordings(samples, num_samples, seed, size)
        x, lengths = read(samples, num_samples)
        return {**latents(model, x, lengths, seed), "num_frames": lengths}

    def reconstruct(samples: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> Outputs:
        samples, num_samples, seed = checks.recordings(samples, num_samples, seed, size)
        x, lengths = read(samples, num_samples)
        means = tf.cast(model.reconstruct(x, lengths, seed), x.dtype)
        if model.first_frame_given:
            means = tf.concat([x[:, :1], means], axis=1)
        return written(means, lengths * size)

    def generate(num_samples: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor) -> Outputs:
        num_samples, seed, temperature = checks.generation(
            num_samples, seed, temperature, "num_samples", size
        )
        x = model.generate(most(num_samples), seed=seed, temperature=temperature)
        return written(x, num_samples)

    def go_on(
        samples: tf.Tensor,
        num_samples: tf.Tensor,
        num_wanted: tf.Tensor,
        seed: tf.Tensor,
        temperature: tf.Tensor,
    ) -> Outputs:
        samples, num_samples, seed = checks.recordings(samples, num_samples, seed, size)
        num_wanted, seed, temperature = checks.generation(
            num_wanted, seed, temperature, "num_wanted", size
        )
        prefix, lengths = read(samples, num_samples)
        prefix, num_wanted = checks.continuation(prefix, num_wanted, "num_wanted", "samples")
        how = {"prefix": prefix, "prefix_lengths": lengths}
        x = model.generate(most(num_wanted), seed=seed, temperature=temperature, **how)
        return written(x, num_wanted)

    def most(num_samples: tf.Tensor) -> tf.Tensor:
        return -(-tf.reduce_max(num_samples) // size)

    _, seed, temperature = checks.GENERATION
    count = tf.TensorSpec((None,), tf.int32, name="num_samples")
    recordings = (tf.TensorSpec((None, None), tf.float32, name="samples"), count, seed)
    wanted = tf.TensorSpec((None,), tf.int32, name="num_wanted")
    return {
        "score_audio": Endpoint(score, recordings),
        "encode_audio": Endpoint(encode, recordings),
        "reconstruct_audio": Endpoint(reconstruct, recordings),
        "generate_audio": Endpoint(generate, (count, seed, temperature)),
        "continue_audio": Endpoint(go_on, (*recordings[:2], wanted, seed, temperature)),
    }


def heard(samples: tf.Tensor, sound: Sound) -> tf.Tensor:
    """What a model sees of samples of -1 to 1, float32: `Sound.frames` of them at 16 bits."""
    x = _rounded(samples) / FULL_SCALE
    if sound.mu_law_bits:
        wide, mu = tf.cast(x, tf.float64), float(2**sound.mu_law_bits - 1)
        companded = tf.sign(wide) * tf.math.log1p(mu * tf.abs(wide)) / math.log1p(mu)
        x = tf.cast(companded, tf.float32)
    return (x - sound.loc) / sound.scale


def played(frames: tf.Tensor, sound: Sound) -> tf.Tensor:
    """The inverse of `heard`, float32 at the levels of 16 bits; what is too loud is clipped."""
    x = tf.cast(frames, tf.float64) * sound.scale + sound.loc
    if sound.mu_law_bits:
        mu = float(2**sound.mu_law_bits - 1)
        x = tf.clip_by_value(x, -1.0, 1.0)
        x = tf.sign(x) * tf.math.expm1(tf.abs(x) * math.log1p(mu)) / mu
    return tf.cast(_rounded(x) / FULL_SCALE, tf.float32)


def _rounded(samples: tf.Tensor) -> tf.Tensor:
    """Whole numbers of 16 bits."""
    return tf.clip_by_value(tf.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
