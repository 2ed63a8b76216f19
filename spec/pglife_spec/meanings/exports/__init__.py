"""A machine as text for other model checkers."""
