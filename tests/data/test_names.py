"""Names in one string of bytes are the list of them."""

from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxclust.data.names import Names, repeated

# What the file system may hand out: any text, and bytes that are no UTF-8.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(
    [chr(0xDC80 + i) for i in (0, 5, 127)]
)
lists = st.lists(st.text(letters, max_size=8), max_size=12)


@given(lists, st.data())
def test_it_is_the_list(names, data):
    found = Names(names)
    assert len(found) == len(names)
    assert list(found) == names
    assert found == names and found == tuple(names) and found == Names(names)
    assert found != [*names, "one more"]
    for i in range(-len(names), len(names)):
        assert found[i] == names[i]
    cut = data.draw(st.slices(len(names)))
    assert found[cut] == names[cut]
    rows = data.draw(st.lists(st.integers(0, len(names) - 1))) if names else []
    again = [name for i, name in enumerate(names) if name in names[:i]]
    assert repeated(found) == (again[0] if again else None)
    assert found.take(np.asarray(rows, int)) == [names[i] for i in rows]
    assert [names[i] for i in found.order()] == sorted(names)


def test_rows_outside_are_refused():
    with pytest.raises(IndexError):
        Names(["one"])[1]
    with pytest.raises(IndexError):
        Names()[-1]


@given(st.lists(st.lists(st.text(st.sampled_from("a-.é!0"), min_size=1), min_size=1), max_size=9))
def test_paths_are_ordered_folder_by_folder(paths):
    names = ["/".join(parts) for parts in paths]
    found = Names(names)
    expected = sorted(names, key=lambda name: tuple(name.split("/")))
    assert [names[i] for i in found.order_of_paths()] == expected


def test_a_folder_comes_before_a_longer_ones():
    names = ["a-b/c", "a/d", "a.e/f"]
    expected = sorted(names, key=PurePosixPath)
    assert [names[i] for i in Names(names).order_of_paths()] == expected == ["a/d", *names[::2]]
