"""What every benchmark shares: clocks, the machine's own rates, result files."""

import argparse
import fcntl
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def timed(function: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, after two that are not counted."""
    function()
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def run_side(script: str, side: str, arguments: Sequence[str]) -> dict[str, Any]:
    """One side of a comparison in a process of its own: its last line, as JSON.

    Two thread pools in one process would take turns at the same cores.
    """
    return answer(start_side(script, side, arguments), side)


def start_side(
    script: str, side: str, arguments: Sequence[str] = (), **environment: str
) -> subprocess.Popen:
    """A side's process, begun; :func:`answer` waits for it."""
    call = [sys.executable, script, "--side", side, *arguments]
    around = {**os.environ, **environment}
    return subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=around)


def answer(process: subprocess.Popen, side: str) -> dict[str, Any]:
    """The last line a side's process prints, as JSON."""
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the side '{side}' failed; its message stands above")
    return json.loads(said.splitlines()[-1])


class Held:
    """A side in a process of its own that has compiled and waits to be told to measure.

    Args:
        script: called with `--side SIDE` and `arguments`; its last act is :func:`serve`.
        side: its name.
        arguments: the script's own.
    """

    def __init__(self, script: str, side: str, arguments: Sequence[str]) -> None:
        self.name = side
        call = [sys.executable, script, "--side", side, *arguments]
        pipe = subprocess.PIPE
        # Both sides share a GPU's memory.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
        self._process = subprocess.Popen(call, stdin=pipe, stdout=pipe, text=True, env=environment)
        # What it says when it is ready: its device, its first loss.
        self.report = self._answer()

    def measure(self) -> dict[str, Any]:
        """One turn's figures."""
        assert self._process.stdin is not None
        self._process.stdin.write("measure\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A library that prints must not be taken for the side.
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"the side '{self.name}' failed; its message stands above")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def serve(report: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
    """A side's end of :class:`Held`: the report at once, figures for every line read."""
    print(json.dumps(report), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def check_same_device(reports: dict[str, dict[str, Any]]) -> None:
    """A ratio between different devices says nothing about the programs."""
    devices = {name: report["device"] for name, report in reports.items()}
    if len(set(devices.values())) > 1:
        said = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise SystemExit(f"no ratio across devices: {said}; measure one side alone")


@contextmanager
def _locked(how: int) -> Iterator[None]:
    """Hold the file that JAXCLUST_BENCHMARK_LOCK names; without it nothing is waited for."""
    path = os.environ.get("JAXCLUST_BENCHMARK_LOCK")
    if path is None:
        yield
        return
    with Path(path).open("a") as file:
        fcntl.flock(file, how)
        yield


# Processes of a benchmark that compile at the same time share the lock until they are ready;
# whoever measures has it alone.
getting_ready = partial(_locked, fcntl.LOCK_SH)
undisturbed = partial(_locked, fcntl.LOCK_EX)


def in_turns(
    script: str, sides: Sequence[str], arguments: Sequence[str], rounds: int
) -> dict[str, dict[str, Any]]:
    """Each side's report with the "seconds" of all its turns; refused across devices.

    A later side may read what an earlier one wrote while it got ready.
    """
    held: list[Held] = []
    try:
        with getting_ready():
            for side in sides:
                held.append(Held(script, side, arguments))
        reports = {one.name: one.report for one in held}
        check_same_device(reports)
        seconds: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
        with undisturbed():
            for _ in range(rounds):
                for one in held:
                    for what, taken in one.measure().items():
                        seconds[one.name].setdefault(what, []).extend(taken)
    finally:
        for one in held:
            one.close()
    return {side: {**reports[side], "seconds": seconds[side]} for side in sides}


def beside_torch_options(parser: argparse.ArgumentParser) -> None:
    """The options of a script that :func:`beside_torch` runs."""
    parser.add_argument("--repeats", type=int, default=5, help="measurements a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both sides")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch's")
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--exchange", help=argparse.SUPPRESS)
    sided(parser, ["jax", "torch"])


def beside_torch(script: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The sides 'jax' and, where wanted, 'torch' in turns; see :func:`in_turns`."""
    sides = ["jax", "torch"] if options.torch else ["jax"]
    with tempfile.TemporaryDirectory() as folder:
        passed = [*sys.argv[1:], "--exchange", f"{folder}/exchange.npz"]
        return in_turns(script, sides, passed, options.rounds)


def alternate(
    script: str, sides: Sequence[str], arguments: Sequence[str], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """The sides in turn, so that a slow minute of the machine affects all."""
    reports: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            reports[side].append(run_side(script, side, arguments))
    return reports


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and range in milliseconds."""
    milliseconds = [1e3 * value for value in seconds]
    return {
        "median_ms": round(statistics.median(milliseconds), 3),
        "min_ms": round(min(milliseconds), 3),
        "max_ms": round(max(milliseconds), 3),
        "measurements": len(milliseconds),
    }


def jax_rates(size: int = 3000, megabytes: int = 256) -> dict[str, float]:
    """What the device does at best: a square matrix product, a copy of an array."""
    import jax
    import jax.numpy as jnp

    from jaxclust.core import device

    a = jnp.ones((size, size))
    product = device.jit(lambda a: a @ a)
    b = jnp.ones(megabytes * 2**18)
    copy = device.jit(lambda b: b + 1)
    product_seconds = min(timed(lambda: jax.block_until_ready(product(a)), 5))
    copy_seconds = min(timed(lambda: jax.block_until_ready(copy(b)), 5))
    return {
        "product_gflops": round(2 * size**3 / product_seconds / 1e9, 1),
        # Read once, written once.
        "copy_gb_per_second": round(2 * b.nbytes / copy_seconds / 1e9, 1),
    }


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, device and versions."""
    import jax

    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "versions": found,
    }


def kind_of(device: str) -> str:
    """A device's name as file names have it."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower())


def results_folder() -> Path:
    """benchmarks/results/, or where JAXCLUST_BENCHMARK_RESULTS says; made where it is missing."""
    folder = Path(os.environ.get("JAXCLUST_BENCHMARK_RESULTS", RESULTS))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(name: str, report: dict[str, Any]) -> Path:
    """NAME.json with the command that printed it.

    In benchmarks/results/, or where JAXCLUST_BENCHMARK_RESULTS says.
    """
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    path = results_folder() / f"{name}.json"
    path.write_text(json.dumps({"command": command, **report}, indent=1) + "\n")
    return path


def table(rows: dict[str, dict[str, float]]) -> str:
    """Spreads by name, for people."""
    lines = [f"{'':34}{'median ms':>11}{'min':>10}{'max':>10}"]
    for name, row in rows.items():
        lines.append(f"{name:34}{row['median_ms']:11.2f}{row['min_ms']:10.2f}{row['max_ms']:10.2f}")
    return "\n".join(lines)


def sided(parser: argparse.ArgumentParser, sides: Sequence[str]) -> None:
    """The hidden option by which a script calls itself for one side."""
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
