"""Labels for new images from a finished run."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.data.decoding import Streamed
from jaxclust.data.resizing import with_channels
from tests.methods import small

RUNS = {
    # Of the preset's four starts one is chosen.
    "ccnn": ["--epochs=1", "--pretrain-epochs=1", "--batch-size=30", "--k-m=24", "--n-m=24"],
    "derc": [
        "--epochs=1",
        "--pretrain-epochs=1",
        "--reducer=pca",
        "--restarts=1",
        "--iterations=1",
    ],
    "nmf": [],
}


@pytest.fixture(scope="module", params=sorted(RUNS))
def run(request, tmp_path_factory):
    """(folder of a finished run, npz file of its images)."""
    folder = tmp_path_factory.mktemp(request.param)
    images, _ = small.images(60)
    np.savez(folder / "images.npz", images=images)
    arguments = ["run", f"--method={request.param}", f"--dataset=npz:{folder}/images.npz"]
    arguments += [
        "--n-clusters=3",
        f"--out={folder}/run",
        "--quiet",
        "--no-report",
        *RUNS[request.param],
    ]
    assert main(arguments) == 0
    return folder / "run", folder / "images.npz"


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_runs_own_images_get_their_labels(run, capsys):
    folder, images = run
    assert main(["predict", str(folder), str(images)]) == 0
    found = rows(capsys.readouterr().out)
    recorded = rows((folder / "assignments.csv").read_text())
    assert [row["cluster"] for row in found] == [row["cluster"] for row in recorded]
    mine, theirs = ([float(row["confidence"]) for row in part] for part in (found, recorded))
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_pictures_are_brought_to_the_size_and_channels_of_the_run(run, capsys, tmp_path):
    folder, images = run
    pictures = np.load(images)["images"]
    for i in range(6):
        large = Image.fromarray(pictures[i, ..., 0]).resize((32, 32), Image.Resampling.NEAREST)
        large.convert("RGB").save(tmp_path / f"{i}.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    assert main(["predict", str(folder), str(tmp_path), "--out", "labels.csv"]) == 0
    assert "skipped torn.png" in capsys.readouterr().err
    found = rows(Path("labels.csv").read_text())
    assert [row["id"] for row in found] == [f"{i}.png" for i in range(6)]
    recorded = rows((folder / "assignments.csv").read_text())
    same = [a["cluster"] == b["cluster"] for a, b in zip(found, recorded[:6], strict=True)]
    assert sum(same) >= 5
    assert main(["predict", str(folder), str(tmp_path / "3.png")]) == 0
    assert rows(capsys.readouterr().out)[0]["cluster"] == found[3]["cluster"]


@pytest.mark.parametrize("run", ["nmf"], indirect=True)
def test_pictures_beyond_memory_are_read_when_needed(run, tmp_path, monkeypatch):
    folder, images = run
    for i, picture in enumerate(np.load(images)["images"][:6]):
        Image.fromarray(picture[..., 0]).convert("RGB").save(tmp_path / f"{i}.png")
    held = ["predict", str(folder), str(tmp_path)]
    assert main([*held, "--out", "held.csv"]) == 0
    asked, seen_in = [], Streamed.seen_in
    monkeypatch.setattr(Streamed, "seen_in", lambda s, c: asked.append(c) or seen_in(s, c))
    assert main([*held, "--in-memory=0", "--out", "streamed.csv"]) == 0
    assert asked == [1]
    assert Path("streamed.csv").read_text() == Path("held.csv").read_text()


def refused(capsys, *arguments):
    assert main(["predict", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxclust: ")
    assert said.count("\n") == 1
    return said


def test_what_cannot_be_predicted_with_is_refused(run, capsys, tmp_path):
    folder, images = run
    assert "no config.json" in refused(capsys, tmp_path, images)
    assert "no such images" in refused(capsys, folder, "nowhere")
    assert "see jaxclust predict --help" in refused(capsys, folder)
    assert "invalid gigabytes value: 'nan'" in refused(capsys, folder, images, "--in-memory", "nan")
    assert "unknown option --fast" in refused(capsys, folder, images, "--fast")
    np.savez(tmp_path / "odd.npz", images=np.zeros((4, 8, 8, 2), np.uint8))
    assert "shape (8, 8, 1)" in refused(capsys, folder, tmp_path / "odd.npz")
    np.savez(tmp_path / "float.npz", images=np.zeros((4, 8, 8), np.float32))
    assert "the run used uint8 images" in refused(capsys, folder, tmp_path / "float.npz")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(folder, unfinished)
    (unfinished / "summary.json").unlink()
    assert "not finished; continue it with --resume" in refused(capsys, unfinished, images)
    shutil.rmtree(unfinished / "checkpoints")
    (unfinished / "summary.json").write_text("{}")
    assert "no checkpoint" in refused(capsys, unfinished, images)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_colours_become_grey_as_pillow_makes_them():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    grey = with_channels(colours, 1)
    expected = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in colours])
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1
    back = with_channels(grey, 3)
    np.testing.assert_array_equal(back, np.repeat(grey, 3, axis=3))
