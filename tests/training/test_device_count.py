"""Eight devices compute what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core import collectives

ROOT = Path(__file__).parents[2]


def compared(method, dtype, steps):
    call = [sys.executable, "-m", "tests.training.device_count", method, dtype, str(steps)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# A method each of every step there is: ICS has all terms of DEC's family, the variational
# autoencoder's pre-training draws noise. tests/training/device_count.py knows more.
METHODS = ["ccnn", "dac", "ics", "derc", "vae_kmeans", "imsat", "minibatch_kmeans"]
if os.environ.get("JAXCLUST_ALL_CHECKS"):
    METHODS += ["dcn", "depict", "gan_kmeans", "jule"]


@pytest.mark.parametrize("method", METHODS)
def test_five_steps_in_float64(method):
    report = compared(method, "float64", 5)
    assert report["moved"] > 1e-3
    for name, leaf in report["leaves"].items():
        assert leaf["difference"] <= 1e-6 * leaf["largest"] + 1e-9, name
    for loss, *others in report["losses"]:
        np.testing.assert_allclose(others, loss, rtol=1e-9)
    assert report["same_assignments"]


def test_the_first_step_in_float32():
    """The optimiser's averages stand for the gradients, which they are made of."""
    report = compared("dac", "float32", 1)
    for name, leaf in report["leaves"].items():
        if "params" not in name:
            # Means after batch norm and the gradients of what it undoes are zero but for
            # rounding, 1e-4 of the gradients there are.
            assert leaf["distance"] <= 1e-4 * leaf["norm"] + 1e-6, name
    loss, *others = report["losses"][0]
    np.testing.assert_allclose(others, loss, rtol=1e-4)


def test_one_device_exchanges_nothing():
    x = jnp.arange(6.0).reshape(3, 2)
    assert collectives.gathered(x, None) is x
    assert collectives.mean_over_devices(x, None) is x
    np.testing.assert_array_equal(collectives.own_rows(3, None), [0, 1, 2])
