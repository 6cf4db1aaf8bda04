"""Whole runs through the command line, in this process and in ones that get killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.cli import main
from jaxclust.methods.registry import METHODS
from tests.methods import small

FAST = [
    "--starts=1", "--epochs=2", "--pretrain-epochs=1", "--batch-size=50", "--k-m=40", "--n-m=40",
    "--quiet", "--no-report",
]  # fmt: skip
DIGITS = ["run", "--method=ccnn", "--dataset=digits", "--limit=200", *FAST]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def results(folder):
    """What must be the same, bit for bit, however a run came about."""
    with np.load(folder / "embeddings.npz") as arrays:
        embeddings = {name: arrays[name].tobytes() for name in arrays}
    return (folder / "assignments.csv").read_bytes(), embeddings


def logged(folder):
    """The logged rows without their timing."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main([*DIGITS, f"--out={out}"]) == 0
    return out


def test_run_directory_holds_what_is_promised(finished):
    rows = read_csv(finished / "assignments.csv")
    assert list(rows[0]) == ["index", "id", "cluster", "confidence", "label"]
    assert [int(row["index"]) for row in rows] == list(range(200))
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    summary = json.loads((finished / "summary.json").read_text())
    wanted = "method dataset seed n_images n_clusters nmi nmi_arithmetic ari acc n_skipped "
    wanted += "seconds images_per_second peak_rss_mb peak_device_mb device versions"
    assert set(wanted.split()) <= set(summary)
    scored = metrics.score([row["label"] for row in rows], [row["cluster"] for row in rows])
    for name, value in scored.items():
        assert summary[name] == pytest.approx(value)
    with np.load(finished / "embeddings.npz") as arrays:
        assert arrays["features"].shape == (200, 10)
        assert arrays["centroids"].shape == (10, 10)
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["epochs"] == 2
    assert config["options"]["dataset"] == "digits"
    assert config["versions"]["jax"]
    rows = logged(finished)
    assert {"step", "epoch", "loss", "empty_clusters"} <= set(rows[-1]) | set(rows[-2])
    assert not list(finished.glob("*.tmp")) + list(finished.glob(".*.tmp"))


def test_labels_shuffled_give_the_same_assignments():
    pictures, kinds = small.images(60)
    shuffled = np.random.default_rng(1).permutation(kinds)
    runs = []
    for name, labels in (("a", kinds), ("b", shuffled)):
        np.savez(f"{name}.npz", images=pictures, labels=labels)
        arguments = ["run", "--method=ccnn", f"--dataset=npz:{name}.npz", *FAST]
        assert main([*arguments, f"--out={name}", "--evaluate-every=1"]) == 0
        rows = read_csv(Path(name) / "assignments.csv")
        runs.append([(row["cluster"], row["confidence"]) for row in rows])
    assert runs[0] == runs[1]


def test_same_seed_twice_is_bit_identical(finished, tmp_path):
    assert main([*DIGITS, "--out=again"]) == 0
    assert results(tmp_path / "again") == results(finished)
    assert logged(tmp_path / "again") == logged(finished)
    assert main([*DIGITS, "--seed=1", "--out=other"]) == 0
    assert results(tmp_path / "other") != results(finished)


def child(arguments, environment):
    # -c, so that the child needs no installed script.
    code = "import sys; from jaxclust.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Nothing waits on a clock: only a process that hangs for good is given up.
HANG = 3600


def lines(path):
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait(process, ready):
    """Until `ready` or the process has ended."""
    while process.poll() is None and not ready():
        time.sleep(0.005)


def test_killed_runs_resume_bit_identically(tmp_path, compilation_cache):
    """SIGKILL before the first checkpoint, then after some lines more of its log.

    JAXCLUST_KILLS sets how many of these; JAXCLUST_KILL_SEED when they come.
    """
    kills = int(os.environ.get("JAXCLUST_KILLS", "3"))
    rng = random.Random(os.environ.get("JAXCLUST_KILL_SEED", "0"))
    out = tmp_path / "killed"
    arguments = [*DIGITS, "--epochs=20", "--pretrain-epochs=20", "--evaluate-every=20"]
    arguments += ["--log-every=1"]
    assert main([*arguments, "--out=whole"]) == 0
    arguments += [f"--out={out}", "--checkpoint-every=0"]
    process = child(arguments, compilation_cache)
    wait(process, (out / "config.json").is_file)
    process.kill()
    process.communicate()
    assert not list(out.glob("checkpoints/[0-9]*"))
    landed, log = 0, out / "metrics.jsonl"
    for _ in range(kills):
        process = child([*arguments, "--resume"], compilation_cache)
        # Going on, it first drops the lines behind its checkpoint.
        wanted = lines(log) + rng.randint(1, 20)
        wait(process, lambda wanted=wanted: lines(log) >= wanted)
        process.kill()
        process.communicate()
        landed += process.returncode == -signal.SIGKILL
    process = child([*arguments, "--resume"], compilation_cache)
    _, complaints = process.communicate(timeout=HANG)
    assert process.returncode == 0, complaints
    assert landed >= 1, "no kill landed while training"
    print(f"{landed} of {kills} kills landed while training")
    whole = tmp_path / "whole"
    assert results(out) == results(whole)

    def without_churn(rows):
        # Churn compares with the evaluation before, which a new process has not seen.
        return [{k: v for k, v in row.items() if k != "churn"} for row in rows]

    assert without_churn(logged(out)) == without_churn(logged(whole))


def test_a_run_compiled_as_users_have_it(tmp_path):
    """The tests' own environment has most optimisations off."""
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    process = child([*DIGITS, "--epochs=1", "--limit=100", "--out=run"], environment)
    _, complaints = process.communicate(timeout=HANG)
    assert process.returncode == 0, complaints
    rows = read_csv(tmp_path / "run" / "assignments.csv")
    assert len(rows) == 100


def test_ctrl_c_writes_a_checkpoint_and_exits_130(finished, tmp_path, compilation_cache):
    out = tmp_path / "stopped"
    arguments = [*DIGITS, f"--out={out}"]
    process = child(arguments, compilation_cache)
    while not (out / "metrics.jsonl").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=HANG)
    assert process.returncode == 130, complaints
    assert "continue with --resume" in complaints
    assert "Traceback" not in complaints
    assert list((out / "checkpoints").glob("[0-9]*"))
    assert main([*arguments, "--resume"]) == 0
    assert results(out) == results(finished)


def test_a_finished_run_resumes_to_the_same_files(finished, tmp_path):
    before = results(finished)
    assert main([*DIGITS, f"--out={finished}", "--resume"]) == 0
    assert results(finished) == before


@pytest.mark.parametrize("method", ["kmeans", "nmf"])
def test_a_finished_run_without_steps_resumes_to_the_same_files(method, tmp_path):
    arguments = [
        "run",
        f"--method={method}",
        "--dataset=digits",
        "--limit=60",
        "--quiet",
        "--no-report",
    ]
    assert main([*arguments, "--out=again"]) == 0
    before, rows = results(tmp_path / "again"), logged(tmp_path / "again")
    assert rows[0]["epoch"] == 0
    assert main([*arguments, "--out=again", "--resume"]) == 0
    assert (results(tmp_path / "again"), logged(tmp_path / "again")) == (before, rows)


def refused(capsys, arguments, status=2):
    """The one line a refused call prints."""
    assert main(arguments) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("jaxclust: ")
    return lines[0]


def test_bad_usage_is_one_line_and_exit_2(capsys, tmp_path):
    run = ["run", "--method=ccnn", "--dataset=digits", "--out=refused"]
    cases = [
        (["run", "--method=cnn", "--dataset=digits"], "did you mean ccnn?"),
        (["run", "--method=ccnn", "--dataset=digit"], "did you mean digits?"),
        ([*run, "--epohcs=3"], "did you mean --epochs?"),
        ([*run, "--epochs=many"], "--epochs must be a whole number, not 'many'"),
        ([*run, "--output=tanh"], "--output must be one of relu, softmax, not 'tanh'"),
        ([*run, "--epochs"], "--epochs needs a value: a whole number"),
        ([*run, "--quiet=1"], "--quiet takes no value"),
        ([*run, "--zoom", "0.1", "0.2"], "unexpected '0.2'"),
        ([*run, "--preset=bset"], "did you mean best?"),
        ([*run, "stray"], "stray"),
        (["run", "--method=ccnn"], "--dataset is missing"),
        ([*run, f"--out={'a' * 300}"], "File name too long"),
        (["run", "--dataset=folder:no"], "no such folder"),
        (["run", "--dataset=folder:."], "no image"),
        (["run", "--dataset=npz:no.npz"], "no such file"),
        (["rnu"], "did you mean run?"),
        ([*run, "--n-clusters=1"], "between 2 and the number of images (1797)"),
        ([*run, "--n-clusters=1798"], "between 2 and the number of images"),
        ([*run, "--limit=0"], "--limit"),
        ([*run, "--image-size=0"], "--image-size"),
        ([*run, "--seed=-1"], "--seed"),
        ([*run, "--batch-size=0"], "--batch-size must be at least 1"),
        ([*run, "--epochs=-1"], "--epochs must be at least 0"),
        ([*run, "--n-m=41"], "multiple of --k-m"),
        ([*run, "--k-m=0", "--limit=100"], "--k-m must be at least 1"),
        (["run", "--method=ccnn_baseline3", "--dataset=digits", "--n-m=40"], "multiple of --k-m"),
        ([*run, "--learning-rate=inf"], "--learning-rate must be a finite number"),
        ([*run, "--max-count=-1"], "--max-count must be at least 1"),
        ([*run, "--rotation=nan"], "--rotation must be a finite number"),
        ([*run, "--zoom=1"], "--zoom must be at most"),
        ([*run, "--resume", "--overwrite"], "exclude each other"),
        (["run", "--method=ccnn", "--dataset=usps", "--data-dir=."], "usps.npz is needed"),
        (["run", "--method=ccnn", "--dataset=folder:."], "no image"),
        (["run", "--method=ccnn", "--dataset=npz:no.npz"], "no such file"),
        (["datasets", "--out=x"], "unknown option --out=x"),
    ]
    for arguments, expected in cases:
        assert expected in refused(capsys, arguments), arguments
    assert not (tmp_path / "refused").exists()
    assert not (tmp_path / "runs").exists()


def test_unlabelled_data_needs_a_number_of_clusters(capsys):
    np.savez("x.npz", images=small.images(60)[0])
    # k-means sees features that a number can be looked for in.
    learning = ["run", "--method=ccnn", "--dataset=npz:x.npz"]
    assert "give --n-clusters" in refused(capsys, learning)
    run = ["run", "--method=kmeans", "--dataset=npz:x.npz"]
    assert main([*run, "--n-clusters=3", "--quiet", "--no-report", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert summary["nmi"] is None
    assert summary["n_clusters"] == 3
    assert list(read_csv(Path(summary["out"]) / "assignments.csv")[0]) == [
        "index", "id", "cluster", "confidence",
    ]  # fmt: skip


def test_an_occupied_folder_is_left_alone(capsys, tmp_path):
    run = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", "--quiet", "--no-report"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "is not empty" in refused(capsys, [*run, "--out=mine"])
    for flag in ("--overwrite", "--resume"):
        assert "not a run directory" in refused(capsys, [*run, "--out=mine", flag])
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert main([*run, "--out=run"]) == 0
    (tmp_path / "run" / "notes.txt").write_text("kept")
    before = (tmp_path / "run" / "assignments.csv").read_bytes()
    assert "is not empty" in refused(capsys, [*run, "--out=run"])
    changed = refused(capsys, [*run, "--out=run", "--resume", "--restarts=2", "--seed=4"])
    assert "config.restarts: 10 -> 2" in changed
    assert "options.seed: 0 -> 4" in changed
    assert (tmp_path / "run" / "assignments.csv").read_bytes() == before
    assert main([*run, "--out=run", "--overwrite", "--seed=4"]) == 0
    assert (tmp_path / "run" / "notes.txt").read_text() == "kept"
    (tmp_path / "file").write_text("")
    model = tmp_path / "model"
    (model / "checkpoints").mkdir(parents=True)
    (model / "checkpoints" / "weights").write_text("precious")
    for content in ('{"layers": 12}', "[1]", "{torn"):
        (model / "config.json").write_text(content)
        for flag in ("--overwrite", "--resume"):
            refused(capsys, [*run, "--out=model", flag])
        assert (model / "config.json").read_text() == content
    assert (model / "checkpoints" / "weights").read_text() == "precious"
    assert "is a file" in refused(capsys, [*run, "--out=file"])


def test_what_a_kill_left_half_written_is_no_obstacle(tmp_path):
    """Killed before config.json had its name: the folder counts as empty."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.123.jaxclust-tmp").write_text("{")
    run = [
        "run",
        "--method=kmeans",
        "--dataset=digits",
        "--limit=50",
        "--quiet",
        "--no-report",
        "--out=run",
    ]
    assert main([*run, "--resume"]) == 0
    assert not list((tmp_path / "run").glob(".*"))


def test_bad_images_are_refused_through_the_command_line(capsys, tmp_path):
    from PIL import Image

    for i, side in enumerate((8, 9)):
        Image.new("L", (side, 8)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no")
    np.savez("nan.npz", images=np.full((9, 4, 4), np.nan))
    np.savez("rank.npz", images=np.zeros((9, 4)))
    np.savez("dtype.npz", images=np.zeros((9, 4, 4), complex))
    np.savez_compressed("bomb.npz", images=np.zeros((1100, 1024, 1024), np.uint8))
    for dataset, expected in [
        (f"folder:{tmp_path}", "give --image-size"),
        (f"folder:{tmp_path}/broken", "none of the 1 images"),
        ("npz:nan.npz", "NaN"),
        ("npz:rank.npz", "shape"),
        ("npz:dtype.npz", "dtype"),
        ("npz:bomb.npz", "more than is safe"),
    ]:
        run = ["run", "--method=kmeans", f"--dataset={dataset}", "--n-clusters=2", "--out=run"]
        run.append("--encoder=none")
        assert expected in refused(capsys, run)
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_exits_1_and_keeps_its_checkpoint(capsys, tmp_path):
    run = [*DIGITS, "--out=run", "--optimiser=sgd", "--checkpoint-every=0"]
    assert "not finite" in refused(
        capsys, [*run, "--learning-rate=1e38", "--schedule=constant"], status=1
    ).replace("no longer finite", "not finite").replace("loss became", "not finite")
    assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


def test_other_images_are_not_resumed_on(capsys):
    run = [
        "run",
        "--method=kmeans",
        "--dataset=npz:x.npz",
        "--n-clusters=3",
        "--quiet",
        "--no-report",
    ]
    np.savez("x.npz", images=small.images(60)[0])
    assert main([*run, "--out=run"]) == 0
    np.savez("x.npz", images=small.images(60, seed=9)[0])
    said = refused(capsys, [*run, "--out=run", "--resume"])
    assert "those of npz:x.npz have changed since the run was begun;" in said
    assert "sha256" not in said
    np.savez("x.npz", images=small.images(63)[0])
    assert "(60 then, 63 now)" in refused(capsys, [*run, "--out=run", "--resume"])


def test_clusters_that_were_not_found_are_said(capsys):
    arguments = ["run", "--method=dac", "--dataset=digits", "--n-clusters=30", "--limit=100"]
    arguments += ["--starts=1"]
    arguments += ["--epochs=1", "--draw-size=100", "--batch-size=50", "--inner-passes=1"]
    assert main([*arguments, "--out=thirty"]) == 0
    summary = json.loads(Path("thirty/summary.json").read_text())
    found = len({row["cluster"] for row in read_csv(Path("thirty/assignments.csv"))})
    assert summary["clusters_found"] == found < 30
    assert summary["empty_clusters"] == 30 - found
    assert summary["warnings"][0].startswith(f"{found} of 30 clusters hold images")
    assert f"warning: {summary['warnings'][0]}" in capsys.readouterr().err


def test_a_number_the_method_does_not_use_is_neither_asked_for_nor_missed():
    """Clusters by density are as many as there are, while retraining too."""
    images, _ = small.images(60)
    np.savez("x.npz", images=images)
    arguments = ["run", "--method=derc", "--dataset=npz:x.npz", "--epochs=1"]
    arguments += ["--pretrain-epochs=1", "--batch-size=30", "--quiet", "--no-report"]
    arguments += ["--clusterer=dbscan", "--reducer=pca", "--iterations=1", "--log-every=1"]
    assert main([*arguments, "--out=run"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    found = len({row["cluster"] for row in read_csv(Path("run/assignments.csv"))})
    # Of the latent's width.
    assert summary["n_clusters"] == 10
    assert summary["clusters_found"] == found < 10
    assert summary["finds_number"] and summary["empty_clusters"] == 0
    assert summary["warnings"] == []
    retraining = [row for row in logged(Path("run")) if row.get("phase") == "retrain1"]
    steps = [row for row in retraining if "loss" in row]
    assert steps and not any("empty_clusters" in row for row in steps)


def test_skipped_pictures_are_listed(tmp_path):
    from PIL import Image

    for i, picture in enumerate(small.images(30)[0]):
        Image.fromarray(picture[..., 0]).save(tmp_path / f"picture, “{i:02d}”.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    assert main(
        ["run", "--method=kmeans", f"--dataset=folder:{tmp_path}", "--n-clusters=3", "--quiet",
         "--no-report", "--out=out"]
    ) == 0  # fmt: skip
    assert [row["file"] for row in read_csv(tmp_path / "out" / "skipped.csv")] == ["broken.png"]
    rows = read_csv(tmp_path / "out" / "assignments.csv")
    assert len(rows) == 30
    assert rows[3]["id"] == "picture, “03”.png"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_skipped"] == 1


def test_names_with_brackets_are_printed_as_they_are(tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "photos [summer] [" / "old]"
    folder.mkdir(parents=True)
    for i, picture in enumerate(small.images(4)[0]):
        Image.fromarray(picture[..., 0]).save(folder / f"{i}.png")
    run = ["run", "--method=kmeans", f"--dataset=folder:{folder}", "--n-clusters=2", "--out=out"]
    assert main([*run, "--quiet", "--no-report"]) == 0
    assert "[summer]" in "".join(capsys.readouterr().out.split("\n"))


def test_names_that_are_not_utf8_come_back_as_they_are(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for i, picture in enumerate(small.images(4)[0]):
        name = os.fsdecode(b"caf\xe9%d.png" % i)
        Image.fromarray(picture[..., 0]).save(tmp_path / "in" / name)
    run = ["run", "--method=kmeans", f"--dataset=folder:{tmp_path}/in", "--n-clusters=2"]
    assert main([*run, "--quiet", "--no-report", "--out=out"]) == 0
    assert b"caf\xe90.png" in (tmp_path / "out" / "assignments.csv").read_bytes()


def test_failures_while_running_exit_1(capsys, monkeypatch):
    from jaxclust.core.errors import RunError
    from jaxclust.runs import single

    for error, expected in [
        (RunError("the loss became nan at step 3; lower the learning rate"), "became nan"),
        (OSError(28, "No space left on device"), "disk is full"),
        (ValueError("RESOURCE_EXHAUSTED: write: No space left on device"), "disk is full"),
        (MemoryError(), "out of memory; lower --batch-size"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory"),
    ]:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(single, "fit", fail)
        run = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", "--quiet", "--no-report"]
        message = refused(capsys, [*run, "--out=run", "--resume"], status=1)
        assert expected in message


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_has_its_options(method, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", f"--method={method}", "--dataset=digits", "--help"])
    assert not stop.value.code
    said = capsys.readouterr().out
    config = METHODS[method].config("best")
    plain = [name for name, value in vars(config).items() if not is_dataclass(value)]
    assert all(f"--{name.replace('_', '-')}" in said for name in plain)


def test_help_names_every_option_and_is_quick(capsys):
    assert main(["--help"]) == 0
    assert "jaxclust run" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["run", "--method=ccnn", "--help"])
    assert not stop.value.code
    text = capsys.readouterr().out
    for option in ("--dataset", "--k-m", "--compensation", "--rotation", "--checkpoint-every"):
        assert option in text


def test_datasets_lists_what_is_present(capsys, tmp_path):
    np.savez(tmp_path / "usps.npz", images=np.zeros((1, 16, 16), np.uint8))
    assert main(["datasets", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    presence = {words[0]: line for line in lines if (words := line.replace("│", " ").split())}
    assert " yes " in presence["usps"]
    assert " no " in presence["cmu_pie"]
    assert "mnist/3.0.1/" in presence["mnist"]
    assert lines[0].endswith(str(tmp_path))
