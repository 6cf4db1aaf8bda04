"""Sets that are read when needed train to the same bits as those held in memory."""

import csv
import threading
import time
import weakref

import jax
import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.data.folder import read_folder
from jaxclust.data.streaming import Streamed
from jaxclust.images.normalisation import measure
from jaxclust.training import feed, loop, placement, starting
from jaxclust.training.prediction import predictor
from tests.methods import small
from tests.methods.test_dac import build as dac
from tests.trees import assert_same


class Asked:
    """An array that is read by rows, and remembers how many at most."""

    def __init__(self, images):
        self.images, self.most, self.times, self.rows = images, 0, 0, 0
        self.shape, self.dtype = images.shape, images.dtype

    def __getitem__(self, rows):
        found = self.images[rows]
        self.most, self.times = max(self.most, len(found)), self.times + 1
        self.rows += len(found)
        return found


def methods():
    # DAC sees the same draw for many steps in a row, and in several epochs.
    return {"ccnn": small.method(), "dac": dac(epochs=3)}


@pytest.mark.parametrize("name", ["ccnn", "dac"])
@pytest.mark.parametrize("block", [2500, 2**27])
def test_streaming_changes_no_bit(name, block, monkeypatch):
    method, n = methods()[name], 120 if name == "ccnn" else 50
    decoding, _ = small.images(n)
    held = small.data(n)
    monkeypatch.setattr(feed, "_BLOCK_BYTES", block)
    source = Asked(decoding)
    streamed = placement.put(source, measure(decoding))
    assert streamed.streamed and not held.streamed
    expected = loop.fit(method, held, seed=3).state
    state = loop.fit(method, streamed, seed=3).state
    assert_same(state, expected)
    one, other = (predictor(method, data)(state) for data in (held, streamed))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert source.most <= max(block // 64, 20, n)


def test_blocks_hold_what_they_may(monkeypatch):
    """Nothing but predictions, in their own blocks, asks for more rows than a block's."""
    decoding, _ = small.images(400)
    monkeypatch.setattr(feed, "_BLOCK_BYTES", 64 * 45)
    source = Asked(decoding)
    data = placement.put(source, measure(decoding))
    method = small.method(init="random", n=400)
    rows = feed.epoch_rows(0, 0, 0, 400, 20)
    with feed.Feed(data, method.phases[0], 20, lambda _: rows) as given:
        stop = 0
        while stop < 20:
            chunk = given.chunk(0, stop, 20)
            images, table, places, start, end = chunk.arguments
            assert (int(end) - int(start), chunk.stop) == (2, stop + 2)
            for i in range(int(start), int(end)):
                np.testing.assert_array_equal(table[i], rows[stop + i])
                np.testing.assert_array_equal(images[places[i]], decoding[rows[stop + i]])
            stop = chunk.stop
    assert source.most == 40


def test_a_draw_is_read_once_however_many_steps_see_it(monkeypatch):
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(feed, "_BLOCK_BYTES", 1)
    decoding, _ = small.images(50)
    source = Asked(decoding)
    method = dac(epochs=2)
    assert method.phases[0].batches.repeats > 4
    loop.fit(method, placement.put(source, measure(decoding)), seed=0)
    # Three draws of 20 an epoch, and two pictures to find the network's shapes.
    assert source.times <= 2 * 3 + 2


def test_a_block_is_read_once_however_many_chunks_it_takes(monkeypatch):
    """Chunks of one step each: an epoch reads each of its pictures once."""
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0.0)
    decoding, _ = small.images(120)
    source = Asked(decoding)
    method = small.method(init="random", epochs=3)
    data = placement.put(source, measure(decoding))
    state = starting.init(method, data, 0)
    source.times = source.rows = 0
    steps = method.phases[-1]._replace(first=None)
    loop.fit(
        method.replace(phases=(steps,)), data, seed=0, resume=(state, starting.Position(0, 0, ()))
    )
    assert source.rows == 3 * 120
    assert source.times == 3


@pytest.fixture
def halves(monkeypatch):
    """Makes (data, phase, rows) of two epochs, each of two blocks of 60 images, read by a kind."""
    monkeypatch.setattr(feed, "_BLOCK_BYTES", 64 * 60)
    decoding, _ = small.images(120)

    def make(kind=Asked):
        data = placement.put(kind(decoding), measure(decoding))
        phase = small.method(init="random").phases[-1]._replace(epochs=2)
        return data, phase, [feed.epoch_rows(0, 0, epoch, 120, 20) for epoch in range(2)]

    return make


def test_an_epochs_first_block_is_read_while_the_last_is_worked_on(halves):
    data, phase, rows = halves()
    source = data.images
    with feed.Feed(data, phase, 20, rows.__getitem__) as given:
        given.chunk(0, 0, 6)
        given.chunk(0, 3, 6)
        # Nobody has asked for it yet.
        waited = time.monotonic()
        while source.rows < 180 and time.monotonic() < waited + 20:
            time.sleep(0.01)
        assert source.rows == 180
        first = given.chunk(1, 0, 6)
        np.testing.assert_array_equal(first.arguments[0], source.images[rows[1][:3].ravel()])
        given.chunk(1, 3, 6)
    assert source.rows == 240


def test_reading_begins_where_a_run_goes_on(halves):
    """A run resumed in its second epoch reads nothing of what lies before."""
    data, phase, rows = halves()
    source = data.images
    with feed.Feed(data, phase, 20, rows.__getitem__) as given:
        chunk = given.chunk(1, 4, 6)
        np.testing.assert_array_equal(chunk.arguments[0], source.images[rows[1][3:].ravel()])
        assert tuple(map(int, chunk.arguments[3:])) == (1, 3)
    assert source.rows == 60


def test_what_cannot_be_read_any_more_ends_the_run():
    """An error of the reading thread reaches the loop."""

    class Gone(Asked):
        def __getitem__(self, rows):
            if self.times:
                raise OSError("unplugged")
            return super().__getitem__(rows)

    decoding, _ = small.images(120)
    method = small.method(init="random")
    data = placement.put(Gone(decoding), measure(decoding))
    state = starting.init(method, data, 0)
    # Without its `begin`, what comes first is a block.
    steps = method.phases[-1]._replace(first=None)
    with pytest.raises(OSError, match="unplugged"):
        loop.fit(
            method.replace(phases=(steps,)),
            data,
            seed=0,
            resume=(state, starting.Position(0, 0, ())),
        )


def test_nothing_is_read_or_held_once_a_phase_is_over(halves):
    """A block that is being read is waited for, and all are let go."""
    begun, going_on = threading.Event(), threading.Event()

    class Slow(Asked):
        def __getitem__(self, rows):
            if threading.current_thread() is not threading.main_thread() and self.times == 1:
                begun.set()
                going_on.wait(20)
            return super().__getitem__(rows)

    data, phase, rows = halves(Slow)
    source = data.images
    with feed.Feed(data, phase, 20, rows.__getitem__) as given:
        block = weakref.ref(given.chunk(0, 0, 6).arguments[0])
        assert begun.wait(20)
        threading.Timer(0.2, going_on.set).start()
    assert source.times == 2
    assert block() is None


@pytest.mark.parametrize("block", [64 * 20, 2**27])
def test_devices_are_given_their_own_parts_of_a_block(block, monkeypatch):
    """Of a process's share, in a block that the epoch does not fill."""
    from jaxclust.training.parallel import Group

    monkeypatch.setattr(feed, "_BLOCK_BYTES", 3 * block)
    decoding, _ = small.images(140)
    source = Asked(decoding)
    group = Group(tuple(jax.local_devices()[:1]), processes=2, process=1)
    data = placement.put(source, measure(decoding), group)
    phase = small.method(n=140).phases[-1]._replace(epochs=1)
    rows = feed.epoch_rows(0, 0, 0, 140, 20)
    with feed.Feed(data, phase, 20, lambda _: rows) as given:
        stop = 0
        while stop < 7:
            before, chunk = stop, given.chunk(0, stop, 7)
            images, table, places, start, end = chunk.arguments
            # On the device, so that no further chunk of the block sends them again.
            assert isinstance(images, jax.Array)
            for i in range(int(start), int(end)):
                mine = rows[before + i - int(start)][10:]
                np.testing.assert_array_equal(table[0][i], mine)
                np.testing.assert_array_equal(images[0][places[0][i]], decoding[mine])
            stop = chunk.stop
    assert source.rows == 70


@pytest.fixture
def folder(tmp_path):
    """Forty pictures of other sizes, one of them broken, one grey."""
    decoding, _ = small.images(40)
    (tmp_path / "in").mkdir()
    for i, picture in enumerate(decoding):
        image = Image.fromarray(picture[..., 0]).resize((20 + i % 3, 24))
        image = image if i == 7 else image.convert("RGB")
        image.save(tmp_path / "in" / f"{i:02d}.png")
    (tmp_path / "in" / "30.png").write_bytes(b"no picture")
    return tmp_path / "in"


def test_a_folder_read_when_needed_is_the_folder_in_memory(folder):
    held = read_folder(folder, 9, labels_from_folders=False).read
    streamed = read_folder(folder, 9, labels_from_folders=False, in_memory=0).read
    assert isinstance(streamed.images, Streamed)
    assert streamed.ids == held.ids and streamed.skipped == held.skipped
    assert streamed.images.shape == held.images.shape == (39, 9, 9, 3)
    rows = np.array([5, 0, 38, 5])
    np.testing.assert_array_equal(streamed.images[rows], held.images[rows])
    np.testing.assert_array_equal(streamed.images[3:20], held.images[3:20])
    np.testing.assert_array_equal(streamed.images.subset(rows)[:], held.images[rows])
    for one, other in zip(measure(streamed.images), measure(held.images), strict=True):
        np.testing.assert_array_equal(one, other)
    enough = read_folder(folder, 9, labels_from_folders=False, in_memory=3 * 81 * 40).read
    assert isinstance(enough.images, np.ndarray)


def test_runs_are_the_same_either_way(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = [
        "run", "--method=kmeans", f"--dataset=folder:{folder}", "--image-size=9", "--limit=30",
        "--n-clusters=3", "--quiet", "--no-report",
    ]  # fmt: skip
    assert main([*call, "--out=held"]) == 0
    assert main([*call, "--out=streamed", "--in-memory=0"]) == 0
    held, streamed = (tmp_path / name / "assignments.csv" for name in ("held", "streamed"))
    assert held.read_text() == streamed.read_text()
    with held.open() as file:
        assert len(list(csv.DictReader(file))) == 30
    # What went to disk block by block, too; nothing else is left there.
    with (
        np.load(tmp_path / "held" / "embeddings.npz") as one,
        np.load(tmp_path / "streamed" / "embeddings.npz") as other,
    ):
        assert set(one) == set(other) >= {"features", "probabilities"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    names = [{path.name for path in (tmp_path / which).iterdir()} for which in ("held", "streamed")]
    assert names[0] == names[1]


def test_files_changed_since_are_not_resumed_on(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call = [
        "run", "--method=kmeans", f"--dataset=folder:{folder}", "--image-size=9", "--in-memory=0",
        "--n-clusters=3", "--quiet", "--no-report", "--out=run",
    ]  # fmt: skip
    assert main(call) == 0
    Image.new("RGB", (30, 30), "red").save(folder / "05.png")
    assert main([*call, "--resume"]) == 2
    assert "have changed since the run" in capsys.readouterr().err
