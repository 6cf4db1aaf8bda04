"""Dependencies point one way; see docs/explanation/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxclust

ROOT = Path(jaxclust.__file__).parent
# Each may import itself and what stands before it.
LAYERS = [
    {"_lazy"},
    {"core"},
    {"losses", "images", "metrics"},
    {"clustering", "data"},
    {"models"},
    {"methods"},
    {"training"},
    {"runs"},
    {"report", "estimators"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules():
    return sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    for name in imported(path):
        if name.startswith("jaxclust."):
            target = name.split(".")[1]
            assert RANK[target] <= RANK[part(path)], f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_third_party_stays_in_its_place(path):
    allowed = {
        "losses": ("jax", "optax", "chex", "collections.abc", "jaxclust.losses"),
    }.get(part(path))
    for name in imported(path):
        if allowed:
            assert name.startswith(allowed), f"{path} imports {name}"
        if name.startswith("flax.linen"):
            assert part(path) == "models", f"{path} imports {name}"
        if part(path) == "core":
            assert not name.startswith(HEAVY), f"{path} imports {name}"
        if part(path) == "data":
            assert not name.startswith("jaxclust.clustering"), f"{path} imports {name}"


HEAVY = ("flax", "optax", "orbax", "sklearn", "scipy", "tyro", "rich", "PIL", "chex")


def test_import_is_light():
    code = (
        "import sys, jaxclust; "
        "heavy = {'jax', 'flax', 'sklearn', 'tensorflow_datasets', 'orbax'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_resolve():
    for name in jaxclust.__all__:
        found = getattr(jaxclust, name).__name__
        assert found in {name, f"jaxclust.{name}", f"jaxclust.training.{name}"}
    with pytest.raises(AttributeError, match="no attribute"):
        jaxclust.nonsense  # noqa: B018


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_attributes_of_their_packages(path):
    """`from jaxclust import methods; methods.ccnn`, without an import of it before.

    An import elsewhere makes a module an attribute, too; so this asks the package for it.
    """
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    if parts[0] == "cli" or any(part.startswith("_") for part in parts):
        pytest.skip("private, or the commands")
    found = jaxclust
    for part in parts:
        if "__getattr__" in vars(found):
            found = found.__getattr__(part)
        else:
            assert f".{part} import " in Path(found.__file__).read_text()
            found = getattr(found, part)
    assert found.__name__ == ".".join(("jaxclust", *parts))
    assert set(parts[1:]) <= set(dir(getattr(jaxclust, parts[0]))) | set(parts[2:])


def test_a_package_says_what_it_lacks():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        jaxclust.methods.nonsense  # noqa: B018
