"""The two kinds of failure a person at the keyboard meets."""


class InputError(ValueError):
    """Refused before work starts: bad usage, data, weights or checkpoint (exit 2).

    The message is one line: what was wrong, what was expected, what to do.
    """


class RunError(RuntimeError):
    """Stopped while running; the last good checkpoint is kept (exit 1)."""
