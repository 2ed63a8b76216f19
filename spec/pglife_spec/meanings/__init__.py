"""What a declaration can be read as: a step, Python code, a formula."""
