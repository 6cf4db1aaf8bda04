"""How the API reference is built: sphinx-build -W docs build/docs."""

import pkgutil
from pathlib import Path
from typing import Any

import jaxclust
from jaxclust.methods import registry

project = "jaxclust"
author = "the jaxclust developers"
release = version = jaxclust.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"jaxclust {version}"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Fields of NamedTuples are told in the comments beside them.
autodoc_default_options = {"members": True, "undoc-members": False}
default_role = "code"
exclude_patterns = ["_build"]
_GENERATED = Path(__file__).parent / "generated"
_PACKAGES = ("core", "losses", "images", "clustering", "models", "data", "methods", "training")
_PACKAGES += ("runs", "report")


def _titled(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def _modules(package: Any) -> list[str]:
    """Dotted names of a package's public modules, those of its sub-packages too."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [one.name for one in found if not any(part[0] == "_" for part in one.name.split("."))]


def write_pages(_: Any) -> None:
    """A page a package: every public module; the estimators and methods of the registry."""
    _GENERATED.mkdir(exist_ok=True)
    for name in _PACKAGES:
        package = getattr(jaxclust, name)
        page = _titled(f"jaxclust.{name}", "=") + f"{package.__doc__}\n\n"
        for module in _modules(package):
            page += _titled(module, "-") + f".. automodule:: {module}\n\n"
        (_GENERATED / f"{name}.rst").write_text(page, "utf-8")
    page = _titled("Estimators", "=") + "scikit-learn's conventions on the methods.\n\n"
    page += ".. autoclass:: jaxclust.estimators.ImageClusterer\n\n"
    for entry in registry.METHODS.values():
        if entry.estimator:
            page += f".. autoclass:: jaxclust.estimators.{entry.estimator}\n\n"
    (_GENERATED / "estimators.rst").write_text(page, "utf-8")
    page = _titled("Methods by name", "=") + ".. list-table::\n   :header-rows: 1\n\n"
    for row in (("method", "what it is", "presets", "class"), *registry.rows()):
        page += "".join(f"   {'*' if i == 0 else ' '} - {c}\n" for i, c in enumerate(row))
    (_GENERATED / "names.rst").write_text(page, "utf-8")


def setup(app: Any) -> None:
    """Sphinx's entry."""
    app.connect("builder-inited", write_pages)
