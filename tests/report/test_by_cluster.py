"""Exports open where they are meant to: file managers, pandas' readers, TensorBoard."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.runs.finished import read_finished
from tests.methods import small


def test_pictures_of_a_folder_are_linked_by_cluster(finished, folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(finished), f"--to={out}"]) == 0
    assert capsys.readouterr().out.startswith("36 images of 3 clusters")
    run = read_finished(finished)
    for name, cluster in zip(run.ids, run.clusters, strict=True):
        link = out / f"cluster-{cluster}" / name
        assert link.is_symlink()
        assert link.resolve() == (folder / name).resolve()
    assert main(["export", str(finished), f"--to={out}"]) == 2
    assert "is not empty" in capsys.readouterr().err
    copies = tmp_path / "copies"
    assert main(["export", str(finished), f"--to={copies}", "--copy"]) == 0
    for name, cluster in zip(run.ids, run.clusters, strict=True):
        copy = copies / f"cluster-{cluster}" / name
        assert not copy.is_symlink()
        assert copy.read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_arrays_become_pngs_and_the_projector_has_every_row(tmp_path, kind):
    pictures, labels = small.images(30)
    scaled = pictures if kind == np.uint8 else pictures.astype(np.float32) / pictures.max()
    np.savez(tmp_path / "x.npz", images=scaled, labels=labels)
    run = ["run", "--method=kmeans", f"--dataset=npz:{tmp_path}/x.npz", "--quiet", "--no-report"]
    assert main([*run, f"--out={tmp_path}/run"]) == 0
    assert main(["export", f"{tmp_path}/run", f"--to={tmp_path}/out"]) == 0
    found = read_finished(tmp_path / "run")
    stretch = 1 if kind == np.uint8 else 255 / pictures.max()
    low = 0 if kind == np.uint8 else pictures.min()
    for row in (0, 17):
        file = tmp_path / "out" / f"cluster-{found.clusters[row]}" / f"{row}.png"
        with Image.open(file) as picture:
            seen = np.asarray(picture).astype(float)
        expected = pictures[row, ..., 0].astype(float)
        if kind == np.float32:
            stretch = 255 / (pictures.max() - low)
        assert np.abs(seen - (expected - low) * stretch).max() <= 1
    projector = tmp_path / "out" / "projector"
    features = np.loadtxt(projector / "features.tsv", delimiter="\t")
    np.testing.assert_allclose(features, found.features, rtol=1e-4, atol=1e-5)
    with (projector / "metadata.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["cluster"]) for row in rows] == found.clusters.tolist()
    assert [int(row["label"]) for row in rows] == labels.tolist()
    with Image.open(projector / "sprite.png") as sprite:
        side = sprite.width // 6
        assert sprite.size == (6 * side, 5 * side)
    assert f"single_image_dim: {side}" in (projector / "projector_config.pbtxt").read_text()


def test_projector_files_are_what_tensorboard_reads(finished, tmp_path):
    projector = pytest.importorskip(
        "tensorboard.plugins.projector.projector_config_pb2", reason="needs tensorboard"
    )
    from google.protobuf import text_format

    assert main(["export", str(finished), f"--to={tmp_path}/out"]) == 0
    text = (tmp_path / "out" / "projector" / "projector_config.pbtxt").read_text()
    config = text_format.Parse(text, projector.ProjectorConfig())
    [embedding] = config.embeddings
    for name in (embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path):
        assert (tmp_path / "out" / "projector" / name).is_file()


def test_tensorboard_s_events_hold_what_metrics_jsonl_holds(tmp_path):
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    run = ["run", "--method=ae_kmeans", "--dataset=digits", "--limit=60", "--pretrain-epochs=2"]
    run += ["--batch-size=30", "--log-every=1", "--quiet", "--no-report", "--tensorboard"]
    assert main([*run, f"--out={tmp_path}/run"]) == 0
    events = loader.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    scalars = events.Scalars("pretrain/loss")
    assert {one.step: one.value for one in scalars} == pytest.approx(losses)
    nmi = [row["nmi"] for row in rows if "nmi" in row]
    assert [one.value for one in events.Scalars("cluster/nmi")] == pytest.approx(nmi)


def test_tensorboard_is_asked_for_before_work_starts(tmp_path, capsys, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name)
    )
    run = ["run", "--method=kmeans", "--dataset=digits", "--tensorboard", f"--out={tmp_path}/run"]
    assert main(run) == 2
    assert "pip install 'jaxclust[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_names_that_leave_the_folder_are_refused(finished, tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    from jaxclust.report import by_cluster
    from jaxclust.report.pictures import Pictures
    from jaxclust.runs.finished import images_of

    run = read_finished(finished)
    escaping = replace(run, ids=("../../evil.png", *run.ids[1:]))
    with pytest.raises(ValueError, match="would lie outside"):
        by_cluster.lay_out(escaping, Pictures(images_of(run), "link"), tmp_path / "out")
    assert not list(tmp_path.iterdir())
