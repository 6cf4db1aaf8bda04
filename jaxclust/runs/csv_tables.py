"""CSV tables that preserve every name exactly."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# File names need not be UTF-8; their bytes are written back unchanged.
ERRORS = "surrogateescape"


def write_rows(text: Any, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    r"""Write a header and rows; strings are quoted, numbers are not.

    Unquoted, a carriage return in a file name would end the row for most readers.

    Args:
        text: a text file that does not translate line endings.
        header: names of the columns.
        rows: strings and numbers.

    >>> text = io.StringIO()
    >>> write_rows(text, ("id", "cluster"), [("Icon\r", 3)])
    >>> text.getvalue()
    'id,cluster\n"Icon\r",3\n'
    """
    csv.writer(text, lineterminator="\n").writerow(header)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)


def as_text(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """The table as one string; see :func:`write_rows`."""
    text = io.StringIO(newline="")
    write_rows(text, header, rows)
    return text.getvalue()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, as dictionaries with the header's names."""
    with path.open(encoding="utf-8", errors=ERRORS, newline="") as file:
        return list(csv.DictReader(file))
