"""What users may set of JAX and every function must bear."""

import contextlib

import jax
import jax.numpy as jnp


@contextlib.contextmanager
def strict_x64(prng="threefry2x32"):
    """64-bit defaults, no implicit promotion, and that kind of random keys."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.default_prng_impl(prng),
    ):
        yield


def assert_strong(tree, dtype=jnp.float32):
    """Every floating leaf has that dtype, and none a weak one."""
    for path, leaf in jax.tree.flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert leaf.dtype == dtype, f"{name} is {leaf.dtype}"
        assert not getattr(leaf, "weak_type", False), f"{name} has a weak type"
