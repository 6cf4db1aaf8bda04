"""Features kept on disk stay below a limit."""

import os

import numpy as np
import pytest

from jaxclust.core.errors import InputError
from jaxclust.data.image_set import ImageSet
from jaxclust.data.names import Names
from jaxclust.data.resizing import Resized
from jaxclust.runs import embedding, feature_cache
from jaxclust.runs.feature_cache import make_room
from jaxclust.runs.lock import locked
from tests.runs.test_embedding import ENCODER, IMAGES, silent

BYTES = 1000


def kept(store, name, used):
    """A folder of features of a thousand bytes, last used at a time."""
    folder = store / name
    folder.mkdir(parents=True)
    (folder / "features.npy").write_bytes(bytes(BYTES - 2))
    (folder / "done.json").write_text("{}")
    os.utime(folder, (used, used))
    return folder


def names(store):
    return {folder.name for folder in store.iterdir()}


def test_what_was_unused_for_longest_makes_room(tmp_path):
    for name, used in (("b", 20), ("a", 10), ("d", 40), ("c", 30)):
        kept(tmp_path, name, used)
    make_room(tmp_path / "new", 0, 4 * BYTES)
    assert names(tmp_path) == {"a", "b", "c", "d"}
    make_room(tmp_path / "new", BYTES, 4 * BYTES)
    assert names(tmp_path) == {"b", "c", "d"}
    make_room(tmp_path / "new", BYTES + 1, 3 * BYTES)
    assert names(tmp_path) == {"d"}


def test_features_asked_for_again_are_not_their_own_excess(tmp_path):
    kept(tmp_path, "mine", 10)
    kept(tmp_path, "other", 20)
    make_room(tmp_path / "mine", BYTES, 2 * BYTES)
    assert names(tmp_path) == {"mine", "other"}
    make_room(tmp_path / "mine", BYTES, 0)
    assert names(tmp_path) == {"mine"}


def test_features_that_a_process_is_using_stay(tmp_path):
    folder = kept(tmp_path, "held", 10)
    kept(tmp_path, "free", 20)
    with locked(folder):
        os.utime(folder, (10, 10))
        make_room(tmp_path / "new", 0, 0)
        assert names(tmp_path) == {"held"}


def test_a_lock_s_folder_may_vanish_while_waiting(tmp_path, monkeypatch):
    """Another process removed it with its lock: the folder is made again."""
    folder = kept(tmp_path, "mine", 10)
    seen = []

    def gone_once(descriptor, path):
        seen.append(path)
        if len(seen) == 1:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        return path.exists()

    monkeypatch.setattr("jaxclust.runs.lock._still_there", gone_once)
    with locked(folder):
        assert folder.is_dir()
        assert len(seen) == 2


def test_encoding_another_set_makes_room(tmp_path, monkeypatch):
    """Two sets of 1,800 bytes, of which the limit holds one; the first stays readable in hand."""
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(feature_cache.VARIABLE, "0.000003")
    ids = Names(map(str, range(len(IMAGES))))
    first = ImageSet("first", Resized(IMAGES, 4, "bilinear", whole=True), None, ids, None)
    second = ImageSet("second", Resized(255 - IMAGES, 4, "bilinear", whole=True), None, ids, None)
    one = embedding.encoded(first, ENCODER, silent).images
    before = names(tmp_path / "features")
    two = embedding.encoded(second, ENCODER, silent).images
    assert len(names(tmp_path / "features")) == 1
    assert names(tmp_path / "features") != before
    np.testing.assert_allclose(one + two, 510, rtol=1e-5)


@pytest.mark.parametrize("given", ["many", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(given, monkeypatch):
    monkeypatch.setenv(feature_cache.VARIABLE, given)
    with pytest.raises(InputError, match=f"is '{given}'; it must be a number of GB"):
        feature_cache.limit()


def test_the_limit_in_gigabytes(monkeypatch):
    monkeypatch.setenv(feature_cache.VARIABLE, "0.5")
    assert feature_cache.limit() == 500_000_000
    monkeypatch.delenv(feature_cache.VARIABLE)
    assert feature_cache.limit() == 20_000_000_000
