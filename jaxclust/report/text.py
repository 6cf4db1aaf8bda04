"""Makes names from outside safe to display."""

from jaxclust.core.visible import visible as shown

__all__ = ["shown"]
