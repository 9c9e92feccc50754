"""How a training runs: steps, processes, checkpoints, memory, evaluation during training."""
