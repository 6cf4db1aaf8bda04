"""A checkpoint comes back as it was, or the refusal says what differs."""

import errno
import gc
import logging
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core.errors import InputError
from jaxclust.core.types import first_state
from jaxclust.training.checkpoints import Checkpoints
from jaxclust.training.starting import Position

AT = Position(0, 3, (1.5,), True)
KEYS = {"typed": jax.random.key, "raw": jax.random.PRNGKey}


def state(key, width=3, **params):
    weights = {"w": jnp.arange(2.0 * width).reshape(2, width), **params}
    return first_state(key, jnp.arange(5), 3, weights)


def saved(folder, value):
    checkpoints = Checkpoints(folder, 0)
    checkpoints.save(value, AT)
    checkpoints.close()
    return folder


def restored(folder, like):
    checkpoints = Checkpoints(folder, 0)
    try:
        return checkpoints.restore(lambda _: jax.eval_shape(lambda: like()))
    finally:
        checkpoints.close()


def refused(folder, like):
    with pytest.raises(InputError) as refusal:
        restored(folder, like)
    said = str(refusal.value)
    assert "\n" not in said
    assert "remove" not in said
    assert "delete" not in said
    return said


@pytest.fixture
def generator():
    """Sets the default generator of random keys for a test."""
    before = jax.config.jax_default_prng_impl
    yield lambda name: jax.config.update("jax_default_prng_impl", name)
    jax.config.update("jax_default_prng_impl", before)


@pytest.mark.parametrize("kind", KEYS)
def test_a_state_comes_back_with_its_key(tmp_path, kind):
    key = KEYS[kind](7)
    found, position = restored(saved(tmp_path / "c", state(key)), lambda: state(key))
    assert position == AT
    assert found.key.dtype == key.dtype
    np.testing.assert_array_equal(jax.random.bits(found.key), jax.random.bits(key))
    np.testing.assert_array_equal(found.params["w"], state(key).params["w"])


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("other", ["rbg", "unsafe_rbg"])
def test_another_generator_is_named(tmp_path, kind, other, generator):
    folder = saved(tmp_path / "c", state(KEYS[kind](7)))
    generator(other)
    said = refused(folder, lambda: state(KEYS[kind](7)))
    assert f"this process with {other}; set JAX_DEFAULT_PRNG_IMPL=threefry2x32" in said


def test_a_leaf_of_another_shape_or_dtype_is_named(tmp_path):
    key = jax.random.key(0)
    folder = saved(tmp_path / "c", state(key))
    said = refused(folder, lambda: state(key, width=4))
    assert ".params['w'] is float32[2, 3] there and float32[2, 4] here" in said
    with jax.enable_x64(True):
        said = refused(folder, lambda: state(key))
    assert (
        "float32[2, 3] there and float64[2, 3] here; leave JAX_ENABLE_X64 unset, as it was" in said
    )
    # None of this is damage: it still comes back.
    assert restored(folder, lambda: state(key)) is not None


def test_other_leaves_are_another_version_s_or_another_run_s(tmp_path):
    key = jax.random.key(0)
    folder = saved(tmp_path / "c", state(key))
    said = refused(folder, lambda: state(key, bias=jnp.zeros(3)))
    assert "1 only here, as .params['bias']" in said
    assert "by another run" in said


def test_a_damaged_checkpoint_is_told_from_a_foreign_one(tmp_path):
    key = jax.random.key(0)
    folder = saved(tmp_path / "c", state(key))
    for path in folder.rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said = refused(folder, lambda: state(key))
    assert "cannot be read" in said
    assert "damaged or missing; restore a copy of it, or start over" in said
    later = Checkpoints(folder, 0)
    later.save(state(key), AT._replace(step=9))
    later.close()
    for path in (folder / "9").rglob("*"):
        if path.is_file() and path.suffix != ".txt":
            path.write_bytes(b"")
    assert "move it elsewhere to continue from 3" in refused(folder, lambda: state(key))
    gc.collect()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_without_room_is_found_before_orbax_begins(tmp_path, monkeypatch, number):
    checkpoints = Checkpoints(tmp_path / "c", 0)
    checkpoints.save(state(jax.random.key(0)), AT)

    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=os.strerror(number)) as failed:
        checkpoints.save(state(jax.random.key(0)), AT._replace(step=4))
    assert failed.value.errno == number
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert restored(tmp_path / "c", lambda: state(jax.random.key(0)))[1] == AT


def test_other_libraries_logging_is_left_alone(tmp_path, caplog):
    absl = logging.getLogger("absl")
    level, filters = absl.level, list(absl.filters)
    saved(tmp_path / "c", state(jax.random.key(0)))
    assert (absl.level, absl.filters) == (level, filters)
    assert not [record for record in caplog.records if "orbax" in record.pathname]
