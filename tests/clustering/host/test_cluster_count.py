"""How many clusters: each number against another reading, and blobs whose number is known."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score

from jaxclust.clustering.host import cluster_count
from jaxclust.core.errors import InputError

Y, KINDS = make_blobs(120, centers=5, cluster_std=2.0, random_state=3)


def test_silhouette_is_scikit_learns():
    labels = cluster_count._tree(Y)(7)
    assert len(np.unique(labels)) == 7
    # A cluster of one has the value 0, in both.
    labels[labels == labels[0]] = labels[1]
    labels[0] = labels.max() + 1
    labels = np.unique(labels, return_inverse=True)[1]
    found = cluster_count._silhouette(cluster_count._distances(Y), labels)
    assert found == pytest.approx(silhouette_score(Y, labels), abs=1e-5)


def test_bic_is_that_of_the_clusters_mixture():
    density = np.zeros(len(Y))
    for kind in range(5):
        part = Y[np.equal(KINDS, kind)]
        covariance = np.cov(part.T, bias=True) + cluster_count._LEAST_VARIANCE * np.eye(2)
        density += len(part) / len(Y) * multivariate_normal(part.mean(axis=0), covariance).pdf(Y)
    # Of each component a mean and a covariance, and the shares, which add up to one.
    parameters = 5 * (2 + 3) + 4
    expected = parameters * np.log(len(Y)) - 2 * np.log(density).sum()
    assert cluster_count._bic(Y, KINDS) == pytest.approx(expected, rel=1e-9)


def test_stability_of_trees_that_agree_and_of_chance():
    parts = [np.arange(0, 100), np.arange(20, 120)]
    same = [KINDS[part] for part in parts]
    assert cluster_count._stability(KINDS, parts, same) == 1
    chance = [np.random.default_rng(i).integers(0, 5, 100) for i in range(2)]
    assert abs(cluster_count._stability(KINDS, parts, chance)) < 0.1


@pytest.mark.parametrize("k", [3, 8])
def test_the_number_of_well_separated_groups_is_found(k):
    x, _ = make_blobs(300, n_features=16, centers=k, cluster_std=1.0, random_state=k)
    found = cluster_count.curve(x, list(range(2, 16)))
    assert found.chosen == k == found.counts[int(np.argmax(found.silhouette))]
    assert found.hdbscan == k
    assert found.stability[k - 2] > 0.99
    assert found.next_best is not None
    assert abs(found.next_best - k) > 1
    assert found == cluster_count.curve(x, list(range(2, 16)))


@pytest.mark.parametrize("seed", [0, 1])
def test_groups_that_overlap_in_the_map_are_counted_in_the_features(seed):
    x, _ = make_blobs(400, n_features=30, centers=16, cluster_std=9.0, random_state=seed)
    found = cluster_count.curve(x, list(range(2, 31)))
    assert found.place() == "features"
    assert abs(found.chosen - 16) <= 1
    assert found.scores() == found.feature_silhouette
    # The map is all there is where features are not an encoder's. How far off it is here depends
    # on the machine's rounding.
    of_map = cluster_count.curve(x, list(range(2, 31)), encoded=False)
    assert (of_map.place(), of_map.feature_silhouette) == ("map", None)
    assert of_map.scores() == of_map.silhouette == found.silhouette
    assert of_map.chosen == cluster_count._best_two(of_map.counts, of_map.silhouette)[0]


def test_a_wide_gap_does_not_hide_the_groups_on_its_sides():
    # Silhouettes of 240 photographs of airplanes, ships, dogs and horses, by EfficientNet-Lite2.
    of_map = [0.6406, 0.6017, 0.5373, 0.5026, 0.518, 0.4228, 0.4189]
    of_features = [0.1375, 0.1454, 0.1633, 0.1358, 0.1507, 0.1469, 0.1491]
    counts, flat = list(range(2, 9)), [1.0] * 7
    found = cluster_count.Curve(counts, of_map, flat, flat, 0, None, 2, of_features)
    assert found.place() == "map and features"
    assert cluster_count._best_two(counts, found.scores())[0] == 4
    alone = found._replace(feature_silhouette=None)
    assert cluster_count._best_two(counts, alone.scores())[0] == 2


def test_silhouette_in_the_features_is_scikit_learns():
    x, kinds = make_blobs(150, n_features=9, centers=4, cluster_std=4.0, random_state=0)
    x = x.astype(np.float32)
    (found,) = cluster_count._judged_in_features(x, [kinds], 0)
    labels = KMeans(4, n_init=20, random_state=0).fit_predict(x)  # the best that can be had
    # Nine principal components of nine columns keep every distance.
    assert found == pytest.approx(silhouette_score(x, labels), abs=1e-3)


def test_copies_of_a_few_samples_have_a_curve():
    x = np.repeat(np.random.default_rng(0).normal(size=(6, 5)), 20, axis=0)
    found = cluster_count.curve(x, [2, 3, 4, 5, 6, 7, 8, 9])
    assert np.isfinite(found.feature_silhouette).all()
    assert found.chosen == 6


def test_large_sets_are_judged_by_a_sample(monkeypatch):
    monkeypatch.setattr(cluster_count, "MOST_SAMPLES", 150)
    x, _ = make_blobs(400, n_features=8, centers=4, random_state=1)
    # More clusters than the sample has samples are left out.
    found = cluster_count.curve(x, [2, 3, 4, 5, 300])
    assert found.counts == [2, 3, 4, 5]
    assert found.chosen == 4


def test_what_can_be_asked_for():
    assert cluster_count.asked(12, 100) == cluster_count.asked("12", 100) == [12]
    wide = cluster_count.asked("5:200", 1000)
    assert wide[:36] == list(range(5, 41))
    assert wide[-1] == 200
    steps = np.diff(wide[36:-1])
    assert steps.min() >= 1
    assert np.all(steps <= 0.06 * np.asarray(wide[36:-2]))
    assert cluster_count.asked("auto", 10**6)[-1] == 250
    assert cluster_count.asked("auto", 3) == [2]
    for wrong in ("many", "5:", ":5", "1:4", "9:3", "2:100", "2:3:4", ""):
        with pytest.raises(InputError, match="n_clusters"):
            cluster_count.asked(wrong, 100)


def test_groups_that_hardly_lie_apart_are_said():
    apart = cluster_count.Curve([2, 3], [0.4, 0.8], [1.0, 1.0], [2.0, 1.0], 3, None, 3)
    assert apart.complaint() is None
    spread = np.random.default_rng(0).uniform(size=(300, 2))
    found = cluster_count.curve(spread, [2, 3, 4, 5])
    assert "hardly separated" in found.complaint()
    assert f"their number, {found.chosen}, is a guess" in found.complaint()
