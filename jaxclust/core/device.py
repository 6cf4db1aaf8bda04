"""What a backend needs said: compiler options, its name, its memory.

Everything the project compiles goes through :func:`jit`, so that a backend's
settings are written in one place and reach no other JAX code in the process.
Importing sets nothing, the environment is only read, and an option that the
user's ``XLA_FLAGS`` name is left to them.

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

# XLA hands un-padded convolutions on CPU to its YNN library, four times slower
# than Eigen's for them. These are YNN's remaining, useful parts.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    )
}

# Refuses kernels that add in an order of chance, and picks others where there are any.
_REPEATABLE_GPU_OPTIONS: dict[str, str | bool] = {"xla_gpu_exclude_nondeterministic_ops": True}
_repeatable = ContextVar("repeatable", default=False)


@contextmanager
def deterministic(on: bool = True) -> Iterator[None]:
    """What :func:`jit` makes inside repeats bit for bit on GPU; CPU always does."""
    token = _repeatable.set(on)
    try:
        yield
    finally:
        _repeatable.reset(token)


def compiler_options(backend: str | None = None) -> dict[str, str | bool]:
    """XLA options for `backend` (default: JAX's own choice).

    Empty wherever the user's ``XLA_FLAGS`` already decide the same option, and
    on every backend that needs none.
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
    """For a process that is the program's own: accelerators compile less, and not twice.

    Random numbers are drawn by one kernel instead of code unrolled into every other, which
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

    The device's is None where the backend keeps no count (CPU).
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
