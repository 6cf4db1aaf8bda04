"""`jaxclust table`: runs side by side with the papers' figures."""

from collections.abc import Sequence

from jaxclust.cli.arguments import Parser, path
from jaxclust.core.errors import InputError
from jaxclust.report import comparison
from jaxclust.runs.writable import check_file, write_file

_ABOUT = """\
Compare runs: one row for each method, data set and setting, with mean and standard deviation
over seeds in percent, next to what the paper reports for that method and set.
"""


def _parser() -> Parser:
    parser = Parser("table", _ABOUT)
    parser.add_argument(
        "runs",
        type=path,
        nargs="+",
        metavar="RUN_DIR",
        help="run directories, folders of them, or JSON files from experiments/results/",
    )
    parser.add_argument(
        "--format", choices=("terminal", "markdown", "csv"), default="terminal", help="table format"
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="only rows for these sets")
    parser.add_argument(
        "--least-seeds",
        type=int,
        default=1,
        metavar="N",
        help="only rows with at least N seeds; if N is 2 or more, only finished runs",
    )
    parser.add_argument("--out", type=path, metavar="FILE", help="default: print")
    return parser


def main(arguments: Sequence[str]) -> int:
    """`jaxclust table`: print or write the table."""
    given = _parser().parse_args(arguments)
    if given.out is not None:
        check_file(given.out)
    for place in given.runs:
        if not place.exists():
            raise InputError(f"no such run: {place}")
    rows = comparison.rows_of(given.runs)
    if given.datasets:
        rows = [row for row in rows if row.dataset in given.datasets]
    if given.least_seeds > 1:
        rows = [row for row in rows if row.whole and len(row.seeds) >= given.least_seeds]
    if not rows:
        raise InputError("no matching runs; see --datasets and --least-seeds")
    if given.format == "terminal" and given.out is None:
        comparison.show(rows)
        return 0
    text = comparison.as_csv(rows) if given.format == "csv" else comparison.markdown(rows)
    if given.out is None:
        print(text, end="")
    else:
        write_file(given.out, text.encode("utf-8", "surrogateescape"))
    return 0
