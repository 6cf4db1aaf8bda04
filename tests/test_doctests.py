"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

import jaxclust

ROOT = Path(jaxclust.__file__).parent


def with_examples():
    for path in sorted(ROOT.rglob("*.py")):
        if doctest.DocTestParser().get_examples(path.read_text(encoding="utf-8")):
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("name", list(with_examples()))
def test_examples_hold(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted, "examples outside docstrings are never run"
    assert not results.failed, "see the captured output"


def test_every_loss_has_an_example():
    from jaxclust import losses

    finder = doctest.DocTestFinder()
    for name in losses.__all__:
        found = finder.find(getattr(losses, name), name)
        assert any(test.examples for test in found), name
