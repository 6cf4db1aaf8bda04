"""The pages and parts that are made from the code: reference, settings, results."""

import ast
import dataclasses
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxclust.methods import registry
from jaxclust.report.comparison import spread

RESULTS = Path(__file__).parent.parent / "experiments" / "results"
# Result files whose rows stand on the methods' pages.
TABLES = ("ccnn_small", "dac_small", "autoencoders", "compared", "baselines", "photographs")
# What others import, page by page: the modules whose public names are described.
REFERENCE = {
    "losses": ["losses"],
    "metrics": ["metrics"],
    "training": ["training.hooks", "training.fitted", "training.starts", "training.saving"],
    "types": ["core.types", "core.keys", "core.collectives", "core.errors"],
    "clustering": [
        "clustering.kmeans",
        "clustering.drift",
        "clustering.selection",
        "clustering.thresholds",
        "clustering.triplets",
        "clustering.criteria",
        "clustering.health",
        "clustering.distances",
        "clustering.neighbours",
        "clustering.tsne",
        "clustering.convolutional",
    ],
    "images": ["images.augment", "images.normalisation", "images.descriptors"],
    "models": [
        "models.layers",
        "models.adapter",
        "models.autoencoder",
        "models.backbones",
        "models.heads",
        "models.feature_and_output",
        "models.allconvnet",
    ],
    "data": ["data.catalogue"],
    "parts": [
        "methods.parts.gradient",
        "methods.parts.pretraining",
        "methods.parts.autoencoding",
        "methods.parts.centroids",
        "methods.parts.recipe",
        "methods.registry",
        "methods.parts.registered",
    ],
}
_TITLES = {
    "losses": "Losses",
    "metrics": "Scores",
    "training": "Fitting, hooks, saving",
    "types": "Types, keys, devices",
    "clustering": "Cluster state and its updates",
    "images": "Images",
    "models": "Networks and layers",
    "data": "Data sets",
    "parts": "Parts of methods, and the registry",
}


def module(name: str) -> ModuleType:
    """jaxclust.NAME, imported."""
    return __import__(f"jaxclust.{name}", fromlist=["_"])


def families() -> dict[str, list[str]]:
    """Registered names by the module their methods are built in."""
    found: dict[str, list[str]] = {}
    for name, entry in registry.METHODS.items():
        home = inspect.unwrap(entry.make).__module__.removeprefix("jaxclust.methods.")
        found.setdefault(home, []).append(name)
    return found


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "".join(f"| {' | '.join(cell.replace('|', '∣') for cell in line)} |\n" for line in lines)


def described(config: type) -> list[tuple[str, str, str]]:
    """(name, default, what it is) of a settings class's fields, from the docstrings under them."""
    about: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        [node] = ast.parse(inspect.getsource(base)).body
        assert isinstance(node, ast.ClassDef)
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                assert isinstance(field.target, ast.Name)
                about[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    plain = {field.name: field.default for field in dataclasses.fields(config)}
    return [(name, _shown(value), about.get(name, "")) for name, value in plain.items()]


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        changed = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
        return ", ".join(f"{name} {_shown(one)}" for name, one in changed.items()) or "none"
    return str(value)


def settings(names: list[str]) -> str:
    """The settings of a family, and what its methods and presets change."""
    config = type(registry.find(names[0]).config())
    options = [
        (f"`{name}`", f"`{default}`", about.replace("_", "\\_"))
        for name, default, about in described(config)
    ]
    text = "## Settings\n\nEach is an option of `jaxclust run`, with dashes for underscores, and a "
    text += f"field of `{config.__module__}.Config`.\n\n"
    text += table(("setting", "default", "what it is"), options)
    return text + "\n" + _presets(names)


def _presets(names: list[str]) -> str:
    rows = []
    for name in names:
        entry = registry.find(name)
        for preset in sorted(entry.presets):
            chosen = entry.config(preset)
            changes = [
                f"`{field.name}={_shown(getattr(chosen, field.name))}`"
                for field in dataclasses.fields(chosen)
                if getattr(chosen, field.name) != field.default
            ]
            rows.append((f"`{name}`", preset, ", ".join(changes) or "the defaults"))
    return "What methods and presets change:\n\n" + table(("method", "preset", "settings"), rows)


def results(names: list[str]) -> str:
    """The recorded rows of a family's methods; empty without any."""
    rows = []
    for name in TABLES:
        for row in json.loads((RESULTS / f"{name}.json").read_text("utf-8")):
            words = row.get("command", "").replace("=", " ").split()
            if "--method" in words and words[words.index("--method") + 1] in names:
                scores = [spread(row[key]) for key in ("acc", "nmi")]
                seeds = ", ".join(map(str, row["seeds"]))
                rows.append((row["dataset"], row["title"], *scores, seeds))
    if not rows:
        return ""
    text = (
        "## Results\n\nPercent, mean ± standard deviation over the seeds named. Commands, versions "
    )
    text += "and devices stand in experiments/results/.\n\n"

    return text + table(("data set", "run", "ACC", "NMI", "seeds"), rows)


def _titled(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def write_reference(folder: Path) -> None:
    """A page a part of the package, the estimators' and the methods'."""
    for page, names in REFERENCE.items():
        text = _titled(_TITLES[page], "=")
        for name in names:
            text += _titled(f"jaxclust.{name}", "-") + f".. automodule:: jaxclust.{name}\n\n"
        (folder / f"{page}.rst").write_text(text, "utf-8")
    text = _titled("Estimators", "=") + "scikit-learn's conventions on the methods.\n\n"
    text += ".. autoclass:: jaxclust.estimators.ImageClusterer\n\n"
    for entry in registry.METHODS.values():
        if entry.estimator:
            text += f".. autoclass:: jaxclust.estimators.{entry.estimator}\n\n"
    (folder / "estimators.rst").write_text(text, "utf-8")
    text = _titled("Methods", "=") + "What `jaxclust run --method` and the estimators build.\n\n"
    for home in families():
        text += _titled(f"jaxclust.methods.{home}", "-")
        text += f".. automodule:: jaxclust.methods.{home}\n   :exclude-members: Config\n\n"
    (folder / "methods.rst").write_text(text, "utf-8")


def write(folder: Path) -> None:
    """All that is made from the code."""
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    write_reference(folder)
    (parts / "names.md").write_text(registry.markdown() + "\n", "utf-8")
    for home, names in families().items():
        text = f"{settings(names)}\n{results(names)}\n"
        (parts / f"{home}.md").write_text(text, "utf-8")
