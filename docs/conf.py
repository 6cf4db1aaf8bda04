"""How the site is built: sphinx-build -W docs build/docs."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pages
from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import jaxclust

project = "jaxclust"
author = "the jaxclust developers"
release = version = jaxclust.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
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


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(convert(node.astext()))
    raise SkipNode


def _block(translator: Any, node: Any) -> None:
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise SkipNode


def setup(app: Any) -> None:
    """Sphinx's entry."""
    # MathML, which browsers draw without scripts from elsewhere.
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("builder-inited", lambda _: pages.write(Path(__file__).parent / "generated"))
