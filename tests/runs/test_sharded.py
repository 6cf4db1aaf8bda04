"""Shards in and out: `embed` and `predict` over patterns of tars and Parquet files."""

import csv
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from jaxclust.cli import main
from jaxclust.data import shards
from jaxclust.data.feature_shards import made
from jaxclust.models.encoders import frozen
from jaxclust.runs import sharded
from tests.data.test_shards import png, write_features, write_tar
from tests.runs.test_embedding import ENCODER

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
HANG = 3600


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(frozen, "load", lambda name, precision: ENCODER._replace(name=name))


def write_tars(folder, count=4):
    """IMAGES in `count` tars; those of the first have labels and metadata."""
    folder.mkdir(exist_ok=True)
    each = len(IMAGES) // count
    for shard in range(count):
        files = {}
        for i in range(shard * each, (shard + 1) * each):
            files[f"{i:03d}.png"] = png(IMAGES[i])
            if not shard:
                files |= {f"{i:03d}.cls": str(i % 3).encode(), f"{i:03d}.json": b'{"n": 1}'}
        write_tar(folder / f"s-{shard:02d}.tar", files)


def embed(source, out="out", *more):
    return main(["embed", source, "--encoder=means", f"--out={out}", *more])


def features(out="out"):
    """(ids, embeddings) of all shards in a folder."""
    tables = [parquet.read_table(path) for path in sorted(Path(out).glob("*.parquet"))]
    ids = [one for table in tables for one in table["id"].to_pylist()]
    rows = [row for table in tables for row in table["embedding"].to_pylist()]
    return ids, np.asarray(rows, np.float32)


EXPECTED = 2 * IMAGES.mean(axis=(1, 2))


def test_every_tar_becomes_a_parquet_file_with_the_same_ids(tmp_path, capsys):
    write_tars(tmp_path / "in")
    assert embed("in/*.tar") == 0
    assert "20 features by means in 4 shards in out" in capsys.readouterr().out
    ids, found = features()
    assert ids == [f"{i:03d}" for i in range(20)]
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-5)
    first = parquet.read_table("out/s-00.parquet")
    assert first["label"].to_pylist() == [0, 1, 2, 0, 1]
    assert first["json"].to_pylist() == ['{"n": 1}'] * 5
    assert "label" not in parquet.read_table("out/s-01.parquet").column_names
    assert not Path("out/skipped.csv").exists()


def test_a_repeated_command_does_what_is_left(tmp_path, capsys, monkeypatch):
    write_tars(tmp_path / "in")
    work = sharded._worked

    def killed(shard, target, how):
        if shard.name == "s-02":
            raise KeyboardInterrupt
        return work(shard, target, how)

    monkeypatch.setattr(sharded, "_worked", killed)
    assert embed("in/*.tar") == 130
    assert sorted(path.name for path in Path("out").iterdir()) == ["s-00.parquet", "s-01.parquet"]
    before = Path("out/s-00.parquet").stat().st_mtime_ns
    monkeypatch.setattr(sharded, "_worked", work)
    assert embed("in/*.tar") == 0
    assert "2 shards in out, 2 were there already" in capsys.readouterr().out
    assert Path("out/s-00.parquet").stat().st_mtime_ns == before
    np.testing.assert_allclose(features()[1], EXPECTED, rtol=1e-5)


def test_missing_and_damaged_shards_are_listed_or_refused(tmp_path, capsys):
    write_tars(tmp_path / "in")
    (tmp_path / "in" / "s-01.tar").unlink()
    (tmp_path / "in" / "s-02.tar").write_bytes(b"damaged" * 200)
    write_tar(tmp_path / "in" / "s-03.tar", {"a.png": png(IMAGES[0]), "b.png": png(IMAGES[1]),
                                             "c.png": b"broken"})  # fmt: skip
    pattern = "in/s-{00..03}.tar"
    assert embed(pattern, "strict", "--strict") == 2
    assert "s-01.tar cannot be read" in capsys.readouterr().err
    assert list(Path("strict").iterdir()) == []
    assert embed(pattern) == 0
    assert features()[0] == ["000", "001", "002", "003", "004", "a", "b"]
    with Path("out/skipped.csv").open() as file:
        listed = [(row["shard"], row["image"]) for row in csv.DictReader(file)]
    assert sorted(listed) == [
        ("in/s-01.tar", ""), ("in/s-02.tar", ""), ("in/s-03.tar", "c"),
    ]  # fmt: skip
    assert embed("in/s-{01..02}.tar", "none") == 1
    assert "none of 2 shards could be read" in capsys.readouterr().err


def test_what_was_skipped_is_listed_after_a_repeated_command_too(tmp_path):
    write_tars(tmp_path / "in", 2)
    write_tar(tmp_path / "in" / "s-02.tar", {"a.png": png(IMAGES[0]), "b.png": png(IMAGES[1]),
                                             "c.png": b"broken"})  # fmt: skip
    assert embed("in/s-{00..03}.tar") == 0
    (tmp_path / "in" / "s-03.tar").write_bytes((tmp_path / "in" / "s-01.tar").read_bytes())
    assert embed("in/s-{00..03}.tar") == 0
    with Path("out/skipped.csv").open() as file:
        assert [(row["shard"], row["image"]) for row in csv.DictReader(file)] == [
            ("in/s-02.tar", "c")
        ]
    (tmp_path / "out" / "s-02.parquet").unlink()
    assert embed("in/s-{00..01}.tar") == 0
    assert not Path("out/skipped.csv").exists()


def test_a_shard_that_was_left_half_written_is_written_again(tmp_path):
    write_tars(tmp_path / "in")
    assert embed("in/*.tar") == 0
    whole = Path("out/s-01.parquet").read_bytes()
    Path("out/s-01.parquet").write_bytes(whole[: len(whole) // 2])
    assert embed("in/*.tar") == 0
    np.testing.assert_allclose(features()[1], EXPECTED, rtol=1e-5)


def test_a_full_disk_is_not_a_damaged_shard(tmp_path, capsys, monkeypatch):
    write_tars(tmp_path / "in")

    def full(where, fill):
        raise OSError(28, "No space left on device", where)

    monkeypatch.setattr(shards, "write", full)
    assert embed("in/*.tar") == 1
    assert "disk is full" in capsys.readouterr().err


def test_another_encoder_s_folder_is_refused(tmp_path, capsys, monkeypatch):
    write_tars(tmp_path / "in")
    assert embed("in/*.tar") == 0
    other = ENCODER._replace(digest="other")
    monkeypatch.setattr(frozen, "load", lambda name, precision: other)
    assert embed("in/*.tar") == 2
    assert "was not made by this command" in capsys.readouterr().err


def test_urls_in_and_out(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    write_tars(tmp_path / "in")
    files = fsspec.filesystem("memory")
    for path in (tmp_path / "in").iterdir():
        files.pipe(f"/tars/{path.name}", path.read_bytes())
    assert embed("memory://tars/*.tar", "memory://features") == 0
    names = [Path(one).name for one in sorted(files.ls("/features", detail=False))]
    assert names == [f"s-{i:02d}.parquet" for i in range(4)]
    assert made("memory://features/s-00.parquet").mark.startswith("embed digest")
    assert embed("memory://tars/*.tar", "memory://features") == 0


# The tests' encoder is made of arrays, so it is imported after the processes have joined.
TOGETHER = """
import sys
from jaxclust.models.encoders import frozen
def load(name, precision):
    from tests.runs.test_embedding import ENCODER
    return ENCODER
frozen.load = load
from jaxclust.cli import script
script(sys.argv[1:])
"""


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def together(arguments, cache, tmp_path, count=2):
    root = Path(__file__).parents[2]
    options = [f"--coordinator={free_address()}", f"--num-processes={count}"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, *arguments, *options, f"--process-id={i}"],
            cwd=tmp_path,
            env={**cache, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    for process in started:
        _, err = process.communicate(timeout=HANG)
        assert process.returncode == 0, err[-2000:]


def test_processes_share_shards_and_the_images_of_a_folder(tmp_path, compilation_cache):
    write_tars(tmp_path / "in")
    common = ["--encoder=means", "--quiet"]
    together(["embed", "in/*.tar", "--out=out", *common], compilation_cache, tmp_path)
    ids, found = features(tmp_path / "out")
    assert ids == [f"{i:03d}" for i in range(20)]
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-5)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(IMAGES):
        (tmp_path / "pictures" / f"{i:03d}.png").write_bytes(png(image))
    together(["embed", "pictures", "--out=parts", *common], compilation_cache, tmp_path)
    names = [path.name for path in sorted((tmp_path / "parts").iterdir())]
    assert names == ["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"]
    ids, found = features(tmp_path / "parts")
    assert ids == [f"{i:03d}.png" for i in range(20)]
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-5)


def labels(out):
    tables = [parquet.read_table(path) for path in sorted(Path(out).glob("*.parquet"))]
    return [
        (one["id"], one["cluster"], float(f"{one['confidence']:.6g}"))
        for table in tables
        for one in table.to_pylist()
    ]


def expected_labels(file):
    with Path(file).open() as text:
        rows = list(csv.DictReader(text))
    return [(row["id"], int(row["cluster"]), float(row["confidence"])) for row in rows]


def test_labels_of_shards_are_those_of_the_whole(tmp_path):
    rows = RNG.normal(size=(90, 5)).astype(np.float32)
    ids = [f"row-{i}" for i in range(90)]
    write_features(tmp_path / "all.parquet", ids, rows)
    for i in range(3):
        part = slice(30 * i, 30 * i + 30)
        write_features(tmp_path / f"p-{i}.parquet", ids[part], rows[part])
    run = ["run", "--method=kmeans", "--dataset=features:p-*.parquet", "--n-clusters=3"]
    assert main([*run, "--quiet", "--no-report", "--out=run"]) == 0
    assert main(["predict", "run", "all.parquet", "--out=all.csv"]) == 0
    assert main(["predict", "run", "p-{0..2}.parquet", "--out=labels"]) == 0
    assert labels("labels") == expected_labels("all.csv")


@pytest.mark.parametrize("ids", [list(range(4)), [b"a", b"b", b"c", b"d"], ["a", None, "c", "d"]])
def test_labels_have_the_shard_s_own_ids(tmp_path, ids):
    rows = RNG.normal(size=(90, 5)).astype(np.float32)
    write_features(tmp_path / "all.parquet", list(range(90)), rows)
    (tmp_path / "in").mkdir()
    write_features(tmp_path / "in" / "p.parquet", ids, rows[:4])
    write_features(tmp_path / "in" / "q.parquet", ids[:0], rows[:0])
    run = ["run", "--method=kmeans", "--dataset=features:all.parquet", "--n-clusters=3"]
    assert main([*run, "--quiet", "--no-report", "--out=run"]) == 0
    assert main(["predict", "run", "in/*.parquet", "--out=labels", "--strict"]) == 0
    found = parquet.read_table("labels/p.parquet")
    assert found["id"].to_pylist() == ids
    assert (
        found.schema.field("id").type == parquet.read_table("in/p.parquet").schema.field("id").type
    )
    assert len(parquet.read_table("labels/q.parquet")) == 0


def test_labels_of_tars_are_those_of_their_images(tmp_path):
    write_tars(tmp_path / "in")
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(IMAGES):
        (tmp_path / "pictures" / f"{i:03d}.png").write_bytes(png(image))
    common = ["--n-clusters=3", "--quiet", "--no-report", "--dataset=folder:pictures"]
    for more in (["--image-size=4"], ["--encoder=means"]):
        out = f"run{len(more[0])}"
        assert main(["run", "--method=kmeans", *common, *more, f"--out={out}"]) == 0
        assert main(["predict", out, "pictures", f"--out={out}.csv"]) == 0
        assert main(["predict", out, "in/*.tar", f"--out={out}-labels"]) == 0
        whole = [
            (name.removesuffix(".png"), *rest) for name, *rest in expected_labels(f"{out}.csv")
        ]
        for (name, cluster, confidence), (same, label, other) in zip(
            labels(f"{out}-labels"), whole, strict=True
        ):
            assert (name, cluster) == (same, label)
            # So few images go through a smaller program.
            assert confidence == pytest.approx(other, rel=1e-5)


def test_what_predict_refuses(tmp_path, capsys):
    write_tars(tmp_path / "in")
    assert main(["predict", "run", "in/*.tar"]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["predict", "run", "in", "--num-processes=2", "--coordinator=localhost:1"]) == 2
    assert "one process labels" in capsys.readouterr().err
