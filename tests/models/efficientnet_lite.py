"""EfficientNet-Lite read a second time, in NumPy, from its published table."""

import math

import numpy as np

# (blocks, window, stride, expansion, channels in, channels out) of EfficientNet-Lite0
TABLE = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
# The stages of EfficientNet-Lite2, whose width is 1.1 and depth 1.2 of that.
LITE2 = (
    (1, 3, 1, 1, 32, 16),
    (3, 3, 2, 6, 16, 24),
    (3, 5, 2, 6, 24, 48),
    (4, 3, 2, 6, 48, 88),
    (4, 5, 1, 6, 88, 120),
    (5, 5, 2, 6, 120, 208),
    (1, 3, 1, 6, 208, 352),
)


def blocks(table):
    """(window, stride, expansion, channels in, channels out) of every block."""
    for count, window, stride, expansion, before, after in table:
        yield window, stride, expansion, before, after
        for _ in range(count - 1):
            yield window, 1, expansion, after, after


def arrays(table, rng):
    """Random arrays by the PyTorch package's names."""
    found = {}

    def conv(name, shape):
        found[f"{name}.weight"] = rng.normal(0, math.prod(shape[1:]) ** -0.5, shape)

    def norm(name, channels):
        found[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels)
        found[f"{name}.bias"] = rng.normal(0, 0.3, channels)
        found[f"{name}.running_mean"] = rng.normal(0, 0.1, channels)
        found[f"{name}.running_var"] = rng.uniform(0.5, 1.5, channels)
        found[f"{name}.num_batches_tracked"] = np.array(0)

    conv("_conv_stem", (32, 3, 3, 3))
    norm("_bn0", 32)
    for i, (window, _, expansion, before, after) in enumerate(blocks(table)):
        wide, name = expansion * before, f"_blocks.{i}"
        if expansion != 1:
            conv(f"{name}._expand_conv", (wide, before, 1, 1))
            norm(f"{name}._bn0", wide)
        conv(f"{name}._depthwise_conv", (wide, 1, window, window))
        norm(f"{name}._bn1", wide)
        conv(f"{name}._project_conv", (after, wide, 1, 1))
        norm(f"{name}._bn2", after)
    conv("_conv_head", (1280, after, 1, 1))
    norm("_bn1", 1280)
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


def convolved(x, kernel, stride, depthwise=False):
    """x[b, c, h, w] by kernel[o, c, i, j], padded as TensorFlow's SAME."""
    window = kernel.shape[2]
    sizes = [-(-n // stride) for n in x.shape[2:]]
    pads = [
        max(0, (out - 1) * stride + window - n) for out, n in zip(sizes, x.shape[2:], strict=True)
    ]
    x = np.pad(x, [(0, 0), (0, 0), *((pad // 2, pad - pad // 2) for pad in pads)])
    total = 0
    for i in range(window):
        for j in range(window):
            rows = slice(i, i + (sizes[0] - 1) * stride + 1, stride)
            columns = slice(j, j + (sizes[1] - 1) * stride + 1, stride)
            under = x[:, :, rows, columns]
            if depthwise:
                total = total + under * kernel[None, :, 0, i, j, None, None]
            else:
                total = total + np.einsum("bchw,oc->bohw", under, kernel[:, :, i, j], optimize=True)
    return total


def last_map(given, table, x):
    """Images [b, h, w, 3] -> [b, h', w', 1280]."""

    def normed(x, name):
        scale, bias, mean, var = (
            given[f"{name}.{kind}"].astype(np.float64)[None, :, None, None]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-3) * scale + bias

    def settled(x, name):
        return np.clip(normed(x, name), 0, 6)

    x = np.asarray(x, np.float64).transpose(0, 3, 1, 2)
    x = settled(convolved(x, given["_conv_stem.weight"], 2), "_bn0")
    for i, (_, stride, expansion, before, after) in enumerate(blocks(table)):
        name, y = f"_blocks.{i}", x
        if expansion != 1:
            y = settled(convolved(y, given[f"{name}._expand_conv.weight"], 1), f"{name}._bn0")
        y = convolved(y, given[f"{name}._depthwise_conv.weight"], stride, depthwise=True)
        y = settled(y, f"{name}._bn1")
        y = normed(convolved(y, given[f"{name}._project_conv.weight"], 1), f"{name}._bn2")
        x = x + y if stride == 1 and before == after else y
    x = settled(convolved(x, given["_conv_head.weight"], 1), "_bn1")
    return x.transpose(0, 2, 3, 1)
