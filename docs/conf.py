"""How the API reference is built: sphinx-build -W docs build/docs."""

import jaxclust

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
# Fields of NamedTuples are told in the comments beside them.
autodoc_default_options = {"members": True, "undoc-members": False}
default_role = "code"
exclude_patterns = ["_build"]
