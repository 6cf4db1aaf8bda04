"""`jaxclust datasets`: the data sets known by name."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from jaxclust.cli.arguments import Parser, data_dir, say
from jaxclust.data import catalogue


def main(arguments: Sequence[str]) -> int:
    """`jaxclust datasets`: names, sizes, whether present, where each file goes."""
    parser = Parser("datasets", "List the data sets known by name.")
    data_dir(parser)
    place = parser.parse_args(arguments).data_dir or catalogue.default_data_dir()
    say(f"data directory: {place}")
    where = Column("file in that directory", overflow="fold")
    table = Table("name", "images", "classes", "shape", "present", where)
    for name, entry in catalogue.CATALOGUE.items():
        shape = "x".join(str(side) for side in entry.shape)
        here = "yes" if catalogue.present(name, place) else "no"
        file = entry.file or entry.how
        table.add_row(name, f"{entry.n_images:,}", str(entry.n_classes), shape, here, file)
    table.add_row("npz:PATH", "", "", "", "", "images, labels")
    table.add_row("features:PATH", "", "", "", "", ".npy, .npz or .parquet of vectors")
    table.add_row("folder:PATH", "", "", "", "", "JPEG, PNG, …")
    table.add_row("tar:PATH", "", "", "", "", "the same, in an uncompressed tar")
    Console().print(table, highlight=False)
    return 0
