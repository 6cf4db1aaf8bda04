"""Bounds on settings, refused in words that name the option."""

from typing import Any

from jaxclust.core.errors import InputError


def at_least(config: Any, least: float, *names: str) -> None:
    """InputError where a setting is below `least`."""
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise InputError(f"{name} must be at least {least:g}, not {value}; set {option(name)}")


def positive(config: Any, *names: str) -> None:
    """InputError where a setting is zero or below."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise InputError(f"{name} must be positive, not {value}; set {option(name)}")


def option(name: str) -> str:
    """A setting's name on the command line."""
    return f"--{name.replace('_', '-')}"
