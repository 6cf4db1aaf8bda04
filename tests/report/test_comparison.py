"""The table's figures are those of the runs, beside those of the papers."""

import csv
import io
import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from jaxclust.cli import main
from jaxclust.data.catalogue import CATALOGUE
from jaxclust.methods.registry import METHODS
from jaxclust.report.comparison import listed, rows_of
from jaxclust.report.published import PUBLISHED, published_beside
from tests.methods import small

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """k-means with three seeds, and with other settings."""
    root = tmp_path_factory.mktemp("runs")
    run = ["run", "--method=kmeans", "--dataset=digits", "--limit=100", "--quiet", "--no-report"]
    assert main([*run, "--seeds=2", f"--out={root}/both"]) == 0
    assert main([*run, "--seed=5", f"--out={root}/one"]) == 0
    assert main([*run, "--restarts=2", f"--out={root}/other"]) == 0
    return root


def scores(runs, *names):
    return [json.loads((runs / name / "summary.json").read_text())["nmi"] for name in names]


def test_seeds_are_gathered_and_settings_told_apart(runs, capsys):
    first, other = rows_of([runs / "both", runs / "one", runs / "other"])
    assert (first.title, first.seeds) == ("kmeans, limit=100", [0, 1, 5])
    assert first.scores["nmi"] == scores(runs, "both/seed-0", "both/seed-1", "one")
    assert (other.title, other.seeds) == ("kmeans, limit=100, restarts=2", [0])
    # A folder of runs is its runs; a run given twice counts once.
    again = rows_of([runs, runs / "one"])
    assert sorted((row.title, sorted(row.seeds)) for row in again) == [
        ("kmeans, limit=100", [0, 1, 5]), ("kmeans, limit=100, restarts=2", [0]),
    ]  # fmt: skip
    assert main(["table", str(runs / "both"), "--format=markdown"]) == 0
    values = scores(runs, "both/seed-0", "both/seed-1")
    mean, spread = 100 * statistics.mean(values), 100 * statistics.stdev(values)
    assert f"| digits | kmeans, limit=100 | {mean:.1f} ± {spread:.1f} |" in capsys.readouterr().out


def test_an_encoder_another_run_s_weights_and_a_part_of_a_set_are_told(runs, tmp_path):
    """And no published figure stands beside them."""
    shutil.copytree(runs / "one", tmp_path / "one")
    record = json.loads((tmp_path / "one" / "config.json").read_text())
    record["options"] |= {"dataset": "mnist", "limit": None}
    for count, options, title in [
        (70_000, {}, "kmeans"),
        (69_990, {}, "kmeans"),
        (6000, {}, "kmeans, 6000 images"),
        (70_000, {"encoder": "efficientnet_lite0"}, "kmeans, encoder=efficientnet_lite0"),
        (70_000, {"pretrained": "runs/other"}, "kmeans, pretrained"),
    ]:
        changed = {**record, "options": {**record["options"], **options}}
        changed["data"] = {**record["data"], "n_images": count}
        (tmp_path / "one" / "config.json").write_text(json.dumps(changed))
        [row] = rows_of([tmp_path / "one"])
        assert row.title == title
        assert (row.published is not None) == (title == "kmeans")


def test_many_seeds_are_a_range():
    assert listed([3]) == "3"
    assert listed([0, 1, 2, 3]) == "0, 1, 2, 3"
    assert listed([2, 3, 4, 5, 6]) == "2 to 6"
    assert listed([0, 1, 2, 3, 5]) == "0, 1, 2, 3, 5"


def test_a_seeds_run_under_a_newer_run_is_left_out(runs, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(runs / "both", both)
    for name in ("config.json", "summary.json"):
        shutil.copy(runs / "other" / name, both)
    for place in (both, tmp_path):
        [row] = rows_of([place])
        assert (row.title, row.seeds) == ("kmeans, limit=100, restarts=2", [0])
    # And under newer runs of several seeds, one with other settings that these have not.
    shutil.copytree(runs / "both", both, dirs_exist_ok=True)
    shutil.copytree(runs / "other", both / "seed-7")
    [row] = rows_of([both])
    assert (row.title, row.seeds) == ("kmeans, limit=100", [0, 1])


def test_files_of_the_same_name_are_told_apart_by_their_images(tmp_path, monkeypatch, capsys):
    run = ["run", "--method=kmeans", "--n-clusters=3", "--dataset=npz:x.npz", "--quiet"]
    images, labels = small.images(30)
    for i, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        # The third is a copy of the first.
        np.savez("x.npz", images=images[: 20 + i % 2], labels=labels[: 20 + i % 2])
        assert main([*run, "--no-report", f"--seed={i // 2}", "--out=run"]) == 0
    rows = rows_of([tmp_path / "a" / "run", tmp_path / "b", tmp_path / "c" / "run"])
    prints = [
        json.loads((tmp_path / name / "run/config.json").read_text())["data"]["sha256"][:8]
        for name in "ab"
    ]
    assert [row.title.split(", data ")[1] for row in rows] == prints
    assert [row.seeds for row in rows] == [[0, 1], [0]]
    assert rows[1].scores["nmi"] == [
        json.loads((tmp_path / "b/run/summary.json").read_text())["nmi"]
    ]


def test_seeds_that_draw_other_images_stay_in_one_row(tmp_path):
    run = ["run", "--method=kmeans", "--dataset=digits", "--imbalance=0.5", "--quiet"]
    assert main([*run, "--no-report", "--seeds=2", f"--out={tmp_path}/run"]) == 0
    [row] = rows_of([tmp_path / "run"])
    assert row.seeds == [0, 1]
    assert len(set(row.data.values())) == 2


def test_csv_holds_numbers(runs, tmp_path):
    out = tmp_path / "table.csv"
    assert main(["table", str(runs / "both"), "--format=csv", f"--out={out}"]) == 0
    [row] = csv.DictReader(io.StringIO(out.read_text()))
    values = scores(runs, "both/seed-0", "both/seed-1")
    assert float(row["nmi"]) == pytest.approx(statistics.mean(values))
    assert float(row["nmi_std"]) == pytest.approx(statistics.stdev(values))
    assert (row["dataset"], row["method"], row["seeds"]) == ("digits", "kmeans", "0 1")
    assert row["published_nmi"] == ""


def test_the_papers_figures_stand_beside(tmp_path, capsys):
    rows = [
        {
            "dataset": "cifar10", "title": "DAC | ours", "seeds": [0], "nmi": [0.3], "acc": [0.5],
            "ari": [None], "epoch": ["3 of 50"],
            "command": "jaxclust run --method=dac --dataset=cifar10",
        }
    ]  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    assert main(["table", str(path), "--format=markdown"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == (
        "| cifar10 | DAC \\| ours (epoch 3 of 50) | 30.0 | 50.0 | – | 0 | "
        "39.6 / 52.2 (Chang et al. 2017, Table 2) |"
    )
    assert main(["table", str(path)]) == 0
    assert "cifar10" in capsys.readouterr().out


def test_rows_of_few_seeds_or_unfinished_runs_are_left_out(tmp_path, capsys):
    def row(title, count, epoch="all"):
        seeds = list(range(count))
        scores = {name: [0.5] * count for name in ("nmi", "acc", "ari")}
        said = {"dataset": "digits", "title": title, "seeds": seeds, "epoch": [epoch] * count}
        return {**said, **scores, "command": "jaxclust run --method=dec --dataset=digits"}

    path = tmp_path / "results.json"
    path.write_text(json.dumps([row("one", 1), row("three", 3), row("half", 3, "2 of 4")]))
    assert main(["table", str(path), "--format=markdown", "--least-seeds=3"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["three"]
    assert main(["table", str(path), "--least-seeds=4"]) == 2
    assert "see --datasets and --least-seeds" in capsys.readouterr().err


def test_a_published_figure_stands_beside_its_own_kind_of_run_alone():
    beside = published_beside("ccnn", "ilsvrc_val", {"init": "autoencoder"})
    assert (beside.nmi, beside.source) == (
        31.4, "Hsu & Lin 2017, Table II, from a random network",
    )  # fmt: skip
    # The paper's baselines are from a pre-trained network alone.
    assert published_beside("ccnn_baseline3", "ilsvrc_val", {"init": "autoencoder"}) is None
    assert published_beside("ccnn_baseline3", "ilsvrc_val", {"init": "weights.npz"}).nmi == 29.3
    assert published_beside("ccnn", "mnist_test", {"init": "weights.npz"}) is None
    beside = published_beside("ccnn", "places_val", {"init": "weights.npz"})
    assert (beside.nmi, beside.source) == (
        30.7, "Hsu & Lin 2017, Table II, from a pre-trained AlexNet, Places2 of 18,250",
    )  # fmt: skip
    assert published_beside("ccnn", "ilsvrc_val", {"compensation": "none"}) is None
    for name in ("limit", "imbalance", "n_clusters", "encoder", "pretrained"):
        assert published_beside("dac", "mnist", {name: 0.5}) is None
    assert published_beside("dac", "mnist", {"limit": None, "epochs": 3}).acc == 97.75


def test_seeds_without_labels_leave_the_mean_open(tmp_path, capsys):
    entry = {"dataset": "usps", "title": "A", "command": "", "seeds": [0, 1], "acc": [0.5, None]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{**entry, "nmi": [0.25, 0.75], "ari": [None, None]}]))
    assert main(["table", str(path), "--format=csv"]) == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["nmi"], row["acc"], row["ari"]) == ("0.5", "", "")
    assert main(["table", str(path), "--format=markdown"]) == 0
    assert "| usps | A | 50.0 ± 35.4 | – | – | 0, 1 |" in capsys.readouterr().out


def test_published_figures_are_of_methods_and_sets_that_exist():
    for (method, dataset), figure in PUBLISHED.items():
        assert method in METHODS
        assert dataset in CATALOGUE
        for value in (figure.nmi, figure.acc, figure.ari):
            assert value is None or 1 < value <= 100
    dac = PUBLISHED["dac", "mnist"]
    assert (dac.acc, dac.nmi, dac.ari) == (97.75, 93.51, 94.86)
    assert PUBLISHED["derc", "cmu_pie"][:2] == (99.6, 97.9)


def test_what_is_no_run_is_refused(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"a": 1}')
    np.savez(tmp_path / "x.npz", a=np.full(99, 200, np.uint8))
    for place, expected in [
        (tmp_path, "no finished run"), (tmp_path / "no", "no such run"),
        (tmp_path / "x.json", "not a results file"),
        (tmp_path / "x.npz", "can't decode byte"),
    ]:  # fmt: skip
        assert main(["table", str(place)]) == 2
        said = capsys.readouterr().err
        assert expected in said and len(said) < 400
