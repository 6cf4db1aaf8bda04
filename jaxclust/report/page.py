"""report.html: a finished run as one self-contained page."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from jaxclust.data.catalogue import ImageSet
from jaxclust.report import cluster_sections, curves, planar_map
from jaxclust.report.planar_map import MapOf, MapOfImages
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import drawing
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.finished import FinishedRun
from jaxclust.runs.recorded import flatten

_TEMPLATES = Path(__file__).parent / "templates"


def write(
    run: FinishedRun, image_set: ImageSet | None, how: MapOf = "auto", *, quiet: bool = False
) -> Path:
    """Write the page into the run's directory; warns on stderr if there is no map.

    Args:
        run: the finished run.
        image_set: its images; None: a page without images.
        how: where the map comes from, see :func:`planar_map.plane`.
        quiet: without the warning.

    Returns:
        The page's path.

    Raises:
        InputError: a library is missing, or there are too few images for it.
    """
    shown_map = _map_of(run, image_set, how)
    if shown_map.data is None and not quiet:
        print(f"warning: the page has no map: {shown_map.said}", file=sys.stderr)
    RunDirectory(run.path).write_text("report.html", _html(run, image_set, shown_map))
    return run.path / "report.html"


def render(run: FinishedRun, image_set: ImageSet | None, how: MapOf = "auto") -> str:
    """The page's HTML; see :func:`write`."""
    return _html(run, image_set, _map_of(run, image_set, how))


def _kinds(run: FinishedRun, image_set: ImageSet | None) -> cluster_sections.Kinds | None:
    return cluster_sections.kinds_of(run, () if image_set is None else image_set.class_names)


def _map_of(run: FinishedRun, image_set: ImageSet | None, how: MapOf) -> MapOfImages:
    draw = drawing(image_set)
    return planar_map.map_of(run, draw, _kinds(run, image_set), how)


def _html(run: FinishedRun, image_set: ImageSet | None, shown_map: MapOfImages) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html").render(
        **_found(run, image_set),
        **_record(run),
        map=shown_map._asdict(),
        css=(_TEMPLATES / "report.css").read_text("utf-8"),
        script=(_TEMPLATES / "report.js").read_text("utf-8"),
        edit_script=(_TEMPLATES / "edit.js").read_text("utf-8"),
    )


def _found(run: FinishedRun, image_set: ImageSet | None) -> dict[str, Any]:
    """What the run found: scores, clusters with their images, curves, labels."""
    draw, kinds = drawing(image_set), _kinds(run, image_set)
    found = cluster_sections.sections(run, image_set, draw, kinds)
    return {
        "title": shown(f"{run.summary['method']} on {run.summary['dataset']}"),
        "summary": run.summary,
        "scores": _scores(run.summary),
        "warnings": run.summary.get("warnings", []),
        "charts": curves.charts(run.metrics()),
        "count": curves.count(run.config.get("cluster_count")),
        **found._asdict(),
        "duplicates": len(run.duplicates),
        "labelled": kinds is not None,
        "confusion": cluster_sections.confusion(run, kinds),
        "skipped": [(shown(file), shown(reason)) for file, reason in run.skipped],
    }


def _record(run: FinishedRun) -> dict[str, Any]:
    """How the run was made, and on what."""
    return {
        "settings": _settings(run.config),
        "versions": run.config["versions"],
        "device": run.config["device"],
        "command": shown(run.config["command"]),
        "run_path": shown(str(run.path)),
    }


def _scores(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = (("nmi", "NMI"), ("ari", "ARI"), ("acc", "ACC"))
    known = [(name, f"{summary[key]:.4f}") for key, name in named if summary.get(key) is not None]
    seconds = sum(summary["seconds"].values())
    return [
        *known,
        ("images", f"{summary['n_images']:,}"),
        ("clusters", _clusters(summary)),
        ("skipped files", f"{summary['n_skipped']:,}"),
        ("seconds", f"{seconds:,.0f}"),
    ]


def _clusters(summary: Mapping[str, Any]) -> str:
    found, asked = summary["clusters_found"], summary["n_clusters"]
    # The key is missing in runs of earlier versions.
    return f"{found}, found by the method" if summary.get("finds_number") else f"{found} of {asked}"


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options, the method's settings and the data's description, flat."""
    parts = (config["options"], config["config"], {"data": config["data"]})
    return [
        (name, shown(value if isinstance(value, str) else json.dumps(value)))
        for part in parts
        for name, value in flatten(part).items()
    ]
