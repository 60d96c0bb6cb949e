"""Listens to frames one by one, then plays on from where they end, as an instrument would.

python examples/live_continuation.py exports/music/5700 tune.npy 16 tune_and_more.npy

takes frames [T, D] (of music: T x 88 keys of zeros and ones), goes on for 16 more, and writes all.
With no file (`-`) it begins from nothing. Each call hands over one frame and the state that came
back with the last one: nothing need be known of what comes. A server answers `step` just so.
"""

import sys

import numpy as np
from loading import check_target, load_array, row_seeds, save_array, signatures, tf

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

if len(sys.argv) != 5 or not sys.argv[3].isdecimal():
    sys.exit("error: give an exported version, frames.npy or -, how many frames more, out.npy")
check_target(sys.argv[4])
model = signatures(sys.argv[1], "step")
inputs = model["step"].structured_input_signature[1]
frame = inputs["x"]
heard = np.zeros((0, *frame.shape[1:]), frame.dtype.as_numpy_dtype)
if sys.argv[2] != "-":
    given = load_array(sys.argv[2])
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "biuf":
        sys.exit(f"error: {sys.argv[2]} is no npy file of numbers")
    heard = given.astype(heard.dtype)
if not heard.ndim or heard.shape[1:] != tuple(frame.shape[1:]):
    sys.exit(f"error: {sys.argv[2]} holds {heard.shape}; the model takes [T, {frame.shape[1:]}]")


def shown(x):
    """Keys by name, or the first numbers."""
    if x.shape != (88,):
        return np.array2string(np.atleast_1d(x)[:6], precision=2)
    keys = np.flatnonzero(x) + 21  # MIDI notes from A0
    return " ".join(f"{NAMES[key % 12]}{key // 12 - 1}" for key in keys) or "-"


seed = row_seeds(1)
if not len(heard):
    if "generate" not in model:
        sys.exit("error: the model cannot begin from nothing; give it frames")
    first = model["generate"](num_steps=tf.constant([1]), seed=seed, temperature=tf.ones([1]))
    heard = first["x"].numpy()[0]
state = model["initial_state"](session=tf.zeros([1], tf.int64))
played, x = [], None
for number in range(len(heard) + int(sys.argv[3])):
    x = heard[number] if number < len(heard) else x
    said = model["step"](x=tf.constant(x[np.newaxis]), seed=seed, temperature=tf.ones([1]), **state)
    state = {name: value for name, value in said.items() if name.startswith("state_")}
    kind = "heard " if number < len(heard) else "played"
    print(f"{number:4d} {kind} {float(said['log_prob'][0]):9.2f} nats  {shown(x)}")
    played.append(x)
    x = said["x_sample"].numpy()[0]
save_array(sys.argv[4], np.stack(played))
print(f"all frames are in {sys.argv[4]}")
