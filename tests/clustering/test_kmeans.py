import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

from jaxclust.clustering import blocks, kmeans
from jaxclust.clustering import bounds as bounding
from jaxclust.clustering.distances import nearest_column, squared_distances


def sequential(centroids, counts, x, assignments):
    """Eqs. 11 and 12 sample by sample, in float64."""
    centroids, counts = np.array(centroids, np.float64), np.array(counts, np.float64)
    for h, c in zip(np.asarray(x, np.float64), assignments, strict=True):
        counts[c] += 1
        centroids[c] = (1 - 1 / counts[c]) * centroids[c] + h / counts[c]
    return centroids, counts


@pytest.mark.parametrize("seed", range(5))
def test_closed_form_equals_the_sequential_update(seed):
    rng = np.random.default_rng(seed)
    k, d = 7, 5
    centroids, x = rng.normal(size=(k, d)), rng.normal(size=(60, d))
    # Clusters 5 and 6 get nothing; cluster 4 has absorbed samples before.
    assignments = rng.integers(0, 5, 60)
    counts = np.array([0, 1, 2, 0, 900, 3, 0], float)
    expected, expected_counts = sequential(centroids, counts, x, assignments)
    with jax.enable_x64(True):
        state = kmeans.KMeansState(jnp.asarray(centroids), jnp.asarray(counts))
        state = kmeans.update(state, jnp.asarray(x), jnp.asarray(assignments))
    limit = 1e-6 * np.abs(expected).max()
    assert np.abs(np.asarray(state.centroids) - expected).max() <= limit
    np.testing.assert_array_equal(state.counts, expected_counts)
    np.testing.assert_array_equal(state.centroids[5:], centroids[5:])


def test_update_ignores_order_and_takes_weights_as_repetition():
    rng = np.random.default_rng(0)
    x, assignments = jnp.asarray(rng.normal(size=(6, 2)), "f"), jnp.array([0, 1, 0, 1, 1, 0])
    state = kmeans.KMeansState(jnp.zeros((2, 2)), jnp.ones(2))
    order = jnp.array([5, 0, 3, 1, 2, 4])
    once = kmeans.update(state, x, assignments)
    shuffled = kmeans.update(state, x[order], assignments[order])
    np.testing.assert_allclose(once.centroids, shuffled.centroids, atol=1e-6)
    weighted = kmeans.update(state, x, assignments, jnp.array([2.0, 1, 0, 1, 1, 1]))
    rows = jnp.array([0, 0, 1, 3, 4, 5])
    repeated = kmeans.update(state, x[rows], assignments[rows])
    np.testing.assert_allclose(weighted.centroids, repeated.centroids, atol=1e-6)


def test_max_count_keeps_centroids_moving():
    state = kmeans.KMeansState(jnp.zeros((1, 1)), jnp.zeros(1))
    free = state
    for _ in range(50):
        x = jnp.ones((10, 1))
        state = kmeans.update(state, jnp.zeros((10, 1)), jnp.zeros(10, int), max_count=50)
        free = kmeans.update(free, jnp.zeros((10, 1)), jnp.zeros(10, int))
    assert float(state.counts[0]) == 50
    x = jnp.ones((10, 1))
    moved = kmeans.update(state, x, jnp.zeros(10, int), max_count=50).centroids[0, 0]
    frozen = kmeans.update(free, x, jnp.zeros(10, int)).centroids[0, 0]
    np.testing.assert_allclose(moved, 10 / 60, rtol=1e-6)
    np.testing.assert_allclose(frozen, 10 / 510, rtol=1e-6)


def test_distances_against_numpy():
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(20, 3)).astype("f"), rng.normal(size=(4, 3)).astype("f")
    expected = ((x[:, None] - c[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(x, c), expected, atol=1e-5)
    assignments, distances = kmeans.assign(x, c)
    np.testing.assert_array_equal(assignments, expected.argmin(1))
    np.testing.assert_allclose(distances, expected.min(1), atol=1e-5)


@pytest.mark.parametrize("seeding", ["kmeans++", "uniform"])
def test_seeds_are_different_rows(seeding):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(30, 2)))
    seeds = np.asarray(kmeans.seed(jax.random.key(0), x, 30, seeding))
    assert len(np.unique(seeds, axis=0)) == 30


def test_seeding_survives_identical_rows():
    seeds = kmeans.seed_plus_plus(jax.random.key(0), jnp.ones((5, 2)), 3)
    np.testing.assert_array_equal(seeds, np.ones((3, 2)))


def test_greedy_seeds_are_nearer_to_the_samples():
    """And with one candidate it is plain k-means++."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(400, 3)).astype("f"))

    def potential(seeding):
        sums = []
        for i in range(20):
            seeds = kmeans.seed(jax.random.key(i), x, 12, seeding)
            sums.append(float(kmeans.assign(x, seeds)[1].sum()))
        return np.mean(sums)

    assert potential("greedy") < 0.95 * potential("kmeans++")


def test_plus_plus_follows_the_d2_distribution():
    """The second seed's frequencies, given the first, against the exact probabilities."""
    x = jnp.array([[0.0], [1.0], [3.0]])
    keys = jax.random.split(jax.random.key(0), 20_000)
    seeds = np.asarray(jax.vmap(lambda key: kmeans.seed_plus_plus(key, x, 2))(keys))[..., 0]
    second = seeds[seeds[:, 0] == 0, 1]
    assert len(second) == pytest.approx(20_000 / 3, rel=0.05)
    assert np.mean(second == 3) == pytest.approx(0.9, abs=0.01)
    assert not np.any(second == 0)


def test_lloyd_never_raises_inertia_and_refills_empty_clusters():
    x = jnp.asarray(load_digits().data, jnp.float32)
    centroids = kmeans.seed_uniform(jax.random.key(0), x, 10)
    # Two centroids where no sample is nearest.
    centroids = centroids.at[:2].set(1e3)
    inertias = []
    for _ in range(30):
        centroids, inertia = kmeans.lloyd_step(x, centroids)
        inertias.append(float(inertia))
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(inertias))
    assignments, _ = kmeans.assign(x, centroids)
    assert len(np.unique(assignments)) == 10


def test_lloyd_from_the_same_seeds_equals_scikit_learn():
    x = load_digits().data.astype("f")
    seeds = x[:: len(x) // 10][:10]
    theirs = KMeans(10, init=seeds, n_init=1, tol=0, max_iter=300).fit(x)
    ours = kmeans.lloyd(jnp.asarray(x), jnp.asarray(seeds), 300, tol=0)
    np.testing.assert_allclose(ours, theirs.cluster_centers_, atol=1e-3)


@pytest.mark.parametrize("name", ["digits", "blobs"])
def test_fit_is_as_good_as_scikit_learn(name):
    blobs = make_blobs(500, 4, centers=8, random_state=0)[0]
    x = load_digits().data if name == "digits" else blobs
    k = 8 if name == "blobs" else 10
    theirs = KMeans(k, n_init=10, random_state=0).fit(x).inertia_
    ours = kmeans.fit(jax.random.key(0), jnp.asarray(x, jnp.float32), k)
    assert float(ours.inertia) <= theirs * 1.005
    distances = ((x[:, None] - np.asarray(ours.centroids)[None]) ** 2).sum(-1)
    np.testing.assert_allclose(ours.inertia, distances.min(1).sum(), rtol=1e-4)
    np.testing.assert_array_equal(ours.assignments, distances.argmin(1))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_values_of_less_precision_are_counted_to_the_last(dtype):
    """In bfloat16 itself, 256 and one more are 256."""
    rng = np.random.default_rng(0)
    kinds = np.arange(1500) % 2
    x = (rng.normal(size=(1500, 4)) + 8 * kinds[:, None]).astype(np.float32)
    fit = kmeans.fit(jax.random.key(0), jnp.asarray(x).astype(dtype), 2)
    assert sorted(np.asarray(fit.sizes)) == [750, 750]
    order = np.argsort(np.asarray(fit.centroids[:, 0]))
    seen = np.asarray(jnp.asarray(x).astype(dtype).astype(jnp.float32))
    means = [seen[kinds == kind].mean(axis=0) for kind in (0, 1)]
    np.testing.assert_allclose(np.asarray(fit.centroids)[order], means, rtol=1e-4, atol=1e-4)


def test_updates_by_values_of_less_precision_keep_the_state_s_own():
    state = kmeans.KMeansState(jnp.zeros((2, 3)), jnp.full(2, 256.0))
    x, nearest = jnp.ones((3, 3), jnp.bfloat16), jnp.array([0, 0, 1])
    after = kmeans.update(state, x, nearest)
    np.testing.assert_array_equal(after.counts, [258, 257])
    np.testing.assert_allclose(after.centroids[:, 0], [2 / 258, 1 / 257], rtol=1e-6)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)
    assert {leaf.dtype for leaf in kmeans.update(low, x, nearest)} == {jnp.dtype(jnp.bfloat16)}


def test_means_of_whole_numbers_are_no_whole_numbers():
    x, nearest = jnp.array([[0], [1], [5]]), jnp.array([0, 0, 1])
    found = kmeans.means(x, nearest, jnp.zeros(3), 2)
    np.testing.assert_array_equal(found, [[0.5], [5]])


@pytest.mark.parametrize("k", [3, 40])
def test_assignment_in_blocks_equals_all_at_once(monkeypatch, k):
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(1000, 5)).astype("f"), rng.normal(size=(k, 5)).astype("f")
    monkeypatch.setattr(blocks, "_BLOCK_ENTRIES", {"cpu": 1})
    assert kmeans.block_rows(1000, k) == 256
    exact = ((x[:, None] - c[None]) ** 2).sum(-1)
    assignments, distances = kmeans.assign(jnp.asarray(x), jnp.asarray(c))
    np.testing.assert_array_equal(assignments, exact.argmin(1))
    np.testing.assert_allclose(distances, exact.min(1), atol=1e-5)


def test_nearest_takes_the_first_of_equals():
    distances = jnp.array([[2.0, 1, 1], [0, 0, 0], [3, 2, 1]])
    first, least = nearest_column(distances)
    np.testing.assert_array_equal(first, [1, 0, 2])
    np.testing.assert_array_equal(least, [1, 0, 1])


@pytest.mark.parametrize("data", ["noise", "blobs", "far from zero", "duplicates"])
def test_bounds_spare_rows_and_change_no_assignment(monkeypatch, data):
    monkeypatch.setattr(blocks, "_BLOCK_ENTRIES", {"cpu": 1})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 6))
    if data == "blobs":
        x = make_blobs(1500, 6, centers=40, random_state=0)[0]
    if data == "far from zero":
        x += 100
    if data == "duplicates":
        x = np.round(x)
    x, k = jnp.asarray(x, jnp.float32), 40
    centroids = kmeans.seed_uniform(jax.random.key(0), x, k).at[0].set(1e3)  # one is empty
    bounds = bounding.Bounds(jnp.zeros(1500, jnp.int32), jnp.full(1500, -1.0))
    shifts, spared = jnp.full(k, jnp.inf), 0
    screen, reassign = jax.jit(bounding.screen_rows), jax.jit(bounding.reassign)
    means = jax.jit(kmeans.means, static_argnums=3)
    for _ in range(25):
        expected, distances = jax.jit(kmeans.assign)(x, centroids)
        slack = 1e-4 * jnp.max(jnp.square(x))
        still_open = screen(x, centroids, bounds, *bounding.farthest_moved(shifts), slack)[2]
        spared += int(jnp.sum(~still_open))
        bounds, own = reassign(x, centroids, bounds, shifts, bounding.rounding_slack(x))
        np.testing.assert_array_equal(bounds.assignments, expected)
        np.testing.assert_allclose(own, distances, atol=2e-6 * float(jnp.max(x**2)) * 6 + 1e-5)
        others = squared_distances(x, centroids).at[jnp.arange(1500), expected].set(jnp.inf)
        gap = bounds.lower - jnp.sqrt(jnp.min(others, axis=1))
        assert float(jnp.max(gap)) <= 1e-4 * float(jnp.max(jnp.abs(x)))
        moved = means(x, bounds.assignments, own, k)
        shifts = jnp.sqrt(jnp.sum(jnp.square(moved - centroids), axis=1))
        centroids = moved
    assert data == "far from zero" or spared > 1500


def test_many_clusters_from_the_same_seeds_equal_scikit_learn():
    x = load_digits().data.astype("f")
    seeds = x[:: len(x) // 50][:50]
    theirs = KMeans(50, init=seeds, n_init=1, tol=0, max_iter=300).fit(x)
    ours = kmeans.lloyd(jnp.asarray(x), jnp.asarray(seeds), 300, tol=0)
    np.testing.assert_allclose(ours, theirs.cluster_centers_, atol=1e-3)


def test_memory_grows_with_rows_alone():
    """N x k would be 4 GB here; the program's temporaries stay under a fiftieth of it."""
    x = jax.ShapeDtypeStruct((1_000_000, 4), jnp.float32)
    centroids = jax.ShapeDtypeStruct((1000, 4), jnp.float32)
    program = jax.jit(lambda x, c: kmeans.lloyd(x, c, 5)).lower(x, centroids).compile()
    assert program.memory_analysis().temp_size_in_bytes < 80e6
