"""Reading the next thing while the last one is worked on."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Place = TypeVar("Place")
Found = TypeVar("Found")


def read_ahead(
    read: Callable[[Place], Found], places: Sequence[Place]
) -> Iterator[tuple[Place, Found]]:
    """Yield (place, what is read there); the next is read while this one is processed."""
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, places[0]) if places else None
        for i, at in enumerate(places):
            assert ahead is not None
            now = ahead.result()
            if i + 1 < len(places):
                ahead = reader.submit(read, places[i + 1])
            yield at, now
