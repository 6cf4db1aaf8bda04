"""Random MobileNet weights, for tests."""

import itertools

import numpy as np


def mobilenet_arrays(width, rng):
    """Random arrays by Keras's names."""
    arrays = {}

    def norm(name, channels):
        arrays[f"{name}_bn.gamma"] = rng.uniform(0.5, 1.5, channels)
        arrays[f"{name}_bn.beta"] = rng.normal(0, 0.2, channels)
        arrays[f"{name}_bn.moving_mean"] = rng.normal(0, 0.1, channels)
        arrays[f"{name}_bn.moving_variance"] = rng.uniform(0.5, 1.5, channels)

    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    sizes = [int(width * w) for w in widths]
    arrays["conv1.kernel"] = rng.normal(0, 0.3, (3, 3, 3, sizes[0]))
    norm("conv1", sizes[0])
    for i, (before, after) in enumerate(itertools.pairwise(sizes), 1):
        arrays[f"conv_dw_{i}.depthwise_kernel"] = rng.normal(0, 0.4, (3, 3, before, 1))
        norm(f"conv_dw_{i}", before)
        arrays[f"conv_pw_{i}.kernel"] = rng.normal(0, (2 / before) ** 0.5, (1, 1, before, after))
        norm(f"conv_pw_{i}", after)
    return {name: array.astype(np.float32) for name, array in arrays.items()}
