"""Comparing states: trees of arrays and typed keys."""

import chex

from jaxclust.core.keys import host_arrays


def assert_same(a, b):
    """The same structure, shapes, dtypes and bits."""
    a, b = host_arrays(a), host_arrays(b)
    chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
    chex.assert_trees_all_equal(a, b)


def assert_close(a, b, **tolerance):
    """The same up to rounding; keys the same."""
    chex.assert_trees_all_close(host_arrays(a), host_arrays(b), **tolerance)
