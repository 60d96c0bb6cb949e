"""One absl flagfile for each experiment; `README.md` beside them says what each gives.

A package so that an installed library finds them: `importlib.resources.files("zforcing_tf.flags")`.
"""
