"""Arrays in npz files: their layout, their dtypes, and labels of every kind."""

import json

import numpy as np
import pytest

from jaxclust.cli import main
from jaxclust.core.errors import InputError
from jaxclust.data import catalogue, npz

RNG = np.random.default_rng(0)


def load(tmp_path, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return catalogue.load(f"npz:{tmp_path}/x.npz", tmp_path)


@pytest.mark.parametrize(
    "shape", [(5, 3, 32, 32), (5, 1, 28, 28), (5, 4, 16, 24), (5, 3, 5, 5), (5, 2, 9, 7)]
)
def test_channels_first_are_refused_with_the_cure(tmp_path, shape):
    with pytest.raises(InputError, match=r"channels? first.*images\.transpose\(0, 2, 3, 1\)"):
        load(tmp_path, images=np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "shape", [(5, 32, 32, 3), (5, 3, 32, 3), (5, 1, 9, 1), (5, 8, 8, 10), (5, 3, 3, 3), (5, 3, 9)]
)
def test_channels_last_are_not(tmp_path, shape):
    found = load(tmp_path, images=np.zeros(shape, np.uint8))
    assert found.images.shape == (shape if len(shape) == 4 else (*shape, 1))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_integers_of_eight_bits_are_the_bytes(tmp_path, dtype):
    top = 127 if dtype == "int8" else 255
    images = RNG.integers(0, top + 1, (5, 4, 4, 3))
    found = load(tmp_path, images=images.astype(dtype))
    assert found.images.dtype == np.uint8
    np.testing.assert_array_equal(found.images, images)
    assert found.ranges == {dtype: (0, 255)}


@pytest.mark.parametrize(
    ("dtype", "low", "high", "limits"),
    [
        (np.uint16, 0, 65535, (0, 65535)),
        (np.uint16, 0, 4095, (0, 4095)),
        (np.int16, -1024, 3071, (-4096, 4095)),
        (np.int8, -128, 127, (-128, 127)),
        (np.int64, 0, 10**12, (0, 2**40 - 1)),
        (np.uint64, 0, 2**63, (0, 2**64 - 1)),
    ],
)
def test_wider_integers_have_one_range(tmp_path, dtype, low, high, limits, monkeypatch):
    images = np.linspace(low, high, 4 * 100, dtype=np.float64).astype(dtype).reshape(4, 10, 10, 1)
    found = load(tmp_path, images=images)
    (pair,) = found.ranges.values()
    np.testing.assert_allclose(pair, limits)
    expected = np.round((images.astype(float) - pair[0]) * 255 / (pair[1] - pair[0]))
    assert np.abs(found.images - expected).max() <= 1
    monkeypatch.setattr(npz, "_BLOCK", 300)
    np.testing.assert_array_equal(load(tmp_path, images=images).images, found.images)


def test_masks_are_black_and_white(tmp_path):
    images = RNG.random((5, 4, 4)) > 0.5
    np.testing.assert_array_equal(load(tmp_path, images=images).images[..., 0], 255 * images)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_stay_floats(tmp_path, dtype):
    images = RNG.random((5, 4, 4, 1)).astype(dtype)
    found = load(tmp_path, images=images)
    np.testing.assert_array_equal(found.images, images.astype(np.float32))
    assert found.ranges == {}


IMAGES = np.zeros((4, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("labels", "numbers", "names", "classes"),
    [
        ([3, 1, -1, 3], [3, 1, -1, 3], (), 2),
        ([3, 1, -7, 3], [3, 1, -1, 3], (), 2),
        (np.array([0, 1, 2, 1], np.uint8), [0, 1, 2, 1], (), 3),
        (np.array([True, False, True, True]), [1, 0, 1, 1], (), 2),
        ([0.0, 2.0, 1.0, 2.0], [0, 2, 1, 2], (), 3),
        ([0.0, np.nan, -1.0, 2.0], [0, -1, -1, 2], (), 2),
        (["dog", "cat", "dog", ""], [1, 0, 1, -1], ("cat", "dog"), 2),
        ([b"dog", b"cat", b"dog", b"ape"], [2, 1, 2, 0], ("ape", "cat", "dog"), 3),
        (["é", "-1", "z", "é"], [1, -1, 0, 1], ("z", "é"), 2),
        ([[1], [0], [1], [2]], [1, 0, 1, 2], (), 3),
    ],
)
def test_labels_of_every_kind(tmp_path, labels, numbers, names, classes):
    found = load(tmp_path, images=IMAGES, labels=np.asarray(labels))
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == numbers
    assert (found.class_names, found.n_classes) == (names, classes)


@pytest.mark.parametrize("labels", [[-1, -1, -1, -1], ["", "", "", ""], [np.nan] * 4])
def test_no_known_label_is_none(tmp_path, labels):
    found = load(tmp_path, images=IMAGES, labels=np.asarray(labels))
    assert (found.labels, found.n_classes) == (None, None)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(4), r"labels\.argmax\(1\)"),
        (np.zeros(3, int), "each of the 4 images"),
        (np.array([0, 0.5, 1, 2]), "whole number"),
        (np.array([0, np.inf, 1, 2]), "whole number"),
        (np.array([0, 2**64 - 1, 1, 2], np.uint64), "whole number"),
        (np.zeros(4, complex), "whole number"),
        (np.zeros(4, "M8[s]"), "whole number"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, images=IMAGES, labels=labels)


def test_unknown_labels_do_not_enter_a_run_s_scores(tmp_path):
    images = np.zeros((12, 4, 4), np.uint16)
    images[6:] = 4000 + RNG.integers(0, 90, (6, 4, 4))
    labels = np.array([-1, 0, 0, 0, 0, -1, -1, 1, 1, 1, 1, 1])
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    call = ["run", "--method=kmeans", f"--dataset=npz:{tmp_path}/x.npz", "--quiet", "--no-report"]
    assert main([*call, f"--out={tmp_path}/run"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["n_clusters"] == 2
    assert [round(summary[name], 6) for name in ("nmi", "ari", "acc")] == [1, 1, 1]
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["data"]["value_ranges"] == {"uint16": [0, 4095]}
    np.savez(tmp_path / "x.npz", images=images, labels=np.where(np.arange(12) < 1, 0, -1))
    call = [*call, "--n-clusters=2", "--limit=3", f"--out={tmp_path}/few"]
    assert main(call) == 0


def test_imbalance_leaves_unknown_ones_out(tmp_path):
    labels = np.array([-1, 0, 0, 0, 0, -1, 1, 1, 1, 1])
    np.savez(tmp_path / "x.npz", images=np.zeros((10, 2, 2), np.uint8), labels=labels)
    found = catalogue.load(f"npz:{tmp_path}/x.npz", tmp_path, imbalance=0.5)
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 1]
