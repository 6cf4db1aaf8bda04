"""Everything to be measured on one GPU, in one command that stops itself in time.

    python benchmarks/gpu.py --data FOLDER
    python benchmarks/gpu.py --data FOLDER --minutes 3 --only rows

Steps run in order of importance, each with its own time limit, and each writes its figures to
--results as soon as they exist; called again, the command goes on with what is missing. FOLDER
holds mnist.npz, mnist_test.npz, usps.npz and cmu_pie.npz, each with arrays images and labels. It
needs the core dependencies without tensorflow-datasets, and JAX 0.11 or later for GPUs; where
PyTorch is not installed, its side is "not measured". --toy makes every step small, to try the
command on a CPU; its figures are worth nothing.

Steps: correctness (one step of every method beside the CPU's), compiling (first steps, second
fits), steps (train steps beside PyTorch's), kmeans (a million vectors), seeds (four as one program
or in turn), dac (MNIST to ACC 97.75), embed (an encoder's images a second), rows (of experiments/,
several runs at once).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

BENCHMARKS = Path(__file__).parent
SUBJECTS = ("dac", "ccnn", "ics", "derc", "dec")
# Of experiments/tables: script, words. As many run at once as there are cores for.
ROWS = (
    ("dac_small", "--datasets mnist_test --only best"),
    ("dac_small", "--datasets usps --only best"),
    ("ccnn_small", "--datasets mnist_test --only best-mnist_test-rollback single"),
    ("ccnn_small", "--datasets usps --only best-usps-rollback single"),
    ("autoencoders", "--datasets cmu_pie --only derc dae"),
    ("autoencoders", "--datasets cmu_pie --only dec- vade"),
    ("autoencoders", "--datasets mnist_test --only dec- vade"),
    ("autoencoders", "--datasets cmu_pie mnist_test usps --only ics"),
    ("autoencoders", "--datasets mnist_test --only derc dae"),
    ("autoencoders", "--datasets usps --only dec- derc dae"),
    ("dac_small", "--datasets mnist --only best"),
    ("autoencoders", "--datasets mnist --only ics derc dae"),
)


class Command(NamedTuple):
    """One process of a step."""

    name: str  # of its mark in --results
    words: Sequence[str]  # behind `python`


class Step(NamedTuple):
    """Commands that may run at once, and how long each may take."""

    name: str
    seconds: float  # limit of a command
    commands: Sequence[Command]
    at_once: int = 1


def script(name: str, *words: object) -> list[str]:
    """A benchmark's call."""
    return [str(BENCHMARKS / f"{name}.py"), *map(str, words)]


def torch_sees_what_jax_does() -> bool:
    """Whether PyTorch is there and has a GPU if JAX has one; asked in processes of their own."""
    if find_spec("torch") is None:
        return False
    asked = (
        "import torch; print(torch.cuda.is_available())",
        "import jax; print(jax.default_backend() != 'cpu')",
    )
    said = [
        subprocess.run([sys.executable, "-c", one], capture_output=True, text=True).stdout.split()
        for one in asked
    ]
    return len({words[-1] for words in said if words}) == 1


def steps(options: argparse.Namespace) -> list[Step]:
    """What is measured, in order of importance."""
    toy, data = options.toy, options.data
    # Asking takes seconds of a GPU's time.
    asking = not options.only or "steps" in options.only
    torch = [] if asking and torch_sees_what_jax_does() else ["--no-torch"]
    few = ["--rounds", 1, "--repeats", 1, "--steps", 2] if toy else []
    timed = few or ["--rounds", 3, "--repeats", 2, "--steps", 30, "--compile-seconds", 40]
    small = ["--n", 600, "--size", 12] if toy else ["--n", 5120, "--size", 28]
    subjects = ("dec",) if toy else SUBJECTS
    million = ["--n", 2000, "--d", 8, "--k", 20, "--batch", 200, "--repeats", 1] if toy else []
    runs = Path(options.results) / "runs"
    tables = [
        [
            "-m",
            f"experiments.tables.{table}",
            *words.split(),
            f"--data-dir={data}",
            f"--runs={runs}",
            # A folder each, for they run at once; `--collect` gathers them.
            f"--results={runs.parent / 'tables' / str(i)}",
        ]
        for i, (table, words) in enumerate(ROWS)
    ]
    return [
        Step(
            "correctness",
            150,
            [Command("correctness", script("correctness", *(["--methods", "dec"] if toy else [])))],
        ),
        Step(
            "compiling",
            60,
            [
                Command(f"compiling-{name}", script("second_fit", "--methods", name, *small))
                for name in subjects
            ],
        ),
        Step(
            "steps",
            75,
            # One after the other: compiling at once, they wait for the slowest and for each other.
            [
                Command(f"steps-{name}", script("train_step", "--subject", name, *timed, *torch))
                for name in subjects
            ],
        ),
        Step("kmeans", 90, [Command("kmeans", script("kmeans", "--sides", "jax", *million))]),
        Step(
            "seeds",
            60,
            [
                Command(f"seeds-{name}", script("seeds", "--method", name, *small))
                for name in (("dec",) if toy else ("dec", "ccnn"))
            ],
        ),
        Step(
            "dac",
            200,
            [
                Command(
                    "dac",
                    script(
                        "dac_mnist",
                        f"--images={data}/mnist.npz",
                        *(["--epochs", 1, "--seeds", 0] if toy else []),
                    ),
                )
            ],
        ),
        Step(
            "embed",
            90,
            [
                Command(
                    "embed",
                    script(
                        "embed",
                        f"--encoder={options.encoder}",
                        *([] if find_spec("efficientnet_lite_pytorch") else ["--no-torch"]),
                        *(
                            ["--batch", 2, "--repeats", 1]
                            if toy
                            else ["--batch", 512, "--precision", "bfloat16"]
                        ),
                    ),
                )
            ]
            if options.encoder
            else [],
        ),
        Step(
            "rows",
            600,
            [Command(f"rows-{i}", words) for i, words in enumerate([] if toy else tables)],
            # More compile so slowly beside each other that none ends: of 15 on 16 cores none had
            # taken its first step of clustering after three minutes.
            at_once=max(1, (os.cpu_count() or 1) // 4),
        ),
    ]


def environment(results: Path) -> dict[str, str]:
    """Of every command: figures go to --results, memory is taken as needed."""
    root = str(BENCHMARKS.parent)
    return {
        **os.environ,
        "JAXCLUST_BENCHMARK_RESULTS": str(results),
        "JAXCLUST_BENCHMARK_LOCK": str(results / "lock"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
    }


def run(step: Step, results: Path, ends: float) -> dict[str, str]:
    """Run a step's commands until they or the time are over; how each ended.

    A command that has ended well leaves a mark and is not run again. One that is cut off is
    killed with all that it started, and what it has written by then stays.
    """
    marks = results / "done"
    marks.mkdir(exist_ok=True)
    waiting = [one for one in step.commands if not (marks / one.name).exists()]
    running: dict[subprocess.Popen, tuple[Command, float]] = {}
    said: dict[str, str] = {}
    while running or (waiting and time.monotonic() < ends):
        while waiting and len(running) < step.at_once and time.monotonic() < ends:
            one = waiting.pop(0)
            running[begun(one, results)] = (one, min(ends, time.monotonic() + step.seconds))
        for process, (one, limit) in list(running.items()):
            late = time.monotonic() >= limit
            if process.poll() is None and not late:
                continue
            del running[process]
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                said[one.name] = "cut off"
                continue
            said[one.name] = "done" if process.returncode == 0 else "failed"
            if process.returncode == 0:
                (marks / one.name).touch()
        time.sleep(0.1)
    return said | {one.name: "not begun" for one in waiting}


def begun(one: Command, results: Path) -> subprocess.Popen:
    """A command's process; what it prints is added to its log."""
    with (results / f"{one.name}.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, *one.words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(results),
            cwd=BENCHMARKS.parent,
            start_new_session=True,
        )


def main() -> None:
    """Run what is missing, until the time is over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of npz files")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--results", help="default: benchmarks/results/gpu, with --toy gpu-toy")
    parser.add_argument("--encoder", help="weights of an encoder, for step embed")
    parser.add_argument("--only", nargs="+", help="steps by name")
    parser.add_argument("--toy", action="store_true", help="every step small")
    options = parser.parse_args()
    options.results = options.results or str(
        BENCHMARKS / "results" / ("gpu-toy" if options.toy else "gpu")
    )
    results = Path(options.results).resolve()
    results.mkdir(parents=True, exist_ok=True)
    clock = time.monotonic()
    known = steps(options)
    unknown = set(options.only or []) - {step.name for step in known}
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    path = results / "progress.json"
    progress = json.loads(path.read_text()) if path.is_file() else {}
    for step in known:
        if options.only and step.name not in options.only:
            continue
        since = time.monotonic()
        said = run(step, results, clock + 60 * options.minutes)
        seconds = round(time.monotonic() - since, 1)
        if said:
            progress[step.name] = {"seconds": seconds, "commands": said}
            path.write_text(json.dumps(progress, indent=1) + "\n")
        print(f"{step.name}: {seconds} s; {said or 'done before'}", flush=True)
    if any("failed" in one["commands"].values() for one in progress.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
