"""What `--help` shows of each command that trains. Nothing here imports torch, so that it answers at once."""
