"""What sets a run apart from others of its method, in words for a table."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jaxclust.data.named_sets import CATALOGUE
from jaxclust.methods import registry

# Options that change what a run is, besides its method's settings.
OPTIONS = (
    "encoder", "n_clusters", "image_size", "limit", "imbalance", "labels_from_folders", "precision",
)  # fmt: skip
_USUAL = {"precision": "float32", "labels_from_folders": False}


def differences(record: Mapping[str, Any]) -> list[str]:
    """The preset if not `best`, and every option and setting that differs from the preset's.

    Args:
        record: a run's config.json.
    """
    options = record["options"]
    found = [] if options["preset"] == "best" else [options["preset"]]
    # These two change the number of images by themselves.
    if options.get("limit") is None and options.get("imbalance") is None and _in_part(record):
        found.append(f"{record['data']['n_images']} images")
    for name in OPTIONS:
        if options.get(name) != _USUAL.get(name):
            found.append(f"{name}={options[name]}")
    # Without the path, which every seed has for itself.
    if options.get("pretrained") is not None:
        found.append("pretrained")
    return [*found, *_settings(record), *(["edited by hand"] if "edited_from" in record else [])]


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether a run's clusters are its method's own, of all images of the set."""
    return "edited_from" not in record and not _in_part(record)


def _in_part(record: Mapping[str, Any]) -> bool:
    """Whether a set has not the size that its name stands for; a few damaged files do no harm."""
    entry = CATALOGUE.get(record["options"]["dataset"])
    n_images = record["data"]["n_images"]
    return entry is not None and abs(n_images - entry.n_images) > 0.01 * entry.n_images


def _settings(record: Mapping[str, Any]) -> list[str]:
    options = record["options"]
    if options["method"] not in registry.METHODS:
        return []
    # Through JSON, like the run's record.
    preset = registry.find(options["method"]).config(options["preset"])
    usual = json.loads(json.dumps(asdict(preset), default=str))
    config = record["config"].items()
    return [f"{name}={value}" for name, value in config if name in usual and usual[name] != value]
