"""Where recordings are unlike what a model was trained on, by its bound of each frame.

python examples/anomaly_scores.py exports/machine/1200 *.wav

Needs a model of sound, wav files of 16 bits and one channel at its sample rate, and TensorFlow.
A recording that is unlike as a whole has a low mean; one that goes wrong somewhere has places far
below its own median. Compare with recordings that are known to be in order.
"""

import json
import os
import sys
import wave

import numpy as np
from loading import row_seeds, signatures, tf

if len(sys.argv) < 3:
    sys.exit("error: give the folder of an exported version, then wav files")
folder, files = sys.argv[1], sys.argv[2:]
score = signatures(folder, "score_audio")["score_audio"]
with open(os.path.join(folder, "assets.extra", "data.json"), encoding="utf-8") as file:
    data = json.load(file)
rate, size = data["sound"]["sample_rate"], data["frame_size"]

print("nats/frame      worst places: seconds (nats below the median of the recording)")
for name in files:
    try:
        with wave.open(name) as recording:
            form = recording.getnchannels(), recording.getsampwidth(), recording.getframerate()
            samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2") / 32768
    except (OSError, EOFError, wave.Error) as error:
        sys.exit(f"error: {name} cannot be read: {error or 'it is cut off'}")
    if form != (1, 2, rate):
        sys.exit(
            f"error: {name} has (channels, bytes, samples a second) {form}, not {(1, 2, rate)}"
        )
    if len(samples) < size:
        sys.exit(f"error: {name} is shorter than one frame of {size} samples")
    found = score(
        samples=tf.constant(samples[np.newaxis], tf.float32),
        num_samples=tf.constant([len(samples)]),
        seed=row_seeds(1),
    )
    # log p(frame | latent, past) - KL: its sum over frames is the bound of the recording.
    bound = (found["log_prob_per_step"] - found["kl_per_step"]).numpy()[0]
    below = np.median(bound) - bound
    worst = np.argsort(-below)[:3]
    places = ", ".join(f"{i * size / rate:.2f} ({below[i]:.0f})" for i in worst)
    print(f"{bound.mean():10.2f}  {name}: {places}")
