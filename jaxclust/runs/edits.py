"""Edits of a finished run's clusters, as its page saves them.

A small JSON file: `{"jaxclust_edits": 1, "run": …, "edits": [{"do": …}, …]}`, applied in order.

| do | further keys | what happens |
| --- | --- | --- |
| rename | cluster, name | the cluster gets a name; an empty one takes it away |
| merge | cluster, into | the cluster's images go to another one |
| move | rows, into | images go to a cluster; a new number makes one |
| noise | rows | images belong to no cluster |
| split | cluster, parts: lists of rows, new: numbers | the first part stays, the others are new |

Rows are those of assignments.csv, from 0. Clusters keep their numbers while edits are applied, and
are numbered from 0 on at the end.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.runs.finished import FinishedRun

VERSION = 1
NOISE = -1
NOISE_NAME = "noise"
_LONGEST_NAME = 200
# Most clusters that edits can make.
_MOST = 65_000


class Edited(NamedTuple):
    """A run's clusters after its edits."""

    clusters: np.ndarray  # int [n], from 0 on; images of no cluster have the last number
    names: tuple[str, ...]  # of the clusters; empty: none given
    touched: np.ndarray  # bool [n]: images that an edit put where they are
    noise: np.ndarray  # bool [n]: images of no cluster


def mark(clusters: np.ndarray) -> str:
    """What tells the run that edits are for: a digest of its assignments."""
    return hashlib.sha256(np.ascontiguousarray(clusters, "<i4").tobytes()).hexdigest()[:16]


def read(path: Path, run: FinishedRun) -> list[dict[str, Any]]:
    """The edits of a file.

    Args:
        path: of the JSON file.
        run: that they are to be applied to.

    Raises:
        InputError: no such file, or one of another run or kind.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); save it again") from error
    if not isinstance(content, dict) or content.get("jaxclust_edits") != VERSION:
        raise InputError(f"{path} has no edits of version {VERSION}; save them in the run's page")
    if content.get("run") != mark(run.clusters):
        raise InputError(
            f"the edits in {path} are of another run than {run.path}; give the run whose page they "
            "were saved in"
        )
    edits = content.get("edits")
    if not isinstance(edits, list) or not all(isinstance(one, dict) for one in edits):
        raise InputError(f"{path} has no list of edits; save them in the run's page again")
    return edits


def content(run: FinishedRun, edits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a file of a run's edits holds."""
    return {"jaxclust_edits": VERSION, "run": mark(run.clusters), "edits": list(edits)}


class _State:
    """Clusters while edits are applied."""

    def __init__(self, run: FinishedRun) -> None:
        self.features = run.features
        self.clusters = run.clusters.astype(np.int64).copy()
        self.names = dict(enumerate(run.names))
        self.touched = np.zeros(len(self.clusters), bool)

    def put(self, rows: np.ndarray, into: int) -> None:
        self.clusters[rows] = into
        self.touched[rows] = True

    def rename(self, edit: Mapping[str, Any]) -> None:
        name = edit.get("name")
        if not isinstance(name, str) or len(name) > _LONGEST_NAME or not _printable(name):
            raise ValueError(f"a name is printable text of up to {_LONGEST_NAME} characters")
        self.names[_number(edit, "cluster")] = name.strip()

    def merge(self, edit: Mapping[str, Any]) -> None:
        self.clusters[self.clusters == _number(edit, "cluster")] = _number(edit, "into")

    def move(self, edit: Mapping[str, Any]) -> None:
        self.put(self.rows(edit.get("rows")), _number(edit, "into"))

    def noise(self, edit: Mapping[str, Any]) -> None:
        self.put(self.rows(edit.get("rows")), NOISE)

    def split(self, edit: Mapping[str, Any]) -> None:
        cluster, parts, new = _number(edit, "cluster"), edit.get("parts"), edit.get("new")
        if not isinstance(parts, list) or not isinstance(new, list) or len(parts) != len(new) + 1:
            raise ValueError("a split has one part more than new clusters")
        members = self.clusters == cluster
        groups = [self.rows(part) for part in parts]
        numbers = [cluster, *(_number({"new": one}, "new") for one in new)]
        if len(np.unique(np.concatenate(groups))) != sum(map(len, groups)) or not all(
            members[group].all() and len(group) for group in groups
        ):
            raise ValueError(f"the parts of cluster {cluster} are not apart, or not of it")
        if len({*numbers}) < len(numbers) or np.isin(numbers[1:], self.clusters).any():
            raise ValueError("a new cluster of a split needs a number that no cluster has")
        # A page of a large run shows some images; the others go with the nearest part.
        rest = members.copy()
        rest[np.concatenate(groups)] = False
        nearest = _nearest_mean(self.features, groups, np.flatnonzero(rest))
        for i, (group, number) in enumerate(zip(groups, numbers, strict=True)):
            self.clusters[group] = number
            self.clusters[np.flatnonzero(rest)[nearest == i]] = number

    def rows(self, given: Any) -> np.ndarray:
        ints = isinstance(given, list) and all(type(row) is int for row in given)
        if not ints or not all(0 <= row < len(self.clusters) for row in given):
            raise ValueError(f"rows are whole numbers from 0 to {len(self.clusters) - 1}")
        return np.asarray(given, np.int64)


def _printable(name: str) -> bool:
    return all(character.isprintable() for character in name)


def _number(edit: Mapping[str, Any], key: str) -> int:
    value = edit.get(key)
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError(f"'{key}' is a whole number from 0 to {_MOST - 1}")
    return value


def _nearest_mean(features: np.ndarray, groups: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Which group's mean is nearest, int [rows]."""
    if not len(rows):
        return np.zeros(0, np.int64)
    flat = features.reshape(len(features), -1)
    means = np.stack([flat[group].mean(axis=0) for group in groups])
    distances = [np.square(flat[rows] - mean).sum(axis=1) for mean in means]
    return np.argmin(distances, axis=0)


_KINDS = ("rename", "merge", "move", "noise", "split")


def applied(run: FinishedRun, edits: Sequence[Mapping[str, Any]]) -> Edited:
    """The run's clusters after the edits, in order.

    Raises:
        InputError: an edit that makes no sense; its number is named.
    """
    state = _State(run)
    for i, edit in enumerate(edits):
        try:
            if edit.get("do") not in _KINDS:
                raise ValueError(f"'do' is one of {', '.join(_KINDS)}, not {edit.get('do')!r}")
            getattr(state, edit["do"])(edit)
        except ValueError as error:
            raise InputError(
                f"edit {i + 1} cannot be applied ({error}); save them again"
            ) from error
    noise = state.clusters == NOISE
    kept = np.unique(state.clusters[~noise])
    clusters = np.where(noise, len(kept), np.searchsorted(kept, state.clusters))
    names = [state.names.get(int(number), "") for number in kept]
    if noise.any():
        names.append(NOISE_NAME)
    return Edited(clusters, tuple(names), state.touched, noise)
