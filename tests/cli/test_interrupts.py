"""Ctrl-C, full disks: one line, the right status, and advice that can be followed."""

import os
import signal
import subprocess
import sys

import pytest

LONG = [
    "run", "--method=ccnn", "--starts=1", "--dataset=digits", "--limit=200", "--epochs=100000",
    "--pretrain-epochs=1", "--batch-size=50", "--k-m=40", "--n-m=40", "--quiet", "--no-report",
    "--checkpoint-every=0", "--log-every=1",
]  # fmt: skip


def start(arguments, cache, prefix=()):
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "jaxclust", *arguments],
        env=cache,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said_by(process, status):
    out, said = process.communicate()
    assert process.returncode == status, said
    assert out == ""
    assert said.startswith("jaxclust: ")
    assert said.count("\n") == 1
    return said


def test_a_second_ctrl_c_ends_at_once(tmp_path, compilation_cache):
    out = tmp_path / "run"
    process = start([*LONG, f"--out={out}"], compilation_cache)
    while not (out / "metrics.jsonl").is_file():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert "continue with --resume" in said_by(process, 130)


@pytest.mark.parametrize("module", ["jaxclust.core.errors", "jax", "jaxclust.runs.single"])
def test_ctrl_c_while_things_are_imported_is_not_swallowed(tmp_path, compilation_cache, module):
    """By whoever catches everything there, as some libraries do when they load."""
    code = f"""
import builtins, os, signal, sys
from jaxclust.cli import script
load = builtins.__import__
def interrupting(name, *rest, **more):
    if name == "{module}":
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            pass
    return load(name, *rest, **more)
builtins.__import__ = interrupting
import importlib
found = importlib.import_module
importlib.import_module = lambda *names, **more: (
    interrupting("{module}"), found(*names, **more))[1]
script({[*LONG, f"--out={tmp_path}/run"]!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=compilation_cache, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "jaxclust: interrupted\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path, compilation_cache):
    # In blocks of 512 bytes or of 1024: enough for config.json, not for a checkpoint.
    limit = ["sh", "-c", 'ulimit -f 20; exec "$@"', "sh"]
    cache = {**compilation_cache, "JAX_COMPILATION_CACHE_DIR": ""}
    run = ["run", "--method=dac", "--dataset=digits", "--limit=60", "--epochs=1", "--no-report"]
    run += ["--starts=1"]
    said = said_by(start([*run, "--quiet", f"--out={tmp_path}/run"], cache, limit), 1)
    assert "ulimit -f" in said
    assert "continue with --resume" in said
