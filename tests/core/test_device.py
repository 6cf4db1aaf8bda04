import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxclust.core import device


def test_options_by_backend(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert set(device.compiler_options("cpu")) == {"xla_cpu_experimental_ynn_fusion_type"}
    assert device.compiler_options("gpu") == device.compiler_options("tpu") == {}
    with device.deterministic():
        assert device.compiler_options("gpu") == {"xla_gpu_exclude_nondeterministic_ops": True}
        assert set(device.compiler_options("cpu")) == {"xla_cpu_experimental_ynn_fusion_type"}
    with device.deterministic(False):
        assert device.compiler_options("gpu") == {}
    assert device.compiler_options("gpu") == {}


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_xla_knows_every_option(backend):
    """An option XLA has renamed would end every run; options of all backends are parsed."""
    with device.deterministic():
        options = device.compiler_options(backend)
    assert options
    assert jax.jit(lambda x: x + 1, compiler_options=options)(jnp.ones(())) == 2


def test_the_users_flags_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert device.compiler_options("cpu") == {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_exclude_nondeterministic_ops=false")
    with device.deterministic():
        assert device.compiler_options("gpu") == {}


@pytest.fixture
def jax_settings():
    names = (
        "jax_threefry_gpu_kernel_lowering",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_accelerators_keep_what_they_compile(monkeypatch, tmp_path, jax_settings):
    jax.config.update("jax_compilation_cache_dir", None)
    device.compile_once(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None
    assert not jax.config.jax_threefry_gpu_kernel_lowering
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    device.compile_once(None)
    assert jax.config.jax_compilation_cache_dir is None
    assert jax.config.jax_threefry_gpu_kernel_lowering
    device.compile_once(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    # A place that the user named stays.
    device.compile_once(tmp_path / "other")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_importing_sets_nothing():
    program = (
        "import os, jax; before = dict(os.environ), dict(jax.config.values);"
        "import jaxclust, jaxclust.core.device, jaxclust.methods.registry, jaxclust.training.loop;"
        "assert (dict(os.environ), dict(jax.config.values)) == before;"
        "from jax._src import xla_bridge; assert not xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
