"""The message loops of a session: simple and extended query protocol."""
