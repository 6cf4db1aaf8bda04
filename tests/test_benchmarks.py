"""The benchmarks measure what they say: the subjects run, and both sides agree."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SUBJECTS = [
    "ccnn", "dac", "dac_mnist", "dac_cifar2", "ics_shallow", "dec", "idec", "ics", "derc",
]  # fmt: skip


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("kmeans", "measuring", "steps_jax", "steps_torch", "networks_torch", "tsne"):
        sys.modules.pop(name, None)


def options_of(subject, folder):
    shapes = {"dac": [28, 28, 1], "dac_mnist": [28, 28, 1], "dac_cifar2": [32, 32, 3]}
    shapes["derc"] = [12, 12, 1]
    shape = shapes.get(subject, [9, 9, 1])
    return argparse.Namespace(
        subject=subject,
        shape=shape,
        # CCNN: more images than clusters, or all lie at distance zero and tie.
        batch=40 if subject == "ccnn" else 10,
        precision="float32",
        steps=1,
        repeats=1,
        threads=1,
        compile=False,
        exchange=f"{folder}/exchange.npz",
    )


@pytest.mark.parametrize("subject", SUBJECTS)
def test_passes_are_a_part_of_the_step(subject, tmp_path):
    import steps_jax

    built = steps_jax.SUBJECTS[subject](options_of(subject, tmp_path))
    for run in (built.step, built.passes):
        after, loss = jax.eval_shape(run, built.carry)
        assert loss.shape == ()
        assert jax.tree.structure(after) == jax.tree.structure(built.carry)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_both_sides_compute_the_same_loss(subject, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
    import steps_jax
    import steps_torch

    options = options_of(subject, tmp_path)
    built = steps_jax.SUBJECTS[subject](options)
    given = {name: torch.from_numpy(np.array(value)) for name, value in built.exchange.items()}
    step = steps_torch.build(options, given, None)
    _, loss = jax.jit(built.step)(built.carry)
    assert step() == pytest.approx(float(loss), abs=1e-4, rel=1e-5)


def test_a_comparison_of_unequal_sides_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import train_step

    train_step.check_losses({"loss": 1.0}, {"loss": 1.00005})
    with pytest.raises(SystemExit, match="the sides differ"):
        train_step.check_losses({"loss": 1.0}, {"loss": 1.001})
    with pytest.raises(SystemExit, match="compiled"):
        train_step.check_losses({"loss": 1.0}, {"loss": 1.0, "compiled_loss": float("1.1")})


def test_a_ratio_across_devices_is_refused():
    import measuring

    measuring.check_same_device({"jax": {"device": "cpu"}, "torch": {"device": "cpu"}})
    with pytest.raises(SystemExit, match="no ratio across devices: jax on NVIDIA H200, torch on c"):
        measuring.check_same_device({"jax": {"device": "NVIDIA H200"}, "torch": {"device": "cpu"}})


def test_kmeans_has_no_ratio_to_a_side_on_another_device():
    import kmeans

    ours = {"device": "NVIDIA H200", "inertia": 1.0}
    with pytest.raises(SystemExit, match="across devices"):
        kmeans.check_same_work({"jax": [ours], "sklearn": [{"device": "cpu", "inertia": 1.0}]})
    kmeans.check_same_work({"jax": [ours]})
    with pytest.raises(SystemExit, match="inertia"):
        kmeans.check_same_work({"jax": [ours], "sklearn": [{**ours, "inertia": 1.1}]})


def test_the_gpus_command_stops_in_time_and_goes_on(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (600, 12, 12, 1), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", images=images, labels=np.arange(600) % 10)
    results = tmp_path / "results"
    call = [sys.executable, FOLDER / "gpu.py", f"--data={tmp_path}", f"--results={results}"]
    call += ["--toy", "--only", "compiling"]

    def said(*words):
        done = subprocess.run([*call, *words], capture_output=True, text=True, check=True)
        progress = json.loads((results / "progress.json").read_text())
        return done.stdout, progress["compiling"]["commands"]

    # Cut off long before it is done: killed, told, and not taken for done.
    assert said("--minutes", "0.005")[1] == {"compiling-dec": "cut off"}
    assert not list((results / "done").iterdir())
    assert said()[1] == {"compiling-dec": "done"}
    (row,) = json.loads((results / "second_fit-dec-12-cpu.json").read_text())["rows"]
    assert row["first"]["compilations"] > 0 == row["second"]["compilations"]
    assert len(row["first"]["first_steps"]) == 2
    assert "done before" in said()[0]


def test_neighbours_a_map_keeps():
    import tsne

    x = tsne.latents(300)
    assert tsne.kept_neighbours(x, 3 * x + 1) == 1
    shuffled = np.random.default_rng(0).permutation(x)
    assert tsne.kept_neighbours(x, shuffled) < 0.15
