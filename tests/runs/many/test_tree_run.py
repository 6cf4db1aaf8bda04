"""k-means of shards: against NumPy and scikit-learn, in two processes, killed and gone on with."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.cluster import KMeans

from jaxclust.cli import main
from jaxclust.clustering import row_blocks
from jaxclust.core import exchange
from jaxclust.runs.lock import locked
from jaxclust.runs.many import held_rows, tree_run, tree_seeding
from jaxclust.runs.many.held_rows import Held
from jaxclust.runs.many.row_file import RowFile
from jaxclust.runs.many.tree_growing import divided
from tests.data.test_shards import write_features
from tests.runs.test_sharded import free_address, together

RNG = np.random.default_rng(0)
BLOBS = 30
CENTRES = RNG.normal(size=(BLOBS, 6)).astype(np.float32) * 4
BLOB = RNG.integers(0, BLOBS, 3000)
ROWS = (CENTRES[BLOB] + RNG.normal(size=(3000, 6)) * 0.1).astype(np.float32)
HANG = 3600


@pytest.fixture(autouse=True)
def small_blocks(tmp_path, monkeypatch):
    """A folder with shards, and blocks of 1,024 rows, so that there are several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(held_rows, "_BLOCK_BYTES", 1)
    for shard, rows in enumerate(np.array_split(np.arange(3000), 4)):
        write_features(tmp_path / f"s-{shard}.parquet", [f"row {i}" for i in rows], ROWS[rows])


def kmeans(*arguments, out="out"):
    return main(["kmeans", "s-*.parquet", f"--out={out}", "--quiet", *arguments])


def summary(out="out"):
    return json.loads(Path(out, "summary.json").read_text())


def found(out="out"):
    """(ids, clusters, distances) of all assignments, in the order of the shards."""
    tables = [parquet.read_table(path) for path in sorted(Path(out, "assignments").iterdir())]
    return tuple(
        [value for table in tables for value in table[column].to_pylist()]
        for column in ("id", "cluster", "distance")
    )


def numpy_update(rows, centroids):
    """One of Lloyd's iterations, written as a loop in float64."""
    distances = np.square(rows[:, None].astype(np.float64) - centroids).sum(axis=2)
    nearest = distances.argmin(axis=1)
    moved = [
        rows[nearest == c].mean(axis=0) if (nearest == c).any() else old
        for c, old in enumerate(centroids)
    ]
    return np.asarray(moved), distances.min(axis=1).sum()


@pytest.mark.parametrize("k", [7, 40])
def test_one_update_is_numpy_s(k):
    first = ROWS[:k]
    np.save("first.npy", first)
    assert kmeans(f"--n-clusters={k}", "--centroids=first.npy", "--max-iterations=1") == 0
    expected, _ = numpy_update(ROWS, first)
    centroids = np.load("out/centroids.npy")
    assert centroids.dtype == np.float32
    np.testing.assert_allclose(centroids, expected, atol=1e-5)
    ids, clusters, distances = found()
    assert ids == [f"row {i}" for i in range(3000)]
    squared = np.square(ROWS[:, None] - centroids).sum(axis=2)
    np.testing.assert_array_equal(clusters, squared.argmin(axis=1))
    np.testing.assert_allclose(distances, np.sqrt(squared.min(axis=1)), atol=1e-3)
    assert summary()["inertia"] == pytest.approx(squared.min(axis=1).sum(), rel=1e-4)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_clear_groups_are_found_at_any_depth(levels):
    refine = [] if levels == 1 else ["--refine=20"]
    assert kmeans(f"--n-clusters={BLOBS}", f"--levels={levels}", *refine) == 0
    expected = min(
        KMeans(BLOBS, n_init=1, random_state=seed).fit(ROWS).inertia_ for seed in range(5)
    )
    told = summary()
    assert told["n_clusters"] == BLOBS
    assert told["n_rows"] == 3000
    # Within what scikit-learn's own seeds differ by: a pair of groups joined, another split.
    assert told["inertia"] <= 1.5 * expected + 0.02 * np.square(ROWS - ROWS.mean(axis=0)).sum()
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".rows")]


def held_of(tmp_path, starts=(0, 3000), order=None):
    file = RowFile(tmp_path / "x.rows", 6)
    order = np.arange(3000) if order is None else order
    file.append(ROWS[order])
    return Held(
        file, np.asarray([0], np.int32), np.asarray([0, 3000]), order, np.asarray(starts, np.int64)
    )


def radius():
    return float(np.linalg.norm(ROWS, axis=1).max())


def test_seeds_hit_clear_groups(tmp_path):
    """k-means|| starts in nearly every one of thirty groups; uniform draws hit about nineteen."""
    held = held_of(tmp_path)
    for seed in range(3):
        seeds = tree_seeding.seeds(held, np.asarray([BLOBS]), jax.random.key(seed), radius())
        hit = np.square(seeds[:, None] - CENTRES).sum(axis=2).argmin(axis=1)
        assert len(set(hit.tolist())) >= BLOBS - 3


def test_seeds_of_a_node_are_its_own_rows(tmp_path):
    order = np.argsort(BLOB < 10, kind="stable")
    cut = int((BLOB >= 10).sum())
    held = held_of(tmp_path, (0, cut, cut, 3000), order)
    seeds = tree_seeding.seeds(held, np.asarray([4, 0, 3]), jax.random.key(0), radius())
    rows = {row.tobytes() for row in ROWS[BLOB >= 10]}, {row.tobytes() for row in ROWS[BLOB < 10]}
    assert all(seed.tobytes() in rows[0] for seed in seeds[:4])
    assert all(seed.tobytes() in rows[1] for seed in seeds[4:])


def test_rows_regrouped_are_the_same_rows(tmp_path):
    held = held_of(tmp_path)
    grouped = held_rows.regrouped(held, BLOB.astype(np.int32), BLOBS, tmp_path / "y.rows")
    np.testing.assert_array_equal(grouped.file.read(0, 3000), ROWS[grouped.order])
    np.testing.assert_array_equal(BLOB[grouped.order], np.sort(BLOB))
    np.testing.assert_array_equal(np.diff(grouped.starts), np.bincount(BLOB))


def test_padding_is_nobody_s_nearest():
    centroids = row_blocks.far_away(ROWS[:5], 16, radius())
    nearest = np.square(ROWS[:, None] - centroids).sum(axis=2).argmin(axis=1)
    assert nearest.max() < 5


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.floats(0, 1))
def test_division_is_fair(sizes, share):
    sizes = np.asarray(sizes)
    if not sizes.sum():
        return
    nodes = int(np.count_nonzero(sizes))
    total = nodes + int(share * (sizes.sum() - nodes))
    parts = divided(sizes, total)
    assert parts.sum() == total
    assert (parts <= sizes).all()
    assert (parts >= np.minimum(sizes, 1)).all()


def test_missing_and_damaged_shards_are_listed_or_refused(tmp_path, capsys):
    Path("s-1.parquet").write_bytes(b"damaged")
    write_features(tmp_path / "s-2.parquet", ["x"], np.ones((1, 5)))
    pattern = ["kmeans", "s-{0..4}.parquet", "--n-clusters=5", "--quiet"]
    assert main([*pattern, "--out=strict", "--strict"]) == 2
    assert "s-1.parquet cannot be read" in capsys.readouterr().err
    assert main([*pattern, "--out=out"]) == 0
    with Path("out/skipped.csv").open() as file:
        assert [row["shard"] for row in csv.DictReader(file)] == [
            "s-1.parquet", "s-2.parquet", "s-4.parquet",
        ]  # fmt: skip
    ids, clusters, _ = found()
    assert ids == [f"row {i}" for i in [*range(750), *range(2250, 3000)]]
    assert len(set(clusters)) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n-clusters=0"], "--n-clusters must be at least 1"),
        (["--n-clusters=3001"], "3,001 clusters of 3,000 rows"),
        (["--n-clusters=5", "--levels=4"], "--levels must be 1, 2 or 3"),
        (["--n-clusters=5", "--tol=-1"], "must not be negative"),
        (["--n-clusters=5", "--centroids=no.npy"], "cannot be read"),
        (["--n-clusters=5", "--out=s3://x/y"], "a folder on a disk"),
        (["--n-clusters=5", "--levels=2", "--centroids=no.npy"], "one level"),
    ],
)
def test_what_is_refused(arguments, said, capsys):
    assert kmeans(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert kmeans("--n-clusters=5", out="full") == 2
    assert "not empty" in capsys.readouterr().err
    assert kmeans("--n-clusters=5") == 0
    assert kmeans("--n-clusters=6") == 2
    assert "another --n-clusters" in capsys.readouterr().err
    before = Path("out/centroids.npy").stat().st_mtime_ns
    assert kmeans("--n-clusters=5") == 0
    assert Path("out/centroids.npy").stat().st_mtime_ns == before
    write_features(tmp_path / "s-3.parquet", ["x"], np.ones((1, 6)))
    Path("out/summary.json").unlink()
    assert kmeans("--n-clusters=5") == 2
    assert "do not have the rows" in capsys.readouterr().err


def test_after_a_refusal_other_settings_are_taken():
    assert kmeans("--n-clusters=3001") == 2
    assert kmeans("--n-clusters=5") == 0


def test_a_full_disk_is_not_a_damaged_shard(monkeypatch, capsys):
    def full(self, start, rows):
        if start:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(RowFile, "write", full)
    assert kmeans("--n-clusters=5") == 1
    assert "disk is full" in capsys.readouterr().err


def test_runs_that_share_a_scratch_folder_have_folders_of_their_own(monkeypatch):
    seen = []
    usual = tree_run.ingested

    def noted(found, folder, strict, say):
        seen.append(folder)
        return usual(found, folder, strict, say)

    monkeypatch.setattr(tree_run, "ingested", noted)
    assert kmeans("--n-clusters=5", "--scratch=scratch", out="a") == 0
    assert kmeans("--n-clusters=5", "--scratch=scratch", out="b") == 0
    assert len(set(seen)) == 2
    assert list(Path("scratch").iterdir()) == []


def test_a_folder_that_another_run_writes_to_is_refused(capsys):
    with locked(Path("out")):
        assert kmeans("--n-clusters=5") == 2
    assert "is writing to" in capsys.readouterr().err


def test_features_of_one_value_and_an_empty_shard(tmp_path, monkeypatch):
    (tmp_path / "thin").mkdir()
    write_features(tmp_path / "thin" / "a.parquet", list(range(1500)), ROWS[:1500, :1])
    write_features(tmp_path / "thin" / "b.parquet", [], ROWS[:0, :1])
    assert main(["kmeans", "thin/*.parquet", "--n-clusters=5", "--out=out", "--quiet"]) == 0
    assert len(found()[0]) == 1500
    assert parquet.read_table("out/assignments/b.parquet").num_rows == 0
    assert summary()["skipped"] == []


@given(st.lists(st.lists(st.integers(0, 2**50), min_size=3, max_size=3), min_size=1, max_size=4))
def test_whole_numbers_are_added_exactly(rows):
    """As processes add them: each its limbs, in 32 bits."""
    added = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "_added", lambda limbs: added.append(limbs) or limbs)
        for row in rows:
            exchange.summed(np.asarray(row, np.int64))
        total = np.sum(added, axis=0, dtype=np.int32)
        patch.setattr(exchange, "_added", lambda limbs: total)
        found = exchange.summed(np.zeros(3, np.int64))
    np.testing.assert_array_equal(found, np.sum(np.asarray(rows, np.int64), axis=0))


def test_identical_rows_leave_clusters_empty(tmp_path):
    (tmp_path / "same").mkdir()
    write_features(tmp_path / "same" / "s.parquet", list(range(40)), np.ones((40, 3)))
    assert main(["kmeans", "same/*.parquet", "--n-clusters=3", "--out=out", "--quiet"]) == 0
    assert summary()["empty_clusters"] == 2
    assert np.isfinite(np.load("out/centroids.npy")).all()


def test_faiss_reads_the_centroids():
    faiss = pytest.importorskip("faiss")
    assert kmeans(f"--n-clusters={BLOBS}") == 0
    index = faiss.IndexFlatL2(6)
    index.add(np.load("out/centroids.npy"))
    _, nearest = index.search(ROWS, 1)
    assert np.mean(nearest[:, 0] == found()[1]) > 0.999


def content(out):
    """What a run wrote, but for times and memory."""
    files = [Path(out, "centroids.npy"), *sorted(Path(out, "assignments").iterdir())]
    told = {name: summary(out)[name] for name in ("inertia", "iterations", "levels")}
    return [path.read_bytes() for path in files], told


@pytest.mark.parametrize("after", [1, 3, 7])
def test_a_killed_run_goes_on_to_the_same_result(after, monkeypatch):
    """The process is lost right after the state was saved for the n-th time."""
    arguments = ["--n-clusters=20", "--levels=2", "--refine=3", "--tol=0", "--max-iterations=6"]
    assert kmeans(*arguments, out="whole") == 0
    monkeypatch.setattr(tree_run, "_SAVED_EVERY", 0.0)
    saved, left = tree_run._save, [after]

    class Killed(BaseException):
        pass

    def save(work, state):
        saved(work, state)
        left[0] -= 1
        if not left[0]:
            raise Killed

    monkeypatch.setattr(tree_run, "_save", save)
    with pytest.raises(Killed):
        kmeans(*arguments)
    monkeypatch.setattr(tree_run, "_save", saved)
    assert not Path("out/summary.json").exists()
    assert kmeans(*arguments) == 0
    assert content("out") == content("whole")


def test_two_processes_say_what_one_does(tmp_path, compilation_cache):
    arguments = ["kmeans", "s-*.parquet", "--n-clusters=40", "--levels=2", "--quiet"]
    together([*arguments, "--out=two"], compilation_cache, tmp_path)
    assert main([*arguments, "--out=one"]) == 0
    one, two = summary("one"), summary("two")
    assert len(two["peak_rss_mb"]) == 2
    assert two["inertia"] == pytest.approx(one["inertia"], rel=1e-3)
    np.testing.assert_allclose(
        np.load("two/centroids.npy"), np.load("one/centroids.npy"), atol=1e-4
    )
    assert found("one")[:2] == found("two")[:2]


@pytest.mark.skipif(
    "JAXCLUST_ALL_CHECKS" not in os.environ,
    reason="over a minute, and a run's lost process is tested: set JAXCLUST_ALL_CHECKS=1",
)
def test_a_lost_process_ends_the_other_and_the_command_goes_on(tmp_path, compilation_cache):
    rows = RNG.normal(size=(20_000, 6)).astype(np.float32)
    for shard in range(4):
        write_features(tmp_path / f"s-{shard}.parquet", list(range(5000)), rows[shard::4])
    arguments = ["kmeans", "s-*.parquet", "--n-clusters=300", "--tol=0", "--max-iterations=60"]
    options = ["--out=out", f"--coordinator={free_address()}", "--num-processes=2"]
    first, second = (
        subprocess.Popen(
            [sys.executable, "-m", "jaxclust", *arguments, *options, f"--process-id={i}"],
            env=compilation_cache,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    )
    assert first.stderr is not None
    for line in first.stderr:
        if "iteration 5:" in line:
            break
    os.kill(second.pid, signal.SIGKILL)
    began = time.monotonic()
    _, err = first.communicate(timeout=HANG)
    second.communicate()
    assert first.returncode != 0
    assert time.monotonic() - began < 120
    assert "task:1" in err.replace(" ", "") or "task/1" in err or "no longer answers" in err, err
    assert not (tmp_path / "out" / "summary.json").exists()
    together([*arguments, "--quiet", "--out=out"], compilation_cache, tmp_path)
    together([*arguments, "--quiet", "--out=whole"], compilation_cache, tmp_path)
    assert content("out") == content("whole")
