"""`python -m jaxclust` is the installed script."""

from jaxclust.cli import script

script()
