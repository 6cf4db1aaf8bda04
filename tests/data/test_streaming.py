"""Images read when needed: what several processes tell each other, what goes missing."""

import numpy as np
import pytest
from PIL import Image

from jaxclust.core import processes
from jaxclust.core.errors import RunError
from jaxclust.data import decoding
from jaxclust.data.folder import read_folder
from jaxclust.data.names import Names
from jaxclust.data.places import USUAL, Files
from jaxclust.data.streaming import Streamed


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    """Forty pictures, one broken, one grey, one of two pages."""
    rng = np.random.default_rng(0)
    for i in range(40):
        image = Image.fromarray(rng.integers(0, 255, (24, 20 + i % 3, 3), dtype=np.uint8))
        image = image.convert("L") if i == 7 else image
        image.save(tmp_path / f"{i:02d}.png")
    (tmp_path / "30.png").write_bytes(b"no picture")
    image.save(tmp_path / "40.tif", save_all=True, append_images=[image])
    return tmp_path


def test_files_are_looked_through_once_until_they_change(folder, monkeypatch):
    decoded = []
    real = decoding.look_at

    def counted(place, *rest):
        decoded.append(place.path.name)
        return real(place, *rest)

    monkeypatch.setattr(decoding, "look_at", counted)
    first = read_folder(folder, 9, False, in_memory=0)
    assert len(set(decoded)) == 41
    decoded.clear()
    again = read_folder(folder, 9, False, in_memory=0)
    # Only what was odd is looked at again, for the reason.
    assert set(decoded) == {"30.png", "40.tif"}
    assert again.read.skipped == first.read.skipped
    assert again.read.images.fingerprint() == first.read.images.fingerprint()
    decoded.clear()
    read_folder(folder, 8, False, in_memory=0)
    assert len(set(decoded)) == 41
    (folder / "07.png").write_bytes(b"torn since then")
    decoded.clear()
    torn = read_folder(folder, 9, False, in_memory=0)
    assert len(set(decoded)) == 41
    assert [name for name, _ in torn.read.skipped] == ["07.png", "30.png", "40.tif"]


def test_processes_look_through_a_part_of_the_pictures_each(folder, monkeypatch):
    """The parts of two, put together, are what one finds; each decodes half."""
    monkeypatch.setattr(decoding, "_mark", lambda wanted: None)
    names = Names(sorted(path.name for path in folder.iterdir()))
    wanted = decoding._Wanted(Files(folder, names), names, 9, 1.0, USUAL)
    whole = decoding._looked_through(wanted)
    assert whole.channels.max() == 3
    assert np.flatnonzero(whole.channels == 0).tolist() == [30]
    assert list(whole.skipped) == [30, 40]
    seen = []

    def told(found):
        if len(found) == len(names):
            seen.append(found)
        return found

    monkeypatch.setattr(processes, "largest_of_processes", told)
    for process in range(2):
        share = slice(process, None, 2)
        monkeypatch.setattr(processes, "share_of_process", lambda share=share: share)
        decoding._looked_through(wanted)
    assert [np.count_nonzero(part) for part in seen] == [20, 20]
    both = np.maximum(*seen)
    np.testing.assert_array_equal(both % decoding._PAGES, whole.channels)
    # What one alone has seen is told to the other: its parts' reasons are found by both.
    monkeypatch.setattr(
        processes, "largest_of_processes", lambda found: both if len(found) == len(names) else found
    )
    for process in range(2):
        share = slice(process, None, 2)
        monkeypatch.setattr(processes, "share_of_process", lambda share=share: share)
        assert decoding._looked_through(wanted).skipped == whole.skipped


def test_it_is_a_source(folder):
    """Shape, dtype, length and rows by index: all that a data set must have."""
    held = read_folder(folder, 9, labels_from_folders=False).read.images
    streamed = read_folder(folder, 9, labels_from_folders=False, in_memory=0).read.images
    assert isinstance(streamed, Streamed) and isinstance(held, np.ndarray)
    assert (streamed.shape, streamed.dtype, len(streamed)) == (held.shape, held.dtype, len(held))
    rows = np.array([3, 0, 38])
    np.testing.assert_array_equal(streamed[rows], held[rows])


def test_files_that_go_missing_stop_the_run(folder):
    streamed = read_folder(folder, 9, labels_from_folders=False, in_memory=0).read.images
    (folder / "05.png").unlink()
    with pytest.raises(RunError, match=r"05\.png can no longer be read"):
        streamed[:]


def test_heavy_libraries_are_imported_where_they_are_used():
    import subprocess
    import sys

    code = (
        "import sys, jaxclust.data.catalogue, jaxclust.data.prepared, jaxclust.data.archives; "
        "heavy = {'tensorflow_datasets', 'array_record', 'grain', 'tensorflow', 'sklearn'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
