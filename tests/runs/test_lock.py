"""One process at a time writes a run directory."""

import json
import subprocess
import sys

import pytest

from jaxclust.cli import main
from jaxclust.core.errors import InputError
from jaxclust.runs import lock
from jaxclust.runs.directory import RunDirectory

RUN = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", "--quiet", "--no-report"]
HOLD = """
import sys, pathlib
from jaxclust.runs.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Starts processes that hold a folder's lock until they are killed."""
    started = []

    def hold(folder):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], text=True, **pipes)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_process_is_refused_by_the_first_one_s_number(tmp_path, capsys, holder):
    out = tmp_path / "run"
    assert main([*RUN, f"--out={out}"]) == 0
    (out / ".embeddings.npz.1.jaxclust-tmp").write_bytes(b"half")
    process = holder(out)
    before = contents(out)
    for command in (
        [*RUN, f"--out={out}", "--overwrite"],
        [*RUN, f"--out={out}", "--resume"],
        ["report", str(out)],
    ):
        capsys.readouterr()
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"process {process.pid} is writing to {out}" in said
        assert said.count("\n") == 1
    assert contents(out) == before
    process.kill()
    process.wait()
    # The lock of a killed process is none, and what it left half-written goes.
    assert (out / lock.NAME).is_file()
    assert main([*RUN, f"--out={out}", "--resume"]) == 0
    assert not list(out.glob(".*"))


def test_runs_of_several_seeds_are_not_replaced_under_a_writer(tmp_path, capsys, holder):
    out = tmp_path / "two"
    assert main([*RUN, "--seeds=2", f"--out={out}"]) == 0
    process = holder(out / "seed-1")
    before = contents(out)
    assert main([*RUN, f"--out={out}", "--overwrite"]) == 2
    assert f"process {process.pid} is writing to {out / 'seed-1'}" in capsys.readouterr().err
    assert contents(out) == before


def test_what_is_refused_leaves_the_lock_to_its_holder(tmp_path, holder):
    process = holder(tmp_path)
    with pytest.raises(InputError, match=f"process {process.pid}"), lock.locked(tmp_path):
        raise AssertionError("taken twice")
    assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == process.pid
    lock.check_free(tmp_path / "missing")


def test_where_the_file_system_knows_no_locks_the_process_counts(tmp_path, holder, monkeypatch):
    process = holder(tmp_path)

    def unknown(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unknown)
    with pytest.raises(InputError, match=f"process {process.pid}"):
        lock.check_free(tmp_path)
    process.kill()
    process.wait()
    with RunDirectory(tmp_path).locked():
        assert (tmp_path / lock.NAME).is_file()
    assert not (tmp_path / lock.NAME).exists()
    elsewhere = {"pid": 1, "host": "another-machine"}
    (tmp_path / lock.NAME).write_text(json.dumps(elsewhere))
    with pytest.raises(InputError, match="process 1 on another-machine"):
        lock.check_free(tmp_path)


def test_another_process_s_lock_is_left_alone(tmp_path):
    """Whoever held this folder's lock may have removed the folder and made a new one."""
    folder = tmp_path / "held"
    with lock.locked(folder):
        (folder / lock.NAME).unlink()
        (folder / lock.NAME).write_text("another's")
    assert (folder / lock.NAME).read_text() == "another's"
