"""Scores and generates with an exported model. Needs TensorFlow, and nothing of this project.

python examples/use_saved_model.py exports/digits/2430
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# At its start TensorFlow says, before any setting of logs is heard, that there is no GPU.
stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import numpy as np
    import tensorflow as tf

    tf.config.list_physical_devices()
finally:
    os.dup2(stderr, 2)

if len(sys.argv) != 2:
    sys.exit("error: give the folder of an exported version, such as exports/digits/2430")
if not tf.saved_model.contains_saved_model(sys.argv[1]):
    sys.exit(f"error: no SavedModel in {sys.argv[1]}; python -m export.saved_model writes one")
model = tf.saved_model.load(sys.argv[1])
score, generate = model.signatures["score"], model.signatures["generate"]

rows = 5
seed = np.stack([np.zeros(rows), np.arange(rows)], axis=1).astype(np.int32)  # one for each row
drawn = generate(
    num_steps=tf.fill([rows], 4), seed=tf.constant(seed), temperature=tf.fill([rows], 0.7)
)
x, lengths = drawn["x"], drawn["lengths"]
print(f"generated x {x.shape} with lengths {lengths.numpy().tolist()}")
if x.shape[1:] == (4, 16):  # digits, 8 x 8 pixels: two rows of pixels in a step
    for line in np.reshape(x, (rows, 8, 8)).transpose(1, 0, 2):
        print("   ".join("".join("##" if pixel else " ." for pixel in row) for row in line))

elbo = score(x=x, lengths=lengths, seed=tf.constant(seed))["elbo"].numpy()
print("bound of each sample, nats:", [round(float(v), 2) for v in elbo])
again = score(x=x, lengths=lengths, seed=tf.constant(seed))["elbo"].numpy()
print("the same request gives the same answer:", bool(np.array_equal(elbo, again)))
