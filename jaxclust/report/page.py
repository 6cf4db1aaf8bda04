"""report.html: a finished run as one page that needs nothing else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from jaxclust.data.catalogue import ImageSet
from jaxclust.report import cluster_sections, curves, planar_map
from jaxclust.report.colours import COLOURS
from jaxclust.report.planar_map import MapOf
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import drawing
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.finished import FinishedRun
from jaxclust.runs.recorded import flatten

_TEMPLATES = Path(__file__).parent / "templates"


def write(run: FinishedRun, image_set: ImageSet | None, how: MapOf = "auto") -> Path:
    """Write the page into the run's directory.

    Args:
        run: the finished run.
        image_set: its images; None: a page without pictures.
        how: where the map comes from, see :func:`plane.plane`.

    Returns:
        The page's path.

    Raises:
        InputError: a library is missing.
    """
    RunDirectory(run.path).write_text("report.html", render(run, image_set, how))
    return run.path / "report.html"


def render(run: FinishedRun, image_set: ImageSet | None, how: MapOf = "auto") -> str:
    """The page's HTML; see :func:`write`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    draw = None if image_set is None else drawing(image_set)
    kinds = cluster_sections.kinds_of(run, () if image_set is None else image_set.class_names)
    sections, cluster_sheets = cluster_sections.sections(run, image_set, draw, kinds)
    points, map_sheets, map_name = planar_map.points(run, draw, kinds, how)
    data = {
        **points,
        "labelNames": kinds.names if kinds else [],
        "colours": COLOURS,
        "k": run.n_clusters,
        "sheets": None if map_sheets is None else map_sheets._asdict(),
    }
    return environment.get_template("report.html").render(
        title=shown(f"{run.summary['method']} on {run.summary['dataset']}"),
        summary=run.summary,
        scores=_scores(run.summary),
        warnings=run.summary.get("warnings", []),
        charts=curves.charts(run.metrics()),
        clusters=sections,
        sheets=cluster_sheets,
        map_name=map_name,
        shown_points=len(points["ids"]),
        data=data,
        confusion=cluster_sections.confusion(run, kinds),
        skipped=[(shown(file), shown(reason)) for file, reason in run.skipped],
        settings=_settings(run.config),
        versions=run.config["versions"],
        device=run.config["device"],
        command=shown(run.config["command"]),
        run_path=shown(str(run.path)),
        css=(_TEMPLATES / "report.css").read_text("utf-8"),
        script=(_TEMPLATES / "report.js").read_text("utf-8"),
    )


def _scores(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = (("nmi", "NMI"), ("ari", "ARI"), ("acc", "ACC"))
    known = [(name, f"{summary[key]:.4f}") for key, name in named if summary.get(key) is not None]
    seconds = sum(summary["seconds"].values())
    return [
        *known,
        ("images", f"{summary['n_images']:,}"),
        ("clusters", f"{summary['clusters_found']} of {summary['n_clusters']}"),
        ("skipped files", f"{summary['n_skipped']:,}"),
        ("seconds", f"{seconds:,.0f}"),
    ]


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options, the method's settings and the data's description, flat."""
    parts = (config["options"], config["config"], {"data": config["data"]})
    return [
        (name, shown(value if isinstance(value, str) else json.dumps(value)))
        for part in parts
        for name, value in flatten(part).items()
    ]
