"""How long steps take."""

import time


class Clock:
    """Measures the time per step; the first chunk, which compiles, is left out."""

    def __init__(self) -> None:
        self.each = 0.0  # seconds per step, most recently
        self.seconds, self.steps = 0.0, 0
        self._since, self._compiled = 0.0, False

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._since = time.perf_counter() - self._since

    def count(self, steps: int) -> None:
        """Record that the seconds just measured were for this many steps."""
        if self._compiled:
            self.each = self._since / steps
            self.seconds += self._since
            self.steps += steps
        self._compiled = True

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds if self.seconds else 0.0
