"""Near-duplicates are groups, not chains; outliers are what lies apart."""

import itertools

import numpy as np
import pytest

from jaxclust.clustering.host import likeness
from jaxclust.clustering.host.likeness import likeness as look

RNG = np.random.default_rng(0)


def apart(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return 1 - unit @ unit.T


def at(degrees):
    """Points on a circle: cosine distances are those of the angles between them."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_chain_is_no_group():
    # Neighbours 10 degrees apart, the ends 40: only neighbours are within 15 degrees.
    x = at([0, 10, 20, 30, 40, 180])
    groups = look(x, 1 - np.cos(np.deg2rad(15))).groups
    assert [len(group) for group in groups] == [2, 2]
    assert 5 not in np.concatenate(groups)


@pytest.mark.parametrize("held", [1, 2000])
def test_every_pair_of_a_group_is_within_the_bound(monkeypatch, held):
    monkeypatch.setattr(likeness, "_HELD", held)
    centres = RNG.normal(size=(12, 8))
    x = np.repeat(centres, 6, axis=0) + 0.08 * RNG.normal(size=(72, 8))
    found = look(x, 0.02)
    distances = apart(x)
    assert found.groups
    for group in found.groups:
        for one, other in itertools.combinations(group, 2):
            assert distances[one, other] <= 0.02 + 1e-5
    members = np.concatenate(found.groups)
    assert len(np.unique(members)) == len(members)
    sizes = [len(group) for group in found.groups]
    assert sizes == sorted(sizes, reverse=True)
    if held > 1:
        # Nothing that is as near as that to one other image is left out of all groups, unless
        # the pair's partners went elsewhere.
        alone = np.setdiff1d(np.arange(72), members)
        assert not (distances[np.ix_(alone, alone)] + 2 * np.eye(len(alone)) <= 0.02).any()


def test_a_long_chain_is_cut_into_groups(monkeypatch):
    """Features with a large common mean are one chain; the nearest of its pairs stay."""
    monkeypatch.setattr(likeness, "_HELD", 50)
    x = np.repeat(5 + RNG.normal(size=(150, 24)), 2, axis=0)
    x[1::2] += 1e-3 * RNG.normal(size=(150, 24))
    bound = float(np.quantile(apart(x), 0.2))
    found = look(x, bound)
    group_of = {int(row): i for i, group in enumerate(found.groups) for row in group}
    for group in found.groups:
        assert apart(x)[np.ix_(group, group)].max() <= bound + 1e-5
    assert np.mean([2 * i in group_of for i in range(150)]) > 0.9
    together = [group_of.get(2 * i, -1) == group_of.get(2 * i + 1, -2) for i in range(150)]
    assert np.mean(together) > 0.9


def test_many_copies_are_one_group():
    x = np.concatenate([np.ones((130, 4)), np.eye(4)])
    (group,) = look(x, 1e-6).groups
    assert group.tolist() == list(range(130))


def test_outliers_score_by_their_ten_nearest():
    x = np.concatenate([1 + 0.1 * RNG.normal(size=(60, 5)), [[-3.0, 1, 0, 0, 0]]])
    found = look(x, 0.0)
    nearest = np.sort(apart(x) + 3 * np.eye(61), axis=1)[:, :10].mean(axis=1)
    np.testing.assert_allclose(found.outlier, nearest / np.median(nearest), rtol=1e-3)
    assert found.outlier.argmax() == 60
    assert not found.groups


def test_small_and_large_sets(monkeypatch):
    assert look(np.eye(2), 0.05).outlier.tolist() == [1, 1]
    assert look(np.zeros((3, 2)), 0.05).groups == []
    monkeypatch.setattr(likeness, "MOST", 5)
    assert look(np.eye(6), 0.05) is None
    assert "more than 5 images" in likeness.complaint_of(np.eye(6))
    assert likeness.complaint_of(np.eye(5)) is None
    assert likeness.complaint_of(np.zeros((6, 2, 2, 1))) is None
