"""What commands print and write, whatever the terminal and the names are."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.cli.run import _print_summary
from jaxclust.core.visible import visible
from jaxclust.data.catalogue import CATALOGUE
from jaxclust.runs import single
from tests.methods import small

NAMES = ["\x1b]0;owned\x07.png", "caf\udce9.png", "日本.png", "a.png"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of pictures with awkward names, a finished run on it)."""
    root = tmp_path_factory.mktemp("names")
    folder = root / "in\x1b[31m"
    folder.mkdir()
    for name, picture in zip(NAMES, small.images(4)[0], strict=True):
        Image.fromarray(picture[..., 0]).save(folder / name)
    (folder / "torn\x1b[2J.png").write_bytes(b"no")
    run = ["run", "--method=kmeans", f"--dataset=folder:{folder}", "--n-clusters=2"]
    assert main([*run, "--quiet", "--no-report", f"--out={root / 'run'}"]) == 0
    return folder, root / "run"


# Several command lines, as lists in JSON, in one process: starting is most of what they cost.
EACH = """
import json, sys
from jaxclust.cli import main
status = []
for arguments in json.loads(sys.argv[1]):
    try:
        status.append(main(arguments))
    except SystemExit as stop:
        status.append(stop.code)
sys.exit(0 if status == json.loads(sys.argv[2]) else f"ended with {status}")
"""


def words(lines):
    return json.dumps([list(map(os.fspath, line)) for line in lines])


def child(lines, status):
    return [sys.executable, "-c", EACH, words(lines), json.dumps(status)]


def commands(finished, tmp_path):
    folder, run = finished
    again = ["run", "--method=kmeans", f"--dataset=folder:{folder}", "--n-clusters=2"]
    return [
        ["predict", run, folder],
        ["table", run],
        ["datasets", f"--data-dir={folder}"],
        [*again, "--no-report", f"--out={tmp_path / 'again'}"],
        ["report", run, "--map=pca"],
        ["report", folder],
        ["export", run, "--to", tmp_path / "out"],
        ["predict", run, "--help"],
    ]


# Of the commands above.
STATUS = [0, 0, 0, 0, 0, 2, 0, 0]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_no_encoding_ends_in_a_traceback(finished, tmp_path, compilation_cache, encoding):
    environment = {**compilation_cache, "PYTHONIOENCODING": encoding}
    arguments = child(commands(finished, tmp_path), STATUS)
    done = subprocess.run(arguments, env=environment, capture_output=True)
    said = (done.stdout + done.stderr).decode(encoding.split(":")[0])
    assert done.returncode == 0, said
    assert "Traceback" not in said
    assert "caf\\udce9.png" in said


def test_a_terminal_gets_no_control_character_of_a_name(finished, tmp_path, compilation_cache):
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        child(commands(finished, tmp_path), STATUS),
        env={**compilation_cache, "TERM": "dumb", "NO_COLOR": "1"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while more := os.read(master, 65536):
            said += more
    os.close(master)
    assert process.wait() == 0, said
    assert b"owned" in said
    for sequence in (b"\x1b[31m", b"\x1b]0;owned", b"\x1b[2J", b"\x07"):
        assert sequence not in said


def test_a_message_shows_every_character():
    assert visible("a\x1b[31m\r\n\u202e\udce9é") == "a\\u001b[31m\\u000d\\u000a\\u202e\\udce9é"


def refused(capsys, arguments):
    capsys.readouterr()
    assert main(list(map(os.fspath, arguments))) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxclust: ")
    assert said.count("\n") == 1
    return said


def test_places_that_cannot_be_written_are_found_before_work_starts(
    finished, tmp_path, capsys, monkeypatch
):
    _, run = finished
    (tmp_path / "file").write_text("mine")

    def work(*_, **__):
        raise AssertionError("work has started")

    monkeypatch.setattr("jaxclust.cli.predict.label", work)
    monkeypatch.setattr("jaxclust.cli.export.read_finished", work)
    monkeypatch.setattr("jaxclust.report.comparison.rows_of", work)
    monkeypatch.setattr("jaxclust.runs.inputs._load", work)
    new = ["run", "--method=kmeans", "--dataset=digits"]
    for arguments in (
        ["predict", run, "digits", "--out", tmp_path / "missing" / "x.csv"],
        ["predict", run, "digits", "--out", tmp_path],
        ["predict", run, "digits", "--out", tmp_path / "file" / "x.csv"],
        ["export", run, "--to", tmp_path / "file" / "x"],
        ["table", run, "--out", tmp_path / "missing" / "x.md"],
        ["table", run, "--out", tmp_path],
        [*new, "--out", tmp_path / "file" / "run"],
    ):
        refused(capsys, arguments)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for arguments in (
        ["predict", run, "digits", "--out", tmp_path / "x.csv"],
        ["export", run, "--to", tmp_path / "x"],
        ["table", run, "--out", tmp_path / "file"],
        [*new, "--out", tmp_path / "run"],
        ["report", run],
    ):
        assert "read-only" in refused(capsys, arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("platform", ["cuda", "gpu", "tpu", "nonsense"])
def test_a_platform_without_devices_is_one_line(platform, tmp_path, compilation_cache, finished):
    if platform != "nonsense" and jax.default_backend() != "cpu":
        pytest.skip("there may be such a device")
    run = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", f"--out={tmp_path}/run"]
    lines = [run, [*run, "--seeds=2"], ["predict", finished[1], "digits"], ["report", finished[1]]]
    done = subprocess.run(
        child(lines, [2] * len(lines)),
        env={**compilation_cache, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(lines)
    assert all(f"no device for JAX_PLATFORMS={platform}" in line for line in said)
    assert not (tmp_path / "run").exists()


def test_labels_go_to_a_file_as_a_whole_or_into_a_pipe(finished, tmp_path, capsys):
    folder, run = finished
    out = tmp_path / "labels.csv"
    out.write_text("old")
    assert main(["predict", str(run), str(folder), f"--out={out}"]) == 0
    assert b'"caf\xe9.png"' in out.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]
    assert main(["predict", str(run), str(folder), "--out=/dev/null"]) == 0
    assert not os.path.isfile("/dev/null")  # noqa: PTH113


def test_a_library_s_warning_is_one_line_and_in_the_summary(tmp_path, capsys, monkeypatch):
    fit = single.fit

    def warning(*given, **more):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(2):
                warnings.warn("fewer clusters\nthan wanted", UserWarning, stacklevel=1)
        return fit(*given, **more)

    monkeypatch.setattr(single, "fit", warning)
    run = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", "--no-report"]
    assert main([*run, f"--out={tmp_path}/run"]) == 0
    said = capsys.readouterr().err
    assert said.count("fewer clusters") == 1
    assert "warning: fewer clusters than wanted\n" in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["warnings"] == ["fewer clusters than wanted"]


def test_a_set_of_one_image_is_refused_in_words(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=np.zeros((1, 4, 4), np.uint8))
    run = ["run", "--method=kmeans", f"--dataset=npz:{tmp_path}/x.npz", "--n-clusters=1"]
    assert "holds one image; there is nothing to cluster" in refused(capsys, run)


def test_a_table_in_a_pipe_cuts_nothing_off(tmp_path, capsys, monkeypatch):
    """It is 80 columns wide there; what is longer goes on in the next line."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["datasets", f"--data-dir={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "…" not in said.replace("JPEG, PNG, …", "")
    last = "".join(line.split("│")[-2].strip() for line in said.splitlines() if "│" in line)
    assert all(entry.file in last for entry in CATALOGUE.values())


def test_the_table_writes_what_was_measured(capsys):
    summary = {"method": "sec", "dataset": "digits", "acc": 0.25, "peak_rss_mb": 397.34}
    _print_summary({**summary, "images_per_second": 0.0})  # it takes no steps
    printed = capsys.readouterr().out
    assert "images_per_second" not in printed
    assert "0.2500" in printed and "397.3 " in printed
    speeds = {"acc_std": 0.125, "images_per_second": 1234.56, "images_per_second_std": 0.25}
    _print_summary({**summary, **speeds})
    printed = capsys.readouterr().out
    assert "0.2500 ± 0.1250" in printed and "1234.6 ± 0.2 " in printed
