"""A client's process, from the accepted socket to its session or its refusal."""
