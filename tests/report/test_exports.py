"""Exports, read by the programs they are for or by those programs' published layout."""

import importlib.util
import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.runs import edits
from jaxclust.runs.finished import read_finished
from tests.methods import small


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """The finished run of awkward names, two of its clusters named alike."""
    found, folder = read_finished(finished), tmp_path_factory.mktemp("formats")
    named = [{"do": "rename", "cluster": c, "name": '<b>"left" & more'} for c in (0, 1)]
    content = {"jaxclust_edits": 1, "run": edits.mark(found.clusters), "edits": named}
    (folder / "edits.json").write_text(json.dumps(content))
    command = ["apply", str(finished), str(folder / "edits.json"), f"--out={folder}/edited"]
    assert main(command) == 0
    return read_finished(folder / "edited")


NAMES = ['<b>"left" & more (0)', '<b>"left" & more (1)', "cluster 2"]


def exported(run, tmp_path, *formats):
    assert main(["export", str(run.path), f"--to={tmp_path}/out", "--as", *formats]) == 0
    return tmp_path / "out"


def test_parquet_opens_in_pandas_and_goes_in_again(run, tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    from pyarrow import parquet

    out = exported(run, tmp_path, "parquet")
    table = parquet.read_table(out / "clusters.parquet")
    assert table.column_names == ["id", "cluster", "name", "confidence", "embedding", "label"]
    assert table["cluster"].to_pylist() == run.clusters.tolist()
    assert table["name"].to_pylist() == [NAMES[cluster] for cluster in run.clusters]
    np.testing.assert_allclose(table["confidence"].to_pylist(), run.confidence, rtol=1e-6)
    found = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_array_equal(found, run.features.reshape(len(run.ids), -1))
    again = ["run", "--method=kmeans", f"--dataset=features:{out}/clusters.parquet", "--quiet"]
    again += ["--n-clusters=3", "--no-report", f"--out={tmp_path}/again"]
    assert main(again) == 0
    assert list(read_finished(tmp_path / "again").ids) == table["id"].to_pylist()


def test_coco_opens_in_its_own_reader(run, tmp_path, capsys):
    out = exported(run, tmp_path, "coco") / "coco"
    content = json.loads((out / "annotations.json").read_text("utf-8"))
    assert set(content) == {"info", "licenses", "images", "annotations", "categories"}
    assert [one["name"] for one in content["categories"]] == NAMES
    for image in content["images"]:
        with Image.open(out / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    opened = coco.COCO(str(out / "annotations.json"))
    for cluster in range(3):
        found = opened.getImgIds(catIds=[cluster + 1])
        assert sorted(found) == (np.flatnonzero(run.clusters == cluster) + 1).tolist()
    capsys.readouterr()


def test_label_studio_takes_the_tasks_for_its_config(run, tmp_path):
    out = exported(run, tmp_path, "label_studio") / "label_studio"
    tasks = json.loads((out / "tasks.json").read_text("utf-8"))
    config = (out / "config.xml").read_text("utf-8")
    choices = [one.get("value") for one in ElementTree.fromstring(config).iter("Choice")]
    assert choices == NAMES
    for row, task in enumerate(tasks):
        [prediction] = task["predictions"]
        [region] = prediction["result"]
        assert region["value"]["choices"] == [NAMES[run.clusters[row]]]
        assert 0 <= prediction["score"] <= 1
        address = task["data"]["image"]
        assert address.startswith("/data/local-files/?d=images/")
        assert address.isascii()
        place = unquote(address.partition("?d=")[2])
        assert (out / place).is_file()
    if importlib.util.find_spec("label_studio_sdk") is None:
        pytest.skip("its own check needs label-studio-sdk")
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(config)
    assert all(interface.validate_task({"data": task["data"]}) for task in tasks)
    assert all(interface.validate_prediction(task["predictions"][0]) for task in tasks)


def test_fiftyone_s_layout(run, tmp_path):
    """FiftyOneImageClassificationDataset: images by their names without the ending."""
    out = exported(run, tmp_path, "fiftyone") / "fiftyone"
    content = json.loads((out / "labels.json").read_text("utf-8"))
    assert content["classes"] == NAMES
    files = {path.stem: path for path in (out / "data").iterdir()}
    assert len(files) == len(run.ids)
    assert set(files) == set(content["labels"])
    for row, (key, target) in enumerate(content["labels"].items()):
        assert target["label"] == run.clusters[row]
        assert target["confidence"] == pytest.approx(run.confidence[row], abs=1e-6)
        with Image.open(files[key]) as picture:
            picture.load()
    if importlib.util.find_spec("fiftyone") is not None:
        import fiftyone

        opened = fiftyone.Dataset.from_dir(
            str(out), fiftyone.types.FiftyOneImageClassificationDataset
        )
        found = [NAMES.index(sample.ground_truth.label) for sample in opened]
        assert found == run.clusters.tolist()


def test_several_at_once_and_named_folders(run, tmp_path):
    out = exported(run, tmp_path, "folders", "coco", "fiftyone")
    assert {path.name for path in out.iterdir()} == {
        "cluster-0-b-left-more", "cluster-1-b-left-more", "cluster-2",
        "projector", "coco", "fiftyone",
    }  # fmt: skip


def test_arrays_become_pngs_in_every_format(tmp_path):
    pictures, _ = small.images(12)
    np.savez(tmp_path / "x.npz", images=pictures)
    command = ["run", "--method=kmeans", f"--dataset=npz:{tmp_path}/x.npz", "--n-clusters=3"]
    assert main([*command, "--quiet", "--no-report", f"--out={tmp_path}/run"]) == 0
    out = exported(read_finished(tmp_path / "run"), tmp_path, "coco", "label_studio", "fiftyone")
    for folder in ("coco/images", "label_studio/images", "fiftyone/data"):
        with Image.open(next(iter(sorted((out / folder).iterdir())))) as picture:
            assert picture.format == "PNG"
            np.testing.assert_array_equal(np.asarray(picture), pictures[0, ..., 0])
    assert json.loads((out / "coco/annotations.json").read_text())["images"][0]["width"] == 8


def test_apply_can_export_at_once(finished, tmp_path):
    content = {
        "jaxclust_edits": 1,
        "run": edits.mark(read_finished(finished).clusters),
        "edits": [],
    }
    (tmp_path / "edits.json").write_text(json.dumps(content))
    command = ["apply", str(finished), f"{tmp_path}/edits.json", f"--out={tmp_path}/edited"]
    assert main([*command, "--as", "folders", "coco"]) == 0
    assert (tmp_path / "edited/exports/coco/annotations.json").is_file()
    assert (tmp_path / "edited/exports/cluster-0").is_dir()


def test_features_have_no_pictures(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 4)).astype("f4"))
    command = ["run", "--method=kmeans", f"--dataset=features:{tmp_path}/x.npy", "--n-clusters=3"]
    assert main([*command, "--quiet", "--no-report", f"--out={tmp_path}/run"]) == 0
    assert main(["export", f"{tmp_path}/run", f"--to={tmp_path}/o", "--as", "coco"]) == 2
    assert "needs images" in capsys.readouterr().err
    assert not Path(tmp_path / "o").exists()
