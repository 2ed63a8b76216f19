"""The operating system: fork, wait, signals, latches, process titles."""
