"""Runs on several devices and in several processes, through the command line."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.core.types import Batches, Method, Phase
from jaxclust.training import parallel

RUN = [
    "run", "--method=ccnn", "--starts=1", "--epochs=2", "--pretrain-epochs=1", "--batch-size=40",
    "--k-m=40", "--n-m=40", "--log-every=1", "--evaluate-every=1",
    "--n-clusters=10", "--image-size=8", "--no-report",
]  # fmt: skip

# The quickest to compile.
KMEANS = [
    "run", "--method=kmeans", "--no-full", "--dataset=digits", "--limit=80", "--epochs=2",
    "--batch-size=20", "--log-every=1", "--no-report",
]  # fmt: skip


# DAC's devices are each given the whole draw.
DAC = [
    "run", "--method=dac", "--starts=1", "--dataset=digits", "--limit=80", "--epochs=2",
    "--draw-size=40", "--batch-size=20", "--log-every=1", "--no-report",
]  # fmt: skip


# Nothing waits on a clock: only a process that hangs for good is given up.
HANG = 3600


def start(arguments, cache, devices=1):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "NPROC": "8"}
    return subprocess.Popen(
        [sys.executable, "-m", "jaxclust", *arguments],
        env={**cache, **flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err[-2000:]
    return err


def steps(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def assignments(folder):
    with (folder / "assignments.csv").open() as file:
        return [row["cluster"] for row in csv.DictReader(file)]


def test_a_run_on_devices_is_the_run_on_one_and_goes_on_elsewhere(tmp_path, compilation_cache):
    processes = {
        count: start(
            [*DAC, f"--out={tmp_path / str(count)}", f"--devices={count}"], compilation_cache, 4
        )
        for count in (1, 4)
    }
    for count, process in processes.items():
        finish(process)
        summary = json.loads((tmp_path / str(count) / "summary.json").read_text())
        assert summary["device_count"] == count
    one, four = steps(tmp_path / "1"), steps(tmp_path / "4")
    assert [row["step"] for row in one] == [row["step"] for row in four]
    # Rounding grows from step to step; before it has, the numbers are the same.
    assert np.isclose(one[0]["loss"], four[0]["loss"], rtol=1e-5)
    assert np.isclose(one[0]["gradient_norm"], four[0]["gradient_norm"], rtol=1e-3)
    said = finish(
        start([*DAC, f"--out={tmp_path / '4'}", "--resume", "--devices=1"], compilation_cache)
    )
    assert "begun on 4 devices and continues with 1" in said
    assert len(assignments(tmp_path / "4")) == len(assignments(tmp_path / "1"))


def pair(arguments, cache):
    """Two processes of one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=localhost:{port}", "--num-processes=2"]
    return [start([*arguments, *together, f"--process-id={i}"], cache) for i in range(2)]


def test_two_processes_one_of_them_killed_then_resumed(tmp_path, compilation_cache):
    """And each reads its own part of a streamed folder, which two devices hold in memory."""
    alone, out = tmp_path / "devices", tmp_path / "processes"
    (tmp_path / "in").mkdir()
    for i, picture in enumerate(load_digits().images[:200]):
        Image.fromarray((15 * picture).astype(np.uint8)).save(tmp_path / "in" / f"{i:03d}.png")
    run = [*RUN, f"--dataset=folder:{tmp_path / 'in'}"]
    single = start([*run, "--epochs=0", f"--out={alone}", "--devices=2"], compilation_cache, 2)
    long = [*run, "--in-memory=0", "--epochs=20", "--evaluate-every=20", f"--out={out}"]
    first, second = pair([*long, "--checkpoint-every=0"], compilation_cache)
    while not (out / "metrics.jsonl").is_file() or len(steps(out)) < 12:
        assert first.poll() is None, first.communicate()[1][-2000:]
        time.sleep(0.1)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    finish(single)
    # The same two shares, added by other means.
    assert np.isclose(steps(alone)[0]["loss"], steps(out)[0]["loss"], rtol=1e-5)
    _, said = first.communicate(timeout=HANG)
    assert first.returncode not in (0, None)
    assert "start all of them again with --resume" in said
    assert "\n1\n" in said  # the number of the lost one, in JAX's words
    for process in pair([*long, "--resume"], compilation_cache):
        finish(process)
    assert len(assignments(out)) == 200
    assert [row["step"] for row in steps(out)] == list(range(1, 5 * 21 + 1))


def test_shares_are_the_columns_of_each_device():
    rows = np.arange(24).reshape(2, 12)
    devices = tuple(range(3))
    first = parallel.Group(devices, processes=2, process=0).shares(rows)
    second = parallel.Group(devices, processes=2, process=1).shares(rows)
    everyone = np.concatenate([first, second])
    assert everyone.shape == (6, 2, 2)
    np.testing.assert_array_equal(np.concatenate(list(everyone), axis=-1), rows)


def method(batch, **more):
    phase = Phase("cluster", lambda s, b: (s, b), 1, Batches(batch, **more))
    return Method(lambda k, x: k, lambda s, x: x, (phase,))


@pytest.fixture
def devices(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    monkeypatch.setattr(jax, "local_devices", lambda: list("abcd"))


def test_default_takes_the_most_devices_that_share_evenly(devices):
    assert parallel.choose(method(12), 100, None).size == 4
    assert parallel.choose(method(12, shared=(9,)), 100, None).size == 3
    # DAC's draw is not shared, its batch is; a set smaller than a batch is the batch.
    assert parallel.choose(method(1001, split="inner", shared=(128,)), 5000, None).size == 4
    assert parallel.choose(method(1000), 6, None).size == 3
    assert parallel.choose(method(7), 100, None) is None
    stepless = method(12).replace(phases=(Phase("cluster", None, 0, Batches(12)),))
    assert parallel.choose(stepless, 100, None) is None


def test_what_devices_cannot_share_is_refused(devices):
    with pytest.raises(InputError, match=r"9 images.* evenly by 4 devices; give devices 3 or"):
        parallel.choose(method(12, shared=(9,)), 100, 4)
    with pytest.raises(InputError, match="between 1 and 4, not 5; for more on CPU set XLA_FLAGS"):
        parallel.choose(method(12), 100, 5)
    with pytest.raises(InputError, match="no training steps"):
        parallel.choose(method(12).replace(phases=()), 100, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "need coordinator, the HOST:PORT"),
        (("localhost:1", 2, 2), "between 0 and num_processes"),
    ],
)
def test_processes_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        processes.join(*arguments)


def test_processes_that_slurm_numbers_join_without_an_address(tmp_path, compilation_cache):
    """As srun sets its variables for two tasks on one node; the run is one process's."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # JAX makes the port of the job's number.
    job = port - (65535 - 2**12 + 1)
    if not 0 <= job < 2**12:
        job = 1234
    told = {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
    }
    arguments = [*KMEANS, "--distributed", f"--out={tmp_path / 'run'}"]
    started = []
    for task in range(2):
        numbered = {**told, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
        started.append(start(arguments, {**compilation_cache, **numbered}))
    for process in started:
        finish(process)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["device_count"] == 2
    alone = start([*KMEANS, f"--out={tmp_path / 'alone'}", "--devices=2"], compilation_cache, 2)
    finish(alone)
    found, expected = steps(tmp_path / "run"), steps(tmp_path / "alone")
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    # Rounding grows from step to step; before it has, the numbers are the same.
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-4)
    assert len(assignments(tmp_path / "run")) == 80


def test_without_a_scheduler_distributed_is_refused(capsys, monkeypatch, tmp_path):
    from jaxclust.cli import main

    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    arguments = [*DAC, "--distributed", f"--out={tmp_path / 'run'}"]
    assert main(arguments) == 2
    assert "--distributed is for processes started by Slurm" in capsys.readouterr().err
    assert main([*arguments, "--coordinator=localhost:1234"]) == 2
    assert "two ways to join" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
