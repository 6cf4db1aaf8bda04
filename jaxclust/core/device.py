"""Backend specifics: compiler options, name, memory.

Everything the project compiles goes through :func:`jit`, so that a backend's
settings are written in one place and affect no other JAX code in the process. Importing
changes nothing, the environment is only read, and options that the user sets in
``XLA_FLAGS`` are left alone.

- On CPU, xla_cpu_experimental_ynn_fusion_type without un-padded convolutions, which
  are up to four times faster elsewhere.
- On GPU, xla_gpu_exclude_nondeterministic_ops, inside :func:`deterministic` alone.
"""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax

# On CPU, XLA hands un-padded convolutions to its YNN library, which is four times
# slower for them than Eigen. These are YNN's remaining, useful parts.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    )
}

# Refuses kernels that add in random order, and picks others if there are any.
_REPEATABLE_GPU_OPTIONS: dict[str, str | bool] = {"xla_gpu_exclude_nondeterministic_ops": True}
_repeatable = ContextVar("repeatable", default=False)


@contextmanager
def deterministic(on: bool = True) -> Iterator[None]:
    """Functions made by :func:`jit` inside repeat bit for bit on GPU; on CPU they always do."""
    token = _repeatable.set(on)
    try:
        yield
    finally:
        _repeatable.reset(token)


def compiler_options(backend: str | None = None) -> dict[str, str | bool]:
    """XLA options for `backend` (default: JAX's own choice).

    Without options that the user's ``XLA_FLAGS`` already set, and empty on backends that
    need none.
    """
    backend = backend or jax.default_backend()
    options: dict[str, str | bool] = {**_CPU_OPTIONS} if backend == "cpu" else {}
    if backend in {"gpu", "cuda", "rocm"} and _repeatable.get():
        options = _REPEATABLE_GPU_OPTIONS
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in flags}


def jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` with the backend's compiler options.

    For outermost programs only: JAX refuses compiler options on a `jit` that is
    called while another one is being traced.
    """
    return jax.jit(function, compiler_options=compiler_options() or None, **options)


def compile_once(folder: Path | None) -> None:
    """For a process of our own: compile less for accelerators, and nothing twice.

    Random numbers are drawn by one kernel instead of code unrolled into every other one, which
    halves the compilation of small steps and changes no bit. Compiled programs and what
    autotuning found are kept in `folder` for later processes, unless JAX's own settings already
    name a place or `folder` is None. On CPU nothing changes: another machine's CPU may share the
    folder and lack this one's instructions.

    Call it before anything is compiled, and after processes have joined.
    """
    if jax.default_backend() == "cpu":
        return
    jax.config.update("jax_threefry_gpu_kernel_lowering", True)
    if folder is None or jax.config.jax_compilation_cache_dir is not None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def describe() -> dict[str, Any]:
    """Kind, platform and count of the devices in use, for the run's records."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "device_count": len(devices),
    }


def peak_memory_mb() -> dict[str, float | None]:
    """Peak resident memory of the process and of the device, in MiB.

    The device's is None if the backend keeps no count (CPU).
    """
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    stats = jax.local_devices()[0].memory_stats() or {}
    device_peak = stats.get("peak_bytes_in_use")
    return {
        "peak_rss_mb": round(peak, 1),
        "peak_device_mb": None if device_peak is None else round(device_peak / 2**20, 1),
    }
