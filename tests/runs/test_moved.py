"""Pictures are found from any folder, and a page with pictures is not lost for one without."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from tests.methods import small


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run that was given a relative path to its pictures."""
    home = tmp_path / "home"
    (home / "in").mkdir(parents=True)
    for i, picture in enumerate(small.images(6)[0]):
        Image.fromarray(picture[..., 0]).save(home / "in" / f"{i}.png")
    np.savez(home / "x.npz", images=small.images(6)[0])
    monkeypatch.chdir(home)
    common = ["run", "--method=kmeans", "--n-clusters=2", "--quiet"]
    assert main([*common, "--dataset=folder:in", "--out=run"]) == 0
    assert main([*common, "--dataset=npz:x.npz", "--out=arrays"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return home / "run"


def test_a_page_is_made_from_another_folder(run, capsys, tmp_path):
    config = json.loads((run / "config.json").read_text())
    assert config["source"] == f"folder:{run.parent / 'in'}"
    assert config["options"]["dataset"] == "folder:in"
    assert config["data_dir"].startswith("/")
    (run / "report.html").unlink()
    assert main(["report", str(run), "--map=pca"]) == 0
    assert "data:image/" in (run / "report.html").read_text()
    assert main(["export", str(run), f"--to={tmp_path}/out"]) == 0
    assert len(list((tmp_path / "out").rglob("cluster-*/*.png"))) == 6


@pytest.mark.parametrize(("name", "source"), [("run", "in"), ("arrays", "x.npz")])
def test_pictures_that_moved_are_named_by_an_option(run, name, source, capsys, tmp_path):
    folder = run.parent / name
    (run.parent / source).rename(tmp_path / source)
    before = (folder / "report.html").read_bytes()
    assert main(["report", str(folder)]) == 0
    said = capsys.readouterr()
    assert "report.html is left unchanged, since it has images" in said.err
    assert "--images" in said.err
    assert said.out.strip() == str(folder / "report.html")
    assert (folder / "report.html").read_bytes() == before
    assert main(["export", str(folder), f"--to={tmp_path}/out"]) == 2
    moved = f"--images={tmp_path / source}"
    (folder / "report.html").unlink()
    assert main(["report", str(folder), "--map=pca", moved]) == 0
    assert "data:image/" in (folder / "report.html").read_text()
    assert main(["export", str(folder), f"--to={tmp_path}/out", moved]) == 0
    assert main(["report", str(folder), f"--images={tmp_path}/nowhere"]) == 2


def test_without_pictures_there_is_a_page_where_there_was_none(run, capsys):
    shutil.rmtree(run.parent / "in")
    (run / "report.html").unlink()
    assert main(["report", str(run), "--map=pca"]) == 0
    assert "a page without images" in capsys.readouterr().err
    assert "data:image/" not in (run / "report.html").read_text()


def test_named_sets_are_where_the_data_directory_is(capsys, tmp_path, run):
    digits = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", "--quiet", "--out=run"]
    assert main(digits) == 0
    assert main(["report", "run", f"--images={tmp_path}"]) == 2
    assert "give --data-dir" in capsys.readouterr().err
