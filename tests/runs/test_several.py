"""Several seeds in one call."""

import csv
import json
import statistics

import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.cli import main

KMEANS = [
    "run",
    "--method=kmeans",
    "--dataset=digits",
    "--limit=150",
    "--quiet",
    "--no-report",
    "--json",
]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_summary_has_mean_and_spread_of_single_runs(tmp_path, capsys):
    assert main([*KMEANS, "--seeds=2", "--seed=4", "--out=both"]) == 0
    printed = json.loads(capsys.readouterr().out)
    scores = []
    for seed in (4, 5):
        assert main([*KMEANS, f"--seed={seed}", f"--out={seed}"]) == 0
        alone = (tmp_path / str(seed) / "assignments.csv").read_text()
        # The same run, bit for bit.
        assert (tmp_path / "both" / f"assignments-{seed}.csv").read_text() == alone
        rows = list(csv.DictReader(alone.splitlines()))
        scores.append(metrics.nmi([r["label"] for r in rows], [r["cluster"] for r in rows]))
    summary = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert summary == printed
    assert summary["seeds"] == [4, 5]
    assert summary["nmi"] == pytest.approx(statistics.mean(scores))
    assert summary["nmi_std"] == pytest.approx(statistics.stdev(scores))
    assert [one["nmi"] for one in summary["by_seed"]] == pytest.approx(scores)
    alone = [json.loads((tmp_path / f"both/seed-{s}/summary.json").read_text()) for s in (4, 5)]
    assert summary["peak_rss_mb"] == max(one["peak_rss_mb"] for one in alone)
    assert set(alone[0]) - set(summary) <= {
        "seed", "starts", "largest_share", "assignment_entropy"
    }  # fmt: skip
    assert [one["starts"] for one in summary["by_seed"]] == [None, None]


def test_seeds_are_added_and_folders_respected(tmp_path, capsys):
    assert main([*KMEANS, "--seeds=2", "--out=some"]) == 0
    first = (tmp_path / "some" / "assignments-0.csv").stat().st_mtime_ns
    assert main([*KMEANS, "--seeds=2", "--out=some"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "some" / "assignments-0.csv").stat().st_mtime_ns == first
    assert main([*KMEANS, "--seeds=3", "--out=some", "--resume"]) == 0
    summary = json.loads((tmp_path / "some" / "summary.json").read_text())
    assert summary["seeds"] == [0, 1, 2]
    assert (tmp_path / "some" / "assignments-2.csv").is_file()


def test_overwriting_leaves_nothing_of_the_runs_before(tmp_path, capsys):
    assert main([*KMEANS, "--seeds=3", "--out=some"]) == 0
    assert main([*KMEANS, "--seeds=2", "--restarts=2", "--out=some", "--overwrite"]) == 0
    names = sorted(path.name for path in (tmp_path / "some").iterdir())
    assert names == [
        "assignments-0.csv", "assignments-1.csv", "config.json", "seed-0", "seed-1",
        "summary.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "some" / "config.json").read_text())["config"]["restarts"] == 2
    single = json.loads((tmp_path / "some" / "seed-1" / "config.json").read_text())
    assert single["command"].startswith("jaxclust run --method=kmeans --dataset=digits")
    assert single["command"].endswith("--restarts=2 --seed=1")
    assert main([*KMEANS, "--seeds=3", "--restarts=2", "--out=some", "--resume"]) == 0


def test_one_run_in_place_of_several_and_the_reverse_leave_nothing_behind(tmp_path):
    assert main([*KMEANS, "--out=alone"]) == 0
    alone = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert main([*KMEANS, "--seeds=2", "--out=some"]) == 0
    assert main([*KMEANS, "--out=some", "--overwrite"]) == 0
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == alone
    assert main([*KMEANS, "--seeds=2", "--out=some", "--overwrite"]) == 0
    names = sorted(path.name for path in (tmp_path / "some").iterdir())
    assert names == [
        "assignments-0.csv", "assignments-1.csv", "config.json", "seed-0", "seed-1",
        "summary.json",
    ]  # fmt: skip


def test_replacing_keeps_what_no_run_wrote(tmp_path):
    assert main([*KMEANS, "--seeds=2", "--out=some"]) == 0
    for path in ("some/notes.txt", "some/seed-1/notes.txt", "some/assignments-mine.csv"):
        (tmp_path / path).write_text("kept")
    assert main([*KMEANS, "--out=some", "--overwrite"]) == 0
    for path in ("some/notes.txt", "some/seed-1/notes.txt", "some/assignments-mine.csv"):
        assert (tmp_path / path).read_text() == "kept"
    assert not (tmp_path / "some" / "seed-0").exists()
    assert not (tmp_path / "some" / "seed-1" / "summary.json").exists()


def test_new_pictures_are_labelled_by_one_of_the_runs(tmp_path, capsys):
    assert main([*KMEANS, "--seeds=2", "--out=two"]) == 0
    images = np.zeros((3, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "new.npz", images=images)
    assert main(["predict", "two", "new.npz"]) == 2
    assert "give one of them: two/seed-0" in capsys.readouterr().err
    assert main(["predict", "two/seed-0", "npz:new.npz", "--out=labels.csv"]) == 0
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 4


def test_what_one_run_refuses_leaves_nothing(tmp_path, capsys):
    assert main([*KMEANS, "--seeds=2", "--n-clusters=1", "--out=bad"]) == 2
    assert "--n-clusters" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()
    for wrong, expected in [
        (["--seeds=0"], "--seeds must be at least 1"),
        (["--seeds=-1"], "--seeds must be at least 1"),
        (["--seeds=20000"], "--seeds must be at most 10000"),
        (["--seeds=5", "--seed=2147483646"], "--seed must be at most"),
        (["--seeds=2", "--num-processes=2"], "--seeds works in one process only"),
    ]:
        assert main([*KMEANS, *wrong]) == 2
        assert expected in capsys.readouterr().err


STEPS = [
    "run", "--method=minibatch_kmeans", "--dataset=digits", "--limit=100", "--epochs=2",
    "--batch-size=50", "--log-every=1", "--evaluate-every=1", "--quiet", "--json",
]  # fmt: skip


def test_seeds_run_together_leave_what_single_runs_leave(tmp_path, capsys):
    assert main([*STEPS, "--seeds=2", "--seeds-together=yes", "--out=both"]) == 0
    summary = json.loads(capsys.readouterr().out)
    for seed in (0, 1):
        assert main([*STEPS, f"--seed={seed}", f"--out={seed}", "--no-report"]) == 0
        alone, together = tmp_path / str(seed), tmp_path / "both" / f"seed-{seed}"
        names = {path.name for path in alone.iterdir()} | {"report.html"}
        assert {path.name for path in together.iterdir()} == names
        logs = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (alone, together)]
        for one, other in zip(*(map(json.loads, log) for log in logs), strict=True):
            assert {**one, "images_per_second": 0}.keys() == {
                **other,
                "images_per_second": 0,
            }.keys()
            assert one["step"] == other["step"]
            for name in {"loss", "nmi"} & one.keys():
                assert one[name] == pytest.approx(other[name], rel=1e-3)
        # A run of the program is a run: its checkpoint goes on, and labels new pictures.
        assert main([*STEPS, f"--seed={seed}", f"--out={together}", "--resume"]) == 0
    assert summary["seeds"] == [0, 1]
    assert summary["acc_std"] is not None
    np.savez(tmp_path / "new.npz", images=np.zeros((3, 8, 8, 1), np.uint8))
    assert main(["predict", "both/seed-1", "new.npz", "--out=labels.csv"]) == 0


def test_what_cannot_run_together_is_refused_where_it_is_asked_for(capsys, tmp_path):
    for more, expected in [
        (["--method=spectral"], "runs on the host"),
        (["--method=kmeans", "--imbalance=0.5"], "other images for each seed"),
    ]:
        run = ["run", *more, "--dataset=digits", "--limit=60", "--seeds=2", "--out=no"]
        assert main([*run, "--seeds-together=yes"]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_accelerators_share_a_program_where_nothing_convolves(monkeypatch, tmp_path):
    import jax

    from jaxclust.core import device
    from jaxclust.runs import several

    class Shared(Exception):
        pass

    def shared(*_):
        raise Shared

    monkeypatch.setattr(several, "as_one_program", shared)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(device, "compile_once", lambda folder: None)
    run = ["run", "--dataset=digits", "--limit=60", "--seeds=2", "--starts=1", "--quiet"]
    run += ["--epochs=0", "--pretrain-epochs=0", "--no-report"]
    with pytest.raises(Shared):
        main([*run, "--method=dec", "--out=dec"])
    assert main([*run, "--method=ccnn", "--out=ccnn"]) == 0


def test_a_first_seed_that_was_interrupted_goes_on(tmp_path, capsys, monkeypatch):
    from jaxclust.core.errors import Stopped
    from jaxclust.runs import single

    def interrupted(*_, **__):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(single, "fit", interrupted)
        assert main([*KMEANS, "--seeds=2", "--out=both"]) == 130
    assert main([*KMEANS, "--seeds=2", "--out=both", "--resume"]) == 0
    assert json.loads((tmp_path / "both" / "summary.json").read_text())["seeds"] == [0, 1]
