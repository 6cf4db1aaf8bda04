"""Names from elsewhere, made safe to look at."""

from jaxclust.core.visible import visible as shown

__all__ = ["shown"]
