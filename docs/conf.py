"""How the site is built: sphinx-build -W docs build/docs."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pages

import jaxclust

project = "jaxclust"
author = "the jaxclust developers"
release = version = jaxclust.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"jaxclust {version}"
html_static_path = ["style"]
html_css_files = ["tables.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Comments beside the fields of a NamedTuple describe them.
autodoc_default_options = {"members": True, "undoc-members": False}
default_role = "code"
# Generated parts are included by other pages.
exclude_patterns = ["_build", "generated/parts"]


def setup(app: Any) -> None:
    """Sphinx's entry."""
    app.connect("builder-inited", lambda _: pages.write(Path(__file__).parent / "generated"))
