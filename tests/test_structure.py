"""The tree stays readable: small files, small functions, names that are told apart."""

import ast
import statistics
from collections import Counter
from pathlib import Path

import pytest

import jaxclust

ROOT = Path(jaxclust.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# A method's file and the file of its losses may share a name.
SHARED = {"dec", "temi"}


def lines(path):
    return len(path.read_text().splitlines())


def test_files_are_short():
    sizes = {path: lines(path) for path in FILES}
    assert statistics.median(sizes.values()) <= 150
    assert not {str(path): size for path, size in sizes.items() if size > 300}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path):
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > 40
    }
    assert not long


def test_no_two_modules_share_a_name():
    names = Counter(path.stem for path in FILES if not path.stem.startswith("__"))
    assert {name for name, count in names.items() if count > 1} <= SHARED


def test_names_say_what_is_inside():
    vague = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not vague & {
        part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts
    }


def test_a_published_method_is_short():
    """VaDE, settings included: the measure of the vocabulary."""
    assert lines(ROOT / "methods" / "vade.py") <= 150
