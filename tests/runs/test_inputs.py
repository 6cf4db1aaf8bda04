"""The number of clusters is looked for among features, kept, shown, and never among labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from jaxclust.cli import main
from jaxclust.clustering.host import cluster_count
from jaxclust.report.page import render
from jaxclust.runs.csv_tables import read_rows
from jaxclust.runs.finished import images_of, read_finished


@pytest.fixture(autouse=True)
def blobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, kinds = make_blobs(200, n_features=8, centers=4, random_state=0)
    np.savez("blobs.npz", features=x.astype(np.float32))
    np.savez("labelled.npz", features=x.astype(np.float32), labels=kinds)
    np.savez("shuffled.npz", features=x.astype(np.float32), labels=np.roll(kinds, 7))


def run(capsys, *words):
    status = main(["run", "--method=kmeans", *words, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out)


def test_auto_is_the_default_where_nothing_tells_the_number(capsys, monkeypatch):
    summary = run(capsys, "--dataset=features:blobs.npz", "--out=one")
    assert summary["n_clusters"] == summary["cluster_count"]["chosen"] == 4
    page = Path("one/report.html").read_text("utf-8")
    assert "Number of clusters" in page
    assert "4 clusters have the best silhouette in the map and features" in page
    assert 'aria-label="silhouette in the features: feature_silhouette from' in page
    assert 'aria-label="silhouette in the map, stability: silhouette from' in page
    assert "; clusters 2 to 28" in page
    # A run that goes on keeps its number; it is not looked for again.
    monkeypatch.setattr(cluster_count, "curve", None)
    again = run(capsys, "--dataset=features:blobs.npz", "--out=one", "--resume")
    assert again["cluster_count"] == summary["cluster_count"]


def test_a_range_is_kept_to(capsys):
    words = ("--dataset=features:blobs.npz", "--n-clusters", "5:7")
    assert run(capsys, *words, "--out=r")["n_clusters"] in {5, 6, 7}


def test_a_classical_method_looks_among_what_it_sees_of_images(capsys, tmp_path):
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (3, 8, 8, 1))
    noisy = kinds[np.arange(90) % 3] + rng.integers(-20, 20, (90, 8, 8, 1))
    np.savez("images.npz", images=np.clip(noisy, 0, 255).astype(np.uint8))
    summary = run(capsys, "--dataset=npz:images.npz", "--n-clusters=auto", "--out=i")
    assert summary["n_clusters"] == 3


def test_labels_do_not_matter(capsys):
    found = [
        run(capsys, f"--dataset=features:{name}.npz", "--n-clusters=auto", f"--out={name}")
        for name in ("labelled", "shuffled")
    ]
    assert found[0]["cluster_count"] == found[1]["cluster_count"]


def test_methods_that_learn_features_ask_for_a_number(capsys):
    for said in ("auto", "5:9"):
        words = ["run", "--method=ccnn", "--dataset=digits", f"--n-clusters={said}"]
        assert main(words) == 2
        assert "needs features to find the number" in capsys.readouterr().err
    assert main(["run", "--method=kmeans", "--dataset=digits", "--n-clusters=some"]) == 2
    assert "a number, auto, or a range such as 5:40" in capsys.readouterr().err


def test_copies_and_outliers_are_written_shown_and_read_back(capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)) + 4 * np.eye(6)[np.arange(60) % 3]
    x[7], x[31] = 2 * x[20], x[20] + 0.01
    x[40] = -4
    np.savez("copies.npz", features=x.astype(np.float32))
    words = ("--dataset=features:copies.npz", "--n-clusters=3", "--duplicate-distance=0.001")
    summary = run(capsys, *words, "--out=c")
    assert summary["near_duplicates"] == 3
    rows = read_rows(Path("c/duplicates.csv"))
    assert [(row["group"], row["index"]) for row in rows] == [("0", "7"), ("0", "20"), ("0", "31")]
    scores = [float(row["outlier"]) for row in read_rows(Path("c/assignments.csv"))]
    assert int(np.argmax(scores)) == 40
    back = read_finished(Path("c"))
    assert back.duplicates == ((7, 20, 31),)
    np.testing.assert_array_equal(back.outlier, scores)
    page = Path("c/report.html").read_text("utf-8")
    assert page == render(back, images_of(back))
    assert "1 group of near-copies" in page
    assert 'id="outliers"' in page


def test_another_run_in_the_folder_leaves_no_duplicates_behind(capsys):
    x = np.repeat(np.random.default_rng(0).normal(size=(30, 4)), 2, axis=0)
    np.savez("twins.npz", features=x.astype(np.float32))
    exact = "--duplicate-distance=0"
    run(capsys, "--dataset=features:twins.npz", "--n-clusters=3", exact, "--out=o")
    assert len(read_finished(Path("o")).duplicates) == 30
    run(capsys, "--dataset=digits", "--limit=40", "--overwrite", "--out=o")
    assert not Path("o/duplicates.csv").exists()
    assert read_finished(Path("o")).duplicates == ()


def test_learned_features_have_no_copies_to_look_for(capsys):
    run(capsys, "--dataset=digits", "--limit=60", "--out=d")
    assert not Path("d/duplicates.csv").exists()
    assert "outlier" not in Path("d/assignments.csv").read_text().splitlines()[0]
