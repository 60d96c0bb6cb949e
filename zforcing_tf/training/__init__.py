"""How a model is trained: the loop around `fit`, checkpoints, run directories, interruptions."""
