import os
import tempfile
from pathlib import Path

# Tests compile much and compute little. In the environment, so that runs in child processes
# are compiled alike and end in the same bits.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

# A [b, k] + [k] that broadcasts silently is this field's classic bug.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests run the same programs; compiling is most of what they cost. One cache serves all
# processes: the first makes it, and the others find it in their environment.
_made = None
if "JAXCLUST_TEST_CACHE" not in os.environ:
    _made = tempfile.TemporaryDirectory(prefix="jaxclust-tests-")
    os.environ["JAXCLUST_TEST_CACHE"] = _made.name
CACHE = os.environ["JAXCLUST_TEST_CACHE"]
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_collection_modifyitems(items):
    """Tests that wait for processes first, so that nothing waits for them in the end."""
    items.sort(key=lambda item: item.path.name != "test_parallel.py")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The prepared data sets, where the environment tells."""
    path = os.environ.get("JAXCLUST_DATA_DIR")
    if not path:
        pytest.skip("needs prepared data sets: set JAXCLUST_DATA_DIR")
    return Path(path)


@pytest.fixture(scope="session")
def compilation_cache() -> dict[str, str]:
    """Environment under which child processes share the tests' compiled programs."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": CACHE,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
