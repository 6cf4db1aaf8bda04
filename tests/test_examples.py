"""Every script of examples/ runs, and says something about what it clustered."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.methods import small

EXAMPLES = Path(__file__).parent.parent / "examples"
ARGUMENTS = {
    "own_folder": ["--n-clusters=3", "--image-size=8", "--epochs=1", "--starts=1"],
    "loss_in_your_loop": ["--steps=60"],
    "custom_backbone": ["--epochs=1", "--limit=200"],
    "ray_data": None,  # by tests/runs/test_predictor.py, with a run to label by
    "dask_delayed": None,
    "several_seeds": ["--seeds=2", "--preset=paper", "--epochs=1", "--limit=200"],
}


def test_every_example_has_its_arguments_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", sorted(name for name, given in ARGUMENTS.items() if given))
def test_examples_run(name, monkeypatch, capsys, tmp_path):
    given = ARGUMENTS[name]
    if name == "own_folder":
        for i, picture in enumerate(small.images(60)[0]):
            Image.fromarray(picture[..., 0]).save(tmp_path / f"{i}.png")
        given = [str(tmp_path), *given]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *given])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    if name == "own_folder":
        sizes = [int(size) for size in re.findall(r"cluster \d: (\d+) images", said)]
        assert len(sizes) == 3
        assert sum(sizes) == 60
    else:
        accuracy = float(re.findall(r"(?:ACC|'acc':) (0\.\d+)", said)[0])
        # Ten classes: chance is near 0.2 under the best map.
        assert accuracy > 0.25
