import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxclust.core.errors import InputError
from jaxclust.data import catalogue
from jaxclust.images import normalisation
from tests.data import prepared_set


def picture(path, size=(8, 6), mode="RGB", value=100, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in {"L", "I;16"} else (value,) * len(mode)).save(
        path, **options
    )


def load(name, folder, **options):
    return catalogue.load(name, folder, **options)


def test_digits_are_scikit_learns(tmp_path):
    from sklearn.datasets import load_digits

    loaded = load("digits", tmp_path)
    assert loaded.images.shape == (1797, 8, 8, 1)
    assert loaded.images.dtype == np.uint8
    np.testing.assert_allclose(loaded.images[..., 0] / 255 * 16, load_digits().images, atol=0.04)
    np.testing.assert_array_equal(loaded.labels, load_digits().target)


def test_npz_with_and_without_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1, 0, 5, 1]))
    np.savez(tmp_path / "b.npz", images=images[..., 0] / 255)
    a, b = load(f"npz:{tmp_path}/a.npz", tmp_path), load(f"npz:{tmp_path}/b.npz", tmp_path)
    np.testing.assert_array_equal(a.images, images)
    assert a.n_classes == 3
    assert b.labels is None
    assert b.n_classes is None
    assert b.images.shape == (5, 4, 4, 1)
    assert b.images.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 4))}, "shape"),
        ({"images": np.zeros((0, 4, 4))}, "shape"),
        ({"images": np.zeros((2, 4, 4), complex)}, "dtype"),
        ({"images": np.full((2, 4, 4), np.nan)}, "NaN"),
        ({"images": np.full((2, 4, 4), np.inf)}, "NaN or Inf"),
        ({"images": np.full((2, 4, 4), 1e300)}, "float32"),
        ({"pictures": np.zeros((2, 4, 4))}, "no array `images`"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.zeros(3, int)}, "labels"),
        ({"images": np.zeros((2, 4, 4)), "labels": np.array([0, 0.5])}, "labels"),
        ({"images": np.array([{}, {}])}, "cannot be read"),
    ],
)
def test_bad_npz_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load(f"npz:{tmp_path}/x.npz", tmp_path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_never_leave_a_traceback(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "x.npz").write_bytes(content)
    (folder / "x.png").write_bytes(content)
    for name in (f"npz:{folder}/x.npz", f"folder:{folder}"):
        with pytest.raises(InputError):
            load(name, folder)


def test_folder_of_mixed_kinds(tmp_path):
    picture(tmp_path / "b" / "grey.png", mode="L")
    picture(tmp_path / "b" / "wide.webp", size=(20, 10))
    picture(tmp_path / "a" / "tall.JPG", size=(10, 30))
    picture(tmp_path / "a" / "alpha.png", mode="RGBA", value=0)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    loaded = load(f"folder:{tmp_path}", tmp_path, image_size=8, labels_from_folders=True)
    assert loaded.ids == ("a/alpha.png", "a/tall.JPG", "b/grey.png", "b/wide.webp")
    assert loaded.images.shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(loaded.labels, [0, 0, 1, 1])
    assert (loaded.images[0] == 255).all(), "transparent places look white"
    assert abs(int(loaded.images[1].mean()) - 100) <= 2
    assert (loaded.images[2] == 100).all()


def test_a_folder_around_all_classes_is_passed_over(tmp_path):
    for name in ("set/cat/x/0.png", "set/dog/0.png", "set/dog/1.png"):
        picture(tmp_path / name)
    loaded = load(f"folder:{tmp_path}", tmp_path, labels_from_folders=True)
    assert loaded.labels.tolist() == [0, 1, 1]
    assert loaded.class_names == ("cat", "dog")
    assert loaded.n_classes == 2
    assert load(f"folder:{tmp_path}", tmp_path).n_classes is None
    some = loaded.take(np.array([2, 0]))
    assert [place.path.name for place in some.places] == ["1.png", "0.png"]
    assert some.places[1].content() == (tmp_path / "set/cat/x/0.png").read_bytes()


def test_grey_folder_has_one_channel_and_wide_greys_are_scaled(tmp_path):
    picture(tmp_path / "a.png", mode="L", size=(4, 4))
    deep = np.full((4, 4), 51400, np.uint16)
    Image.fromarray(deep).save(tmp_path / "b.png")
    loaded = load(f"folder:{tmp_path}", tmp_path)
    assert loaded.images.shape == (2, 4, 4, 1)
    assert (loaded.images[1] == 200).all()
    assert loaded.labels is None


def test_exif_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "turned.jpg", size=(8, 4), exif=exif)
    assert load(f"folder:{tmp_path}", tmp_path).images.shape == (1, 8, 4, 3)


def test_corrupt_files_are_skipped_and_named(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:900])
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    loaded = load(f"folder:{tmp_path}", tmp_path)
    assert len(loaded.ids) == 4
    assert [entry.file for entry in loaded.skipped] == ["cut.png", "junk.jpg"]
    for i in range(3, 10):
        (tmp_path / f"junk{i}.jpg").write_bytes(b"junk")
    with pytest.raises(InputError, match="more than half"):
        load(f"folder:{tmp_path}", tmp_path)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load(f"folder:{tmp_path}/nowhere", tmp_path)
    with pytest.raises(InputError, match="no image"):
        load(f"folder:{tmp_path}", tmp_path)
    (tmp_path / "junk.png").write_bytes(b"junk")
    with pytest.raises(InputError, match="none of the 1 images"):
        load(f"folder:{tmp_path}", tmp_path)
    picture(tmp_path / "a.png", size=(8, 8))
    picture(tmp_path / "b.png", size=(9, 8))
    with pytest.raises(InputError, match="give image_size"):
        load(f"folder:{tmp_path}", tmp_path)
    with pytest.raises(InputError, match="sub-folder"):
        load(f"folder:{tmp_path}", tmp_path, image_size=8, labels_from_folders=True)
    with pytest.raises(InputError, match="more pixels than is safe") as refused:
        load(f"folder:{tmp_path}", tmp_path, image_size=8, max_megapixels=5e-5)
    assert refused.value.settings == ("max_megapixels",)


def test_unknown_and_missing_sets(tmp_path):
    with pytest.raises(InputError, match="did you mean mnist"):
        load("mnits", tmp_path)
    with pytest.raises(InputError, match=r"usps\.npz is needed"):
        load("usps", tmp_path)
    with pytest.raises(InputError, match=r"mnist/3\.0\.1 is needed"):
        load("mnist_test", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load("npz:nowhere.npz", tmp_path)


@pytest.mark.parametrize(("name", "shape"), [("frgc", (32, 32, 3)), ("ytf", (55, 55, 3))])
def test_face_sets_from_local_files(tmp_path, name, shape):
    with pytest.raises(InputError, match=rf"{name}\.npz is needed; an npz file with arrays images"):
        load(name, tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), dtype=np.uint8)
    np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(6))
    loaded = load(name, tmp_path)
    np.testing.assert_array_equal(loaded.images, images)
    assert loaded.n_classes == {"frgc": 20, "ytf": 41}[name]
    np.savez(tmp_path / f"{name}.npz", images=images[:, 1:], labels=np.arange(6))
    with pytest.raises(InputError, match=rf"have shape .*, those of {name} .*; give npz:"):
        load(name, tmp_path)


def test_prepared_sets_from_one_file_each(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "mnist_test.npz", images=images, labels=np.arange(6))
    loaded = load("mnist_test", tmp_path)
    np.testing.assert_array_equal(loaded.images, images)
    assert (loaded.name, loaded.n_classes) == ("mnist_test", 10)
    with pytest.raises(InputError, match=r"or put mnist\.npz with arrays images and labels"):
        load("mnist", tmp_path)


def test_limit_spreads_over_the_set(tmp_path):
    loaded = load("digits", tmp_path, limit=100)
    rows = [int(i) for i in loaded.ids]
    assert len(rows) == 100
    assert rows == sorted(set(rows))
    assert rows[0] == 0
    assert rows[-1] > 1770
    whole = load("digits", tmp_path)
    np.testing.assert_array_equal(loaded.images, whole.images[rows])
    np.testing.assert_array_equal(loaded.labels, whole.labels[rows])
    with pytest.raises(InputError, match="limit must"):
        load("digits", tmp_path, limit=0)


def test_imbalance_retains_linearly(tmp_path):
    whole = np.bincount(load("digits", tmp_path).labels)
    kept = np.bincount(load("digits", tmp_path, imbalance=0.1).labels)
    np.testing.assert_allclose(kept / whole, np.linspace(0.1, 1, 10), atol=0.004)
    with pytest.raises(InputError, match="imbalance must"):
        load("digits", tmp_path, imbalance=0.0)


def test_image_size_applies_to_arrays_too(tmp_path):
    assert load("digits", tmp_path, image_size=16, limit=5).images.shape == (5, 16, 16, 1)


def test_normalisation_is_zero_mean_unit_variance():
    images = np.random.default_rng(0).integers(0, 200, (50, 4, 4, 3)).astype(np.uint8)
    images[..., 2] = 7
    out = np.asarray(normalisation.normalise(images, normalisation.measure(images)))
    np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=(0, 1, 2)), [1, 1, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "n", "shape"), [("usps", 9298, (16, 16, 1)), ("cmu_pie", 2856, (32, 32, 1))]
)
def test_local_sets(data_dir, name, n, shape):
    loaded = load(name, data_dir)
    assert loaded.images.shape == (n, *shape)
    assert len(np.unique(loaded.labels)) == loaded.n_classes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder as tensorflow-datasets prepares it: two splits of one-digit pictures."""
    pytest.importorskip("array_record")
    return fake_prepared(tmp_path_factory.mktemp("prepared"))


def fake_prepared(root):
    def encoded(split, i):
        content = io.BytesIO()
        Image.new("L", (28, 28), 10 * i + (split == "test")).save(content, "PNG")
        return {"image": content.getvalue(), "label": i}

    splits = {
        split: [encoded(split, i) for i in range(count)]
        for split, count in (("train", 6), ("test", 4))
    }
    prepared_set.write(root, "mnist", "3.0.1", splits, shape=(28, 28, 1), classes=10)
    return root


def test_prepared_sets_are_read_without_tensorflow(prepared, tmp_path, monkeypatch):
    import sys

    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path))
    both = load("mnist", prepared)
    assert both.images.shape == (10, 28, 28, 1)
    assert both.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 1, 11, 21, 31]
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert load("mnist_test", prepared).images[:, 0, 0, 0].tolist() == [1, 11, 21, 31]
    assert "tensorflow" not in sys.modules
    # The second time from the cache, which a damaged cache file does not break.
    cached = sorted(tmp_path.glob("*.npz"))
    assert len(cached) == 2
    cached[0].write_bytes(b"junk")
    np.testing.assert_array_equal(load("mnist", prepared).images, both.images)


def test_damaged_prepared_sets_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("array_record")
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path / "cache"))
    root = fake_prepared(tmp_path)
    for file in root.rglob("*.array_record*"):
        file.write_bytes(b"junk" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        load("mnist", root)


def test_real_mnist(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path))
    loaded = load("mnist_test", data_dir)
    assert loaded.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(loaded.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
