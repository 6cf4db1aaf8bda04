"""Greys of more than eight bits: one range for a whole set, the same streamed or held."""

import csv
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxclust.cli import main
from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.data import catalogue
from jaxclust.data.wide_greys import KINDS, Spread, Totals, range_of, to_bytes

RAMP = np.tile(np.linspace(0, 1, 32), (32, 1))


def load(folder, **options):
    return catalogue.load(f"folder:{folder}", folder, **options)


def save(folder, tops, dtype, end):
    folder.mkdir(exist_ok=True)
    for i, top in enumerate(tops):
        values = RAMP * top
        values = np.round(values) if np.issubdtype(dtype, np.integer) else values
        Image.fromarray(values.astype(dtype)).save(folder / f"{i}{end}")


@pytest.mark.parametrize(
    ("dtype", "end", "tops", "kind", "limits"),
    [
        (np.uint16, ".png", (200, 255), "16-bit", (0, 255)),
        (np.uint16, ".png", (200, 255, 256), "16-bit", (0, 511)),
        (np.uint16, ".png", (1000, 4095), "16-bit", (0, 4095)),
        (np.uint16, ".tif", (16383, 300), "16-bit", (0, 16383)),
        (np.uint16, ".png", (200, 65535), "16-bit", (0, 65535)),
        (np.int32, ".tif", (4095, 300), "32-bit", (0, 4095)),
        (np.int32, ".tif", (-128, 127), "32-bit", (-128, 127)),
        (np.int32, ".tif", (2e9, 1e9), "32-bit", (0, 2**31 - 1)),
        (np.float32, ".tif", (0.4, 1), "float", (0, 1)),
        (np.float32, ".tif", (0.4, 1.01), "float", (0, 1.01)),
        (np.float32, ".tif", (-1, 1), "float", (-1, 1)),
        (np.float32, ".tif", (255, 256), "float", (0, 256)),
        (np.float32, ".tif", (-5, 1e6), "float", (-5, 1e6)),
    ],
)
def test_a_set_has_one_range(tmp_path, dtype, end, tops, kind, limits):
    save(tmp_path, tops, dtype, end)
    held = load(tmp_path, image_size=32)
    assert list(held.ranges) == [kind]
    np.testing.assert_allclose(held.ranges[kind], limits, rtol=1e-6)
    low, high = limits
    for top, image in zip(tops, held.images[..., 0], strict=True):
        expected = (RAMP * top - low) * 255 / (high - low)
        # A whole number of the file's own is what rounding takes off.
        step = 0.6 + (255 / (high - low) / 2 if np.issubdtype(dtype, np.integer) else 0)
        assert np.abs(image - expected).max() <= step
    streamed = load(tmp_path, image_size=32, in_memory=0)
    np.testing.assert_array_equal(streamed.images[:], held.images)
    assert streamed.ranges == held.ranges


def test_hot_pixels_do_not_set_the_range(tmp_path):
    values = np.round(RAMP * 4095).astype(np.uint16)
    for i in range(4):
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    values[5, 7] = 65535
    Image.fromarray(values).save(tmp_path / "hot.png")
    found = load(tmp_path)
    assert found.ranges == {"16-bit": (0, 4095)}
    assert (found.images[-1, 5, 7], found.images[0, 0, -1]) == (255, 255)


def test_a_given_range_is_kept(tmp_path):
    """New images are read by the range of those a run saw."""
    save(tmp_path, (100, 200), np.uint16, ".png")
    for in_memory in (None, 0):
        found = load(tmp_path, image_size=32, in_memory=in_memory, ranges={"16-bit": [0, 4095]})
        assert found.images[:].max() == round(200 * 255 / 4095)
        assert found.ranges == {"16-bit": (0, 4095)}


def test_thumbnails_show_what_the_run_saw(tmp_path):
    from jaxclust.data.streaming import Streamed

    save(tmp_path, (100, 4095), np.uint16, ".png")
    found = load(tmp_path)
    again = Streamed(found.places, found.ids, 32, 1)
    np.testing.assert_array_equal(again[:], found.images)
    np.testing.assert_array_equal(found.take(np.array([1])).places.rules.ranges, found.ranges)


@pytest.mark.parametrize("in_memory", [None, 0])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_skipped_by_name(tmp_path, bad, in_memory):
    save(tmp_path, (0.5, 1), np.float32, ".tif")
    values = RAMP.astype(np.float32)
    values[3, 3] = bad
    Image.fromarray(values).save(tmp_path / "hole.tif")
    found = load(tmp_path, image_size=32, in_memory=in_memory)
    assert found.ids == ("0.tif", "1.tif")
    assert [one.file for one in found.skipped] == ["hole.tif"]
    assert "NaN" in found.skipped[0].reason
    assert found.images[:].max() == 255


def tiff(values, photometric, order="<"):
    """An uncompressed TIFF of one grey channel, as cameras and scanners write it."""
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    kind, bits = {"u": 1, "i": 2, "f": 3}[values.dtype.kind], 8 * values.dtype.itemsize
    height, width = values.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 0),
            (277, 1), (278, height), (279, len(data)), (339, kind)]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, start if tag == 273 else value)
        for tag, value in tags
    )
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(f"{order}IH", 8, len(tags)) + entries + struct.pack(f"{order}I", 0)
    return head + body + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_greys_whose_zero_is_white_are_righted(tmp_path, dtype, order):
    top = {np.uint8: 255, np.uint16: 4095, np.int32: 2**31 - 1, np.float32: 1}[dtype]
    values = (RAMP * top).astype(dtype)
    (tmp_path / "black.tif").write_bytes(tiff(values, 1, order))
    (tmp_path / "white.tif").write_bytes(tiff((values.max() - values).astype(dtype), 0, order))
    found = load(tmp_path)
    assert found.images.shape == (2, 32, 32, 1)
    assert np.abs(np.diff(found.images.astype(int), axis=0)).max() <= 1
    assert found.images[1, 0, 0] == 0 and found.images[1, 0, -1] == 255


def test_one_bit_is_not_inverted(tmp_path):
    half = np.zeros((8, 8), bool)
    half[:4] = True
    for end in ("png", "tif", "pbm"):
        Image.fromarray(half).save(tmp_path / f"a.{end}")
    (tmp_path / "b.tif").write_bytes(tiff(np.where(half, 0, 255).astype(np.uint8), 0))
    for image in load(tmp_path).images[..., 0]:
        np.testing.assert_array_equal(image, 255 * half)


def test_eight_bits_stay_as_they_are(tmp_path):
    Image.new("L", (4, 4), 37).save(tmp_path / "a.png")
    found = load(tmp_path)
    assert (found.images == 37).all() and found.ranges == {}


numbers = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)


@given(numbers)
def test_all_values_of_a_few_lie_in_the_range(values):
    spread = Spread.of(np.array(values, np.float64))
    low, high = range_of(spread, integers=False)
    assert low <= min(values) and max(values) <= high
    assert (
        to_bytes(np.array(values), (low, high) if high > low else (low, low + 1)).dtype == np.uint8
    )


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=500))
def test_integers_have_the_fewest_bits_that_hold_them(values):
    low, high = range_of(Spread.of(np.array(values)), integers=True)
    assert low <= min(values) and max(values) <= high
    assert (high - low + 1).is_integer() and np.log2(high - low + 1).is_integer()
    assert high - low == 255 or (max(values) > high // 2 or min(values) < low / 2)


def test_processes_agree_on_the_range(monkeypatch):
    """The totals of two, put together, are those of one that saw all."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 900, 2000), rng.integers(0, 60_000, 3000)]
    whole, told = Totals(), [[], []]
    mine = [Totals(), Totals()]
    for process, part in enumerate(parts):
        mine[process].add("16-bit", Spread.of(part))
        whole.add("16-bit", Spread.of(part))
    mine[1].add("float", Spread.of(np.array([0.5, 3.0])))
    whole.add("float", Spread.of(np.array([0.5, 3.0])))
    # First what each tells, then, of all, the largest of each.
    for turn in (0, 1):
        for process in range(2):
            monkeypatch.setattr(processes, "share_of_process", lambda p=process: slice(p, None, 2))
            step = iter(range(10))

            def largest(found, process=process, turn=turn, step=step):
                i = next(step)
                if turn == 0:
                    told[process].append(found)
                    return found
                return np.maximum(told[0][i], told[1][i])

            monkeypatch.setattr(processes, "largest_of_processes", largest)
            found = mine[process].of_all_processes()
            if turn:
                np.testing.assert_array_equal(found.counts, whole.counts)
                assert found.ranges() == whole.ranges()
    assert set(whole.ranges()) < set(KINDS)


def test_a_run_records_its_range_and_predicts_by_it(tmp_path, capsys):
    save(tmp_path / "in", (500, 4000, 600, 4095), np.uint16, ".png")
    save(tmp_path / "new", (600, 500), np.uint16, ".png")
    run = tmp_path / "run"
    call = ["run", "--method=kmeans", f"--dataset=folder:{tmp_path / 'in'}", "--n-clusters=2",
            "--quiet", f"--out={run}"]  # fmt: skip
    assert main(call) == 0
    record = json.loads((run / "config.json").read_text())
    assert record["data"]["value_ranges"] == {"16-bit": [0, 4095]}
    with (run / "assignments.csv").open() as file:
        seen = {row["id"]: row["cluster"] for row in csv.DictReader(file)}
    assert seen["0.png"] == seen["2.png"] != seen["1.png"]
    assert main(["predict", str(run), str(tmp_path / "new"), f"--out={tmp_path / 'new.csv'}"]) == 0
    with (tmp_path / "new.csv").open() as file:
        assert [row["cluster"] for row in csv.DictReader(file)] == [seen["0.png"]] * 2
    assert main(["report", str(run)]) == 0
    assert "no longer" not in capsys.readouterr().err
    with pytest.raises(InputError):
        load(tmp_path / "nowhere")
