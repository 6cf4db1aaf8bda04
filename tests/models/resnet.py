"""Random weights of a small ResNet, for tests."""

import numpy as np


def resnet_arrays(rng):
    """Random arrays by torchvision's names: a basic block in each stage."""
    arrays = {}

    def conv(name, norm, before, after, window):
        scale = (2 / (window * window * before)) ** 0.5
        arrays[f"{name}.weight"] = rng.normal(0, scale, (after, before, window, window))
        arrays[f"{norm}.weight"] = rng.uniform(0.5, 1.5, after)
        arrays[f"{norm}.bias"] = rng.normal(0, 0.2, after)
        arrays[f"{norm}.running_mean"] = rng.normal(0, 0.1, after)
        arrays[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, after)

    conv("conv1", "bn1", 3, 64, 7)
    before = 64
    for stage in range(1, 5):
        block, width = f"layer{stage}.0", 32 * 2**stage
        conv(f"{block}.conv1", f"{block}.bn1", before, width, 3)
        conv(f"{block}.conv2", f"{block}.bn2", width, width, 3)
        if stage > 1:
            conv(f"{block}.downsample.0", f"{block}.downsample.1", before, width, 1)
        before = width
    return {name: array.astype(np.float32) for name, array in arrays.items()}
