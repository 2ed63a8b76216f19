"""The base of all errors that this package raises."""


class SpecError(Exception):
    """The message is one sentence for the user: what was expected, what came, what to do."""
