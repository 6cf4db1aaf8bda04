"""Arrays written to disk block by block are the arrays."""

import numpy as np
import pytest

from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.spilled import Spilled, opened, whole_file


@pytest.mark.parametrize("shape", [(10, 3), (7, 2, 2), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_rows_come_back(tmp_path, shape, dtype):
    values = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    spilled = Spilled(tmp_path / "x.npy", shape, np.dtype(dtype))
    for start in reversed(range(0, len(values), 4)):
        spilled[start : start + 4] = values[start : start + 4]
    found = opened({"x": spilled, "y": 3})
    assert found["y"] == 3
    np.testing.assert_array_equal(found["x"], values)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values)
    again = Spilled.existing(tmp_path / "x.npy")
    again[0:1] = values[-1:]
    again.flush()
    np.testing.assert_array_equal(found["x"], np.concatenate([values[-1:], values[1:]]))
    with pytest.raises(ValueError, match="given for rows"):
        spilled[0:1] = np.zeros((2, *shape[1:]))
    assert whole_file(found["x"]) == tmp_path / "x.npy"
    for other in (found["x"][:1], found["x"].reshape(-1), np.asarray(found["x"]), values):
        assert whole_file(other) is None


def test_files_become_members_of_an_archive(tmp_path):
    directory = RunDirectory(tmp_path)
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with directory.spilling() as room:
        kept = room("features", values.shape, values.dtype)
        one_an_image = room("assignments", (50,), np.dtype(np.int32))
        assert isinstance(one_an_image, np.ndarray)
        kept[0:50] = values
        features = opened(kept)
        directory.write_arrays("some.npz", features=features, part=features[10:20], other=values)
    with np.load(tmp_path / "some.npz") as found:
        assert set(found) == {"features", "part", "other"}
        np.testing.assert_array_equal(found["features"], values)
        np.testing.assert_array_equal(found["part"], values[10:20])
        np.testing.assert_array_equal(found["other"], values)
    # Nothing but the archive stays.
    assert [path.name for path in tmp_path.iterdir()] == ["some.npz"]


def test_nothing_stays_of_what_fails(tmp_path):
    with pytest.raises(OSError, match="no room"), RunDirectory(tmp_path).spilling() as room:
        room("features", (3, 2), np.dtype(np.float32))
        raise OSError("no room")
    assert not list(tmp_path.iterdir())
