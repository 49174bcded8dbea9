"""Everything together in one Trainer: arguments, batches, steps, checkpoints, cards and pushes."""
