"""How a training runs: steps, processes, checkpoints, memory, evaluation on the way."""
