"""What is like what: sequences by the mean of their latents.

python examples/embeddings.py exports/reviews/4100 sentences.txt embeddings.npy
python examples/embeddings.py exports/digits/2430 sequences.npz embeddings.npy

takes a sentence a line for models of text, else an npz with x [N, T, D] and lengths [N]; writes
[N, Z], and prints the nearest neighbour of each of the first ten by the cosine.
"""

import sys

import numpy as np
from loading import check_target, load_array, reason, save_array, signatures, tf

AT_ONCE = 64

if len(sys.argv) != 4:
    sys.exit("error: give the folder of an exported version, a file, and where to write")
folder, source, target = sys.argv[1:]
check_target(target)
if source.endswith(".npz"):
    name, arrays = "encode", load_array(source)
    if not {"x", "lengths"} <= arrays.keys():
        sys.exit(f"error: {source} has the arrays {', '.join(arrays)}: give x and lengths")
    rows = {key: arrays[key] for key in ("x", "lengths")}
    if rows["x"].ndim < 2 or rows["lengths"].shape != rows["x"].shape[:1]:
        sys.exit(f"error: {source} holds no x [N, T, ...] with lengths [N]")
    labels = [f"sequence {i}" for i in range(len(rows["x"]))]
else:
    name = "encode_text"
    try:
        with open(source, encoding="utf-8") as file:
            labels = [line.strip() for line in file if line.strip()]
    except (OSError, ValueError) as error:
        sys.exit(f"error: {source} cannot be read: {error}")
    rows = {"text": np.array([label.encode() for label in labels])}
if len(labels) < 2:
    sys.exit(f"error: {source} holds fewer than two sequences")
encode = signatures(folder, name)[name]
dtypes = {key: spec.dtype for key, spec in encode.structured_input_signature[1].items()}

found = []
for first in range(0, len(labels), AT_ONCE):
    part = {
        key: tf.cast(value[first : first + AT_ONCE], dtypes[key])
        if dtypes[key] != tf.string
        else tf.constant(value[first : first + AT_ONCE])
        for key, value in rows.items()
    }
    count = len(next(iter(part.values())))
    try:
        # One seed for all: what is equal is encoded equally.
        latents = encode(**part, seed=tf.zeros((count, 2), tf.int32))
    except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
        sys.exit(f"error: the model refuses {source}: {reason(error)}")
    lengths = latents["num_tokens"] if name == "encode_text" else part["lengths"]
    # Padding holds zeros.
    mean = tf.reduce_sum(latents["latent_loc"], axis=1) / tf.cast(lengths, tf.float32)[:, None]
    found.append(mean.numpy())
embeddings = np.concatenate(found)
save_array(target, embeddings)

centred = embeddings - embeddings.mean(axis=0)
centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9
likeness = centred @ centred.T
np.fill_diagonal(likeness, -np.inf)
for i, j in enumerate(likeness.argmax(axis=1)[:10]):
    print(f"{labels[i]!r} is most like {labels[j]!r} ({likeness[i, j]:.2f})")
print(f"embeddings {embeddings.shape} are in {target}")
