"""Files of features, through their reader and the whole program."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from jaxclust.cli import main
from jaxclust.core.errors import InputError
from jaxclust.data import catalogue
from jaxclust.data.features import read_features, write_features
from jaxclust.data.image_set import ImageSet
from jaxclust.data.names import Names

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3))
IDS = ["a/1.jpg", "b", "ü", "4", "5", "6"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parquet(name, **columns):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra features)")
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), name)
    return Path(name)


def lists(x, width=None, kind="float32"):
    import pyarrow as pa

    value = getattr(pa, kind)()
    of = pa.list_(value) if width is None else pa.list_(value, width)
    return pa.array([list(row) for row in x], of)


def npz(name, **arrays):
    np.savez(name, **arrays)
    return Path(name)


def test_arrays_are_read_as_float32_with_their_rows_numbered():
    np.save("x.npy", X)
    found = read_features(Path("x.npy"))
    assert found.images.dtype == np.float32
    np.testing.assert_array_equal(found.images, X.astype(np.float32))
    assert list(found.ids) == list("012345")
    assert found.labels is None
    np.save("x.npy", np.arange(6, dtype=np.int16).reshape(3, 2))
    assert read_features(Path("x.npy")).images.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_names_and_labels_come_along():
    path = npz("x.npz", features=X, ids=np.array(IDS), labels=np.array([0, 1, 2, 0, 1, -1]))
    found = read_features(path)
    assert list(found.ids) == IDS
    assert found.labels.tolist() == [0, 1, 2, 0, 1, -1]
    assert found.n_classes == 3
    named = npz("y.npz", features=X, ids=np.arange(6), labels=np.array(list("bab") + [""] * 3))
    found = read_features(named)
    assert list(found.ids) == list("012345")
    assert found.labels.tolist() == [1, 0, 1, -1, -1, -1]
    assert found.class_names == ("a", "b")


@pytest.mark.parametrize("width", [None, 3])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_parquet_is_read_as_others_write_it(width, kind):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra features)")
    x = X.astype(kind)
    labels = ["x", None, "y", "x", "y", None]
    path = parquet("x.parquet", id=IDS, embedding=lists(x, width, kind), label=labels, more=IDS)
    found = read_features(path)
    np.testing.assert_array_equal(found.images, x.astype(np.float32))
    assert list(found.ids) == IDS
    assert found.labels.tolist() == [0, -1, 1, 0, 1, -1]
    # As pandas writes a categorical column.
    categories = pa.array(labels).dictionary_encode()
    path = parquet("z.parquet", id=IDS, embedding=lists(x, width, kind), label=categories)
    found = read_features(path)
    assert found.labels.tolist() == [0, -1, 1, 0, 1, -1]
    assert found.class_names == ("x", "y")
    numbered = parquet("y.parquet", id=[1, 2], embedding=lists(X[:2]), label=[3, None])
    found = read_features(numbered)
    assert list(found.ids) == ["1", "2"]
    assert found.labels.tolist() == [3, -1]


def test_an_id_in_two_rows_is_refused(capsys):
    npz("x.npz", features=X, ids=np.array([*IDS[:5], IDS[2]]))
    assert main(["run", "--method=kmeans", "--dataset=features:x.npz", "--n-clusters=2"]) == 2
    assert f"the id '{IDS[2]}' is in more than one row of x" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_what_is_written_is_read(kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra features)")
    labels = np.array([2, -1, 0, 1, 1, 0])
    # The last name is of bytes that are no UTF-8.
    ids = Names(["a/b.png", "ü", "", "x y", "5", b"caf\xe9".decode("utf-8", "surrogateescape")])
    path = Path(f"x.{kind}")
    path.write_text("replaced")
    found = ImageSet("x", X.astype(np.float32), labels, ids, 3)
    write_features(path, found, {"encoder": "e"})
    read = read_features(path)
    np.testing.assert_array_equal(read.images, found.images)
    assert read.labels.tolist() == labels.tolist()
    assert list(read.ids)[:5] == list(ids)[:5]
    assert read.ids[5] == ("caf\\udce9" if kind == "parquet" else ids[5])
    assert [p.name for p in Path().iterdir()] == [path.name]
    write_features(path, dataclasses.replace(found, labels=None), {})
    assert read_features(path).labels is None


def test_what_is_no_feature_is_refused():
    def message(path):
        with pytest.raises(InputError) as refused:
            read_features(Path(path))
        return str(refused.value)

    bad = X.copy()
    bad[4, 1] = np.nan
    assert "no such file" in message("none.npy")
    Path("x.txt").write_text("1 2")
    assert "not a file of features; give .npy, .npz or .parquet" in message("x.txt")
    Path("torn.npy").write_bytes(b"\x93NUMPY")
    assert "cannot be read as .npy" in message("torn.npy")
    np.save("objects.npy", np.array([[{}]]), allow_pickle=True)
    assert "cannot be read as .npy" in message("objects.npy")
    assert "no array `features` (it has x)" in message(npz("a.npz", x=X))
    assert "shape (6,)" in message(npz("b.npz", features=X[:, 0]))
    assert "give images as npz:PATH" in message(npz("c.npz", features=np.zeros((2, 4, 4, 1))))
    assert "shape (0, 3)" in message(npz("d.npz", features=X[:0]))
    assert "dtype complex128" in message(npz("e.npz", features=X + 0j))
    assert "NaN or Inf in 1 rows, first in row 4" in message(npz("f.npz", features=bad))
    assert "exceed float32's range" in message(npz("g.npz", features=X * 1e40))
    assert "one for each of 6" in message(npz("h.npz", features=X, ids=np.array(["a"])))
    assert "labels in i.npz" in message(npz("i.npz", features=X, labels=np.zeros(5)))


def test_parquet_that_holds_something_else_is_refused():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra features)")

    def message(**columns):
        with pytest.raises(InputError) as refused:
            read_features(parquet("x.parquet", **columns))
        return str(refused.value)

    two = lists(X[:2])
    assert "no column embedding (it has id)" in message(id=["a", "b"])
    assert "no column id" in message(embedding=two)
    assert "lists of numbers are expected" in message(id=["a", "b"], embedding=[1.0, 2.0])
    assert "differ in length" in message(id=["a", "b"], embedding=[[1.0], [1.0, 2.0]])
    assert "differ in length" in message(id=["a", "b"], embedding=[[1.0, 2.0, 3.0], [1.0]])
    assert "1 empty rows" in message(id=["a", "b"], embedding=[[1.0], None])
    assert "are missing in some rows" in message(id=["a", None], embedding=two)
    Path("x.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"cannot be read as \.parquet"):
        read_features(Path("x.parquet"))


def test_they_take_no_image_size():
    np.save("x.npy", X)
    with pytest.raises(InputError, match="holds features"):
        catalogue.load("features:x.npy", Path(), image_size=8)
    assert catalogue.load("features:x.npy", Path(), limit=2).images.shape == (2, 3)


@pytest.fixture
def blobs(tmp_path):
    """Three blobs of eight values in a file, named and labelled."""
    labels = np.repeat(np.arange(3), 20)
    features = 6 * np.eye(8)[labels] + RNG.normal(size=(60, 8))
    return npz("blobs.npz", features=features, ids=[f"p/{i}" for i in range(60)], labels=labels)


def rows_of(path):
    with Path(path).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", ["kmeans", "gmm", "dec"])
def test_a_run_on_features_has_all_that_one_on_images_has(method, blobs, capsys):
    arguments = ["run", f"--method={method}", "--dataset=features:blobs.npz", "--out=run"]
    if method == "dec":
        arguments += ["--pretrain-epochs=1", "--epochs=1", "--batch-size=20"]
    assert main([*arguments, "--quiet"]) == 0
    rows = rows_of("run/assignments.csv")
    assert [row["id"] for row in rows] == [f"p/{i}" for i in range(60)]
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["n_clusters"] == 3
    assert method == "dec" or summary["acc"] == 1
    # The page has a map and the clusters' names, and no images.
    page = Path("run/report.html").read_text("utf-8")
    assert "p/59" in page
    assert "data:image/webp" not in page
    with np.load("blobs.npz") as arrays:
        np.save("same.npy", arrays["features"])
        np.save("other.npy", arrays["features"][:, :5])
    capsys.readouterr()
    assert main(["predict", "run", "same.npy", "--out=labels.csv"]) == 0
    assert [row["cluster"] for row in rows_of("labels.csv")] == [row["cluster"] for row in rows]
    assert main(["predict", "run", "other.npy"]) == 2
    assert "the run used float32 features of shape (8,)" in capsys.readouterr().err
    assert main(["report", "run"]) == 0
    assert main(["export", "run", "--to=out"]) == 0
    assert not list(Path("out").glob("cluster-*"))
    assert Path("out/projector/features.tsv").read_text().count("\n") == 60
    capsys.readouterr()
    assert main([*arguments, "--quiet", "--resume"]) == 0
    assert rows_of("run/assignments.csv") == rows


@pytest.mark.parametrize("method", ["ccnn", "dac", "ics"])
def test_methods_of_images_say_that_they_take_none(method, blobs, capsys):
    assert main(["run", f"--method={method}", "--dataset=features:blobs.npz"]) == 2
    said = capsys.readouterr().err
    assert "needs images [n, h, w, c], not features [n, 8]" in said
    assert not Path("runs").exists()


def test_features_by_several_encoders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    ids = np.array([f"{i}.jpg" for i in range(90)])
    large, small = 100 * np.eye(3)[kinds], 0.01 * rng.normal(size=(90, 5))
    np.savez("a.npz", features=large + rng.normal(size=(90, 3)), ids=ids)
    np.savez("b.npz", features=small, ids=ids, labels=kinds)
    np.savez("c.npz", features=small, ids=ids[::-1])
    loaded = catalogue.load("features:a.npz,b.npz", Path())
    assert loaded.images.shape == (90, 8)
    assert loaded.spaces == (3, 5)
    assert loaded.labels.tolist() == kinds.tolist()
    lengths = [np.square(part).sum(axis=1).mean() for part in np.split(loaded.images, [3], axis=1)]
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    with pytest.raises(InputError, match="their ids must be the same, in the same order"):
        catalogue.load("features:a.npz,c.npz", Path())
    call = ["run", "--method=turtle", "--dataset=features:a.npz,b.npz", "--steps=200", "--quiet"]
    assert main([*call, "--learning-rate=0.01", "--out=run"]) == 0
    record = json.loads(Path("run/config.json").read_text())
    assert record["config"]["spaces"] == [3, 5]
    # Ten folds of a linear classifier find the three kinds again.
    assert json.loads(Path("run/summary.json").read_text())["cross_validated"] > 0.95
    assert record["source"] == f"features:{tmp_path / 'a.npz'},{tmp_path / 'b.npz'}"
    assert main([*call, "--learning-rate=0.01", "--out=run", "--resume"]) == 0
    # The page is made anew from another folder.
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["report", "../run"]) == 0
    out = ["predict", "../run", "features:../a.npz,../b.npz", "--out=labels.csv"]
    assert main(out) == 0, capsys.readouterr().err
    rows = list(csv.DictReader(Path("labels.csv").open()))  # noqa: SIM115
    ours = list(csv.DictReader(Path("../run/assignments.csv").open()))  # noqa: SIM115
    assert [row["cluster"] for row in rows] == [row["cluster"] for row in ours]
    # A few of them alone are scaled as all were.
    for name in "ab":
        arrays = dict(np.load(f"../{name}.npz"))
        np.savez(f"few_{name}.npz", **{key: value[:5] for key, value in arrays.items()})
    assert main(["predict", "../run", "few_a.npz,few_b.npz", "--out=few.csv"]) == 0
    few = list(csv.DictReader(Path("few.csv").open()))  # noqa: SIM115
    assert [row["confidence"] for row in few] == [row["confidence"] for row in rows[:5]]


def test_ids_of_any_bytes_are_names():
    np.savez("f.npz", features=X, ids=np.array([b"caf\xe9", b"b", b"c", b"d", b"e", b"f"]))
    assert read_features(Path("f.npz")).ids[0] == "caf\udce9"
    np.savez("f.npz", features=X, ids=np.array(["a\ud800", "b", "c", "d", "e", "f"]))
    with pytest.raises(InputError, match=r"the id 'a\\ud800' in f.npz is not text"):
        read_features(Path("f.npz"))
