"""A child process: what it inherits, its first steps, the skeleton of a background process."""
