"""Shards: patterns, tars as WebDataset lays them out, Parquet files of features."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from jaxclust.core.errors import InputError
from jaxclust.data import shards, webdataset
from jaxclust.data.feature_sets import read_several
from jaxclust.data.feature_shards import feature_blocks
from jaxclust.data.places import Reading

RNG = np.random.default_rng(0)


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_features(path, ids, features, **columns):
    lists = pa.array(list(map(list, features)), pa.list_(pa.float32()))
    parquet.write_table(pa.table({"id": ids, "embedding": lists, **columns}), path)


@pytest.mark.parametrize("absolute", [True, False])
def test_wildcards_name_what_is_there_and_ranges_what_should_be(tmp_path, monkeypatch, absolute):
    monkeypatch.chdir(tmp_path)
    for number in (0, 2, 10):
        (tmp_path / f"p-{number:02d}.tar").touch()
    (tmp_path / "other.txt").touch()
    before = f"{tmp_path}/" if absolute else ""
    found = shards.listed(f"{before}p-*.tar")
    assert [one.name for one in found] == ["p-00", "p-02", "p-10"]
    assert found[0].where == f"{before}p-00.tar"
    ranged = shards.listed(before + "p-{00..03}.tar")
    assert [one.name for one in ranged] == ["p-00", "p-01", "p-02", "p-03"]
    both = shards.listed("{1..2}/{08..10}.tar".replace("/", "-"))
    assert [one.where for one in both][:4] == ["1-08.tar", "1-09.tar", "1-10.tar", "2-08.tar"]


def test_a_range_in_a_folder_with_brackets(tmp_path):
    (tmp_path / "set [a]").mkdir()
    (tmp_path / "set [a]" / "0.tar").touch()
    found = shards.listed(str(tmp_path / "set [a]") + "/{0..1}.tar")
    assert [one.name for one in found] == ["0", "1"]


def test_what_patterns_are_refused(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.tar").touch()
    for pattern, said in (
        (f"{tmp_path}/*.parquet", "no shards match"),
        (f"{tmp_path}/*/0.tar", "named 0"),
        ("x-{5..2}.tar", "empty"),
        ("nosuch://x/*.tar", "cannot be opened"),
    ):
        with pytest.raises(InputError, match=said):
            shards.listed(pattern)


def test_a_folder_that_is_there_by_a_pattern_s_name_is_no_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shards.is_pattern("holiday [1]")
    (tmp_path / "holiday [1]").mkdir()
    assert not shards.is_pattern("holiday [1]")
    assert not shards.is_pattern("folder:holiday [2]")
    assert shards.is_pattern("s3://bucket/one.tar")


def test_urls_are_read_and_written_like_paths():
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe("/set/b.bin", b"bb")
    files.pipe("/set/a.bin", b"aaa")
    found = shards.listed("memory://set/*.bin")
    assert [one.name for one in found] == ["a", "b"]
    with shards.local(found[0].where) as path:
        assert path.read_bytes() == b"aaa"
        assert path.name == "a.bin"
    assert not path.exists()
    shards.make_folder("memory://out")
    target = shards.joined("memory://out/", "c.bin")
    assert not shards.there(target)
    shards.write(target, lambda new: new.write_bytes(b"ccc"))
    assert shards.there(target)
    with shards.opened(target) as file:
        assert file.read() == b"ccc"
    with pytest.raises(OSError, match="gone"), shards.local("memory://set/gone.bin"):
        pass


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def fail(new):
        new.write_bytes(b"half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        shards.write(str(tmp_path / "x.bin"), fail)
    assert list(tmp_path.iterdir()) == []


def test_samples_of_a_tar(tmp_path):
    images = RNG.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    write_tar(
        tmp_path / "s.tar",
        {
            "b/2.png": png(images[2]),
            "b/2.cls": b"7\n",
            "b/1.json": json.dumps({"url": "x"}).encode(),
            "b/1.png": png(images[1]),
            "b/1.seg.png": png(images[3]),
            "a.0.png": png(images[0]),
            "a.png": png(images[0]),
            "c.png": b"not an image",
            "d.txt": b"words",
        },
    )
    shard = webdataset.read_shard(tmp_path / "s.tar")
    assert list(shard.keys) == ["a", "b/1", "b/2", "c"]
    assert [name for name, _ in shard.skipped] == ["a.0.png", "b/1.seg.png"]
    (part,) = webdataset.samples(shard, Reading(5), 3)
    assert part.ids == ["a", "b/1", "b/2"]
    np.testing.assert_array_equal(part.images[0], images[0][:, :5])
    np.testing.assert_array_equal(part.images[2], images[2][:, :5])
    assert part.labels.tolist() == [-1, -1, 7]
    assert part.metadata == [None, '{"url": "x"}', None]
    assert [name for name, _ in part.skipped] == ["c"]


def test_samples_come_in_blocks_that_change_nothing(tmp_path, monkeypatch):
    images = RNG.integers(0, 256, (11, 4, 4, 3), dtype=np.uint8)
    write_tar(tmp_path / "s.tar", {f"{i:02d}.png": png(image) for i, image in enumerate(images)})
    monkeypatch.setattr(webdataset, "_AT_ONCE", 4)
    parts = list(webdataset.samples(webdataset.read_shard(tmp_path / "s.tar"), Reading(4), 3))
    assert [len(part.ids) for part in parts] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), images)


def test_a_block_of_unreadable_images_costs_no_other(tmp_path, monkeypatch):
    """Only a shard of which more than half is unreadable is refused."""
    monkeypatch.setattr(webdataset, "_AT_ONCE", 4)
    good = {f"{i}.png": png(np.full((4, 4), i, np.uint8)) for i in range(8)}
    write_tar(tmp_path / "s.tar", {**good, "8.png": b"junk", "8.cls": b"9" * 30})
    parts = list(webdataset.samples(webdataset.read_shard(tmp_path / "s.tar"), Reading(4), 3))
    assert [part.ids for part in parts] == [["0", "1", "2", "3"], ["4", "5", "6", "7"], []]
    assert [name for name, _ in parts[2].skipped] == ["8"]
    write_tar(tmp_path / "t.tar", {"0.png": good["0.png"], "1.png": b"junk", "2.png": b"junk"})
    with pytest.raises(InputError, match="2 of the 3 images"):
        list(webdataset.samples(webdataset.read_shard(tmp_path / "t.tar"), Reading(4), 3))


def test_a_class_too_large_for_a_number_is_unknown(tmp_path):
    write_tar(tmp_path / "s.tar", {"0.png": png(np.zeros((4, 4), np.uint8)), "0.cls": b"9" * 30})
    (part,) = webdataset.samples(webdataset.read_shard(tmp_path / "s.tar"), Reading(4), 3)
    assert part.labels.tolist() == [-1]


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_a_damaged_tar_is_refused(tmp_path, content):
    (tmp_path / "s.tar").write_bytes(content)
    with pytest.raises(InputError):
        webdataset.read_shard(tmp_path / "s.tar")


def test_features_come_in_blocks(tmp_path):
    features = RNG.normal(size=(10, 3)).astype(np.float32)
    write_features(tmp_path / "f.parquet", list(range(10)), features)
    blocks = list(feature_blocks(tmp_path / "f.parquet", 4))
    assert [len(block) for block in blocks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), features)
    parquet.write_table(pa.table({"id": [1]}), tmp_path / "g.parquet")
    with pytest.raises(InputError, match="embedding"):
        next(feature_blocks(tmp_path / "g.parquet", 4))


def test_a_pattern_of_features_is_one_set(tmp_path):
    features = RNG.normal(size=(6, 3)).astype(np.float32)
    for i in range(3):
        rows = slice(2 * i, 2 * i + 2)
        ids = [f"x{j}" for j in range(6)][rows]
        labels = [0, 1, 2, 0, 1, 2][rows]
        write_features(tmp_path / f"p{i}.parquet", ids, features[rows], label=labels)
    found = read_several(f"{tmp_path}/p*.parquet")
    np.testing.assert_array_equal(found.images, features)
    assert list(found.ids) == [f"x{j}" for j in range(6)]
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.n_classes == 3
    with pytest.raises(InputError, match=r"p3\.parquet cannot be read|no such file"):
        read_several(str(tmp_path) + "/p{0..3}.parquet")
    write_features(tmp_path / "p3.parquet", ["y"], np.ones((1, 4)), label=[0])
    with pytest.raises(InputError, match="differ"):
        read_several(f"{tmp_path}/p*.parquet")


def test_names_of_classes_are_numbered_over_all_shards(tmp_path):
    for i, labels in enumerate((["cat", "dog"], ["cow", None])):
        ids = [f"{i}a", f"{i}b"]
        write_features(tmp_path / f"p{i}.parquet", ids, np.ones((2, 3)), label=labels)
    write_features(tmp_path / "p2.parquet", ["c"], np.ones((1, 3)))
    found = read_several(f"{tmp_path}/p*.parquet")
    assert found.class_names == ("cat", "cow", "dog")
    assert found.labels.tolist() == [0, 2, 1, -1, -1]
    assert found.n_classes == 3
    write_features(tmp_path / "p3.parquet", ["0b"], np.ones((1, 3)))
    with pytest.raises(InputError, match="the id '0b' is in more than one row"):
        read_several(f"{tmp_path}/p*.parquet")
