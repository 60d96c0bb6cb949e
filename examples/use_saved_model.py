"""Scores and generates with an exported model. Needs TensorFlow, and nothing of this project.

python examples/use_saved_model.py exports/digits/2430
"""

import sys

import numpy as np
from loading import row_seeds, signatures, tf

if len(sys.argv) != 2:
    sys.exit("error: give the folder of an exported version, such as exports/digits/2430")
model = signatures(sys.argv[1], "score")
score, generate = model["score"], model["generate"]

rows = 5
seed = row_seeds(rows)
drawn = generate(num_steps=tf.fill([rows], 4), seed=seed, temperature=tf.fill([rows], 0.7))
x, lengths = drawn["x"], drawn["lengths"]
print(f"generated x {x.shape} with lengths {lengths.numpy().tolist()}")
if x.shape[1:] == (4, 16):  # digits, 8 x 8 pixels: two rows of pixels in a step
    for line in np.reshape(x, (rows, 8, 8)).transpose(1, 0, 2):
        print("   ".join("".join("##" if pixel else " ." for pixel in row) for row in line))

elbo = score(x=x, lengths=lengths, seed=seed)["elbo"].numpy()
print("bound of each sample, nats:", [round(float(v), 2) for v in elbo])
again = score(x=x, lengths=lengths, seed=seed)["elbo"].numpy()
print("the same request gives the same answer:", bool(np.array_equal(elbo, again)))
