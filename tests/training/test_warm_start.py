"""Runs that start from another run's pre-training."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.cli import main
from jaxclust.images.normalisation import measure
from jaxclust.methods.registry import METHODS
from jaxclust.training import placement, starting
from jaxclust.training.warm_start import capture
from tests.runs.test_single import logged, refused, results

COMMON = [
    "run", "--dataset=digits", "--starts=1", "--limit=120", "--pretrain-epochs=2",
    "--batch-size=40", "--epochs=1", "--quiet", "--no-report",
]  # fmt: skip
DERC = [*COMMON, "--method=derc", "--reducer=pca", "--restarts=1", "--iterations=1"]
DEC = [*COMMON, "--method=dec", "--network=sparse"]
CCNN = [*COMMON, "--method=ccnn", "--k-m=20", "--n-m=20"]
# Its networks' state is a tuple of arrays with names, as VaDE's is.
DEPICT = [*COMMON, "--method=depict", "--start-epochs=1"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("options", [DERC, DEC, CCNN, DEPICT])
def test_a_warm_start_changes_nothing_but_the_time(options):
    whole, warm = Path("whole"), Path("warm")
    assert main([*options, "--out=whole"]) == 0
    assert main([*options, "--out=warm", "--pretrained=whole"]) == 0
    assert results(warm) == results(whole)
    assert logged(warm) == [row for row in logged(whole) if row["phase"] != "pretrain"]
    with np.load("warm/pretrained.npz") as one, np.load("whole/pretrained.npz") as other:
        assert all((one[name] == other[name]).all() for name in other)
    # A run that starts so can go on.
    shutil.rmtree("warm/checkpoints")
    (warm / "summary.json").unlink()
    assert main([*options, "--out=warm", "--pretrained=whole", "--resume"]) == 0
    assert results(warm) == results(whole)


def test_what_cannot_start_so_is_refused_before_anything_is_written(capsys):
    assert main([*DEC, "--out=whole"]) == 0
    capsys.readouterr()
    elsewhere = refused(capsys, [*DEC, "--out=no", "--pretrained=nowhere"])
    assert "there is no pretrained.npz" in elsewhere
    wider = refused(capsys, [*DEC, "--out=no", "--pretrained=whole", "--latent-width=7"])
    assert "is from another network" in wider
    assert "is (10,) there and (7,) here" in wider
    none = [word for word in COMMON[:-2] if word != "--starts=1"] + ["--quiet", "--method=kmeans"]
    none = [word for word in none if not word.startswith(("--pre", "--batch", "--epochs"))]
    assert "has no pre-training" in refused(capsys, [*none, "--out=no", "--pretrained=whole"])
    with np.load("whole/pretrained.npz") as arrays:
        assert int(arrays["step"]) == 6
    Path("whole/pretrained.npz").write_bytes(b"PK no archive")
    assert "cannot be read" in refused(capsys, [*DEC, "--out=no", "--pretrained=whole"])
    assert not Path("no").exists()


def test_steps_are_counted_from_the_end_of_ones_own_pre_training():
    """DBC's targets grow sharper by steps; those of a longer pre-training are not its own."""
    images = np.zeros((60, 8, 8, 1), np.uint8)
    data = placement.put(images, measure(images))
    entry = METHODS["dbc"]
    config = replace(entry.config("paper"), pretrain_epochs=2, batch_size=20)
    method = entry.build(config, placement.spec_of(data, 3))
    other = starting.init(method, data, 0).replace(step=jnp.asarray(999))
    begun = starting.init(method, data, 0, capture(other))
    assert int(begun.step) == 2 * 3


def test_methods_with_the_same_autoencoder_share_it():
    pretraining = ["--dataset=digits", "--limit=120", "--pretrain-epochs=2", "--quiet"]
    pretraining += ["--batch-size=40"]
    assert main([*DERC, "--out=derc"]) == 0
    own = ["run", "--method=dae", *pretraining, "--no-report"]
    assert main([*own, "--out=whole"]) == 0
    assert main([*own, "--out=warm", "--pretrained=derc"]) == 0
    assert results(Path("warm")) == results(Path("whole"))


def test_seeds_can_share_a_pretraining():
    assert main([*DEC, "--out=several", "--seeds=2", "--seeds-together=yes"]) == 0
    assert main([*DEC, "--out=alone", "--seed=1"]) == 0
    with np.load("several/seed-1/pretrained.npz") as one, np.load("alone/pretrained.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_allclose(one[name], other[name], atol=2e-4, err_msg=name)
    assert main([*DEC, "--out=warm", "--seeds=2", "--pretrained=alone"]) == 0
    assert results(Path("warm/seed-1"))[0].count(b"\n") == 121
