"""A finished run on a folder whose names try to break a page."""

from pathlib import Path

import pytest
from PIL import Image

from jaxclust.cli import main
from tests.methods import small

# Markup, quotes, a newline, a right-to-left override, an ampersand, bytes that are no UTF-8.
NAMES = (
    '"><img src=x onerror=alert(1)>.png',
    "</script><script>alert(2)<.png".replace("/", "∕"),
    "a\nb.png",
    "\u202egnp.exe.png",
    "'&amp; & ü.png",
    "caf\udce9.png",
    "{{ 7 * 7 }}.png",
)
CLASSES = ("<i>plain", 'quo"ted', "عربي")
N = 36


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """36 pictures in three sub-folders, and a file that is none."""
    root = tmp_path_factory.mktemp("in")
    pictures, kinds = small.images(N)
    for i, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        name = NAMES[i] if i < len(NAMES) else f"{i:02d}.png"
        (root / CLASSES[kind]).mkdir(exist_ok=True)
        Image.fromarray(picture[..., 0]).save(root / CLASSES[kind] / name)
    (root / CLASSES[0] / "torn<b>.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="session")
def finished(folder, tmp_path_factory) -> Path:
    """The run's directory, with its page."""
    out = tmp_path_factory.mktemp("out") / "run"
    command = ["run", "--method=kmeans", f"--dataset=folder:{folder}", "--labels-from-folders"]
    command += ["--n-clusters=3", "--quiet", f"--out={out}"]
    assert main(command) == 0
    return out
