"""A child process: what it inherits, its first steps, the loop of a background process."""
