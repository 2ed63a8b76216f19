"""The command `pglife`."""
