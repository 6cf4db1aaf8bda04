"""A run's images laid out in one folder per cluster."""

import re
from pathlib import Path

from jaxclust.core.errors import InputError
from jaxclust.report.pictures import Pictures, check_names
from jaxclust.runs.finished import FinishedRun


def check_empty(folder: Path) -> None:
    """InputError for a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; give another folder with --to")


def folder_name(run: FinishedRun, cluster: int) -> str:
    """`cluster-C`, with what is safe of the cluster's name added if it has one."""
    digits = len(str(run.n_clusters - 1))
    name = run.names[cluster] if run.names else ""
    safe = re.sub(r"[^\w-]+", "-", name).strip("-")[:60]
    return f"cluster-{cluster:0{digits}d}" + (f"-{safe}" if safe else "")


def lay_out(run: FinishedRun, pictures: Pictures, folder: Path) -> None:
    """Put every image under `folder/cluster-C/`, with its name in the run.

    Args:
        run: the finished run.
        pictures: writes its images.
        folder: created if missing.

    Raises:
        InputError: an image's name points outside it.
    """
    check_names(run, folder)
    named = {cluster: folder / folder_name(run, cluster) for cluster in range(run.n_clusters)}
    for row, (name, cluster) in enumerate(zip(run.ids, run.clusters.tolist(), strict=True)):
        pictures.put(row, named[cluster] / name)
