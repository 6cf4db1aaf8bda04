"""How well clusters are learned from features, in place of labels."""

import numpy as np
import pytest

from jaxclust.clustering.host.cross_validation import cross_validated

RNG = np.random.default_rng(0)
KINDS = np.arange(120) % 3
BLOBS = 4 * np.eye(3)[KINDS] @ RNG.normal(size=(3, 8)) + RNG.normal(size=(120, 8))


def test_clusters_of_the_features_are_learned_and_those_of_chance_are_not():
    assert cross_validated(BLOBS, KINDS) > 0.95
    assert cross_validated(BLOBS, RNG.permutation(KINDS)) < 0.5
    # Neither the features' scale nor the clusters' numbers matter.
    scaled = cross_validated(1e-4 * BLOBS + 7, (KINDS + 5) % 9)
    assert scaled == cross_validated(BLOBS, KINDS)


def test_a_classifier_never_sees_the_image_it_names():
    """Two hundred values of noise tell sixty images apart, but not those of another fold."""
    x = RNG.normal(size=(60, 200))
    assert cross_validated(x, RNG.integers(0, 2, 60)) < 0.7


@pytest.mark.parametrize(
    ("x", "clusters"), [(BLOBS, np.zeros(120, int)), (BLOBS[:19], KINDS[:19])], ids=["one", "few"]
)
def test_nothing_to_learn(x, clusters):
    assert cross_validated(x, clusters) is None


def test_of_large_sets_a_part_is_looked_at():
    class Source:
        shape, dtype, seen = (29_000, 8), np.float32, 0

        def __len__(self):
            return 29_000

        def __getitem__(self, rows):
            self.seen = len(rows)
            return BLOBS[np.asarray(rows) % 120]

    source = Source()
    assert cross_validated(source, KINDS[np.arange(29_000) % 120]) > 0.95
    assert source.seen == 2000


def test_a_cluster_that_lies_in_one_fold():
    """Then the others hold one cluster alone, which is all that can be learned from them."""
    x = RNG.normal(size=(100, 4))
    assert cross_validated(x, np.arange(100) == 40) == 0.99
