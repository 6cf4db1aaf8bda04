"""Dimension reduction on the host: t-SNE, UMAP and PCA behind one signature."""

import importlib.util
import logging
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import tsne
from jaxclust.clustering.host import samples
from jaxclust.core import device
from jaxclust.core.errors import InputError, RunError, first_line

Reducer = Literal["tsne", "tsne_exact", "umap", "pca", "none"]
# Samples that scikit-learn's t-SNE takes minutes for, where openTSNE takes seconds.
_WITHOUT_OPENTSNE = 20_000
_MOST_TSNE = 3  # of its tree of cells
_MOST_INTERPOLATED = 2
# Samples from which several threads are faster than one.
_MANY = 2_000
# UMAP starts from eigenvectors, and fewer samples have too few of them.
_LEAST_UMAP = 4
_EXAGGERATED, _ITERATIONS, _SAID_EVERY = tsne.EXAGGERATED, 500, 50

progress = logging.getLogger("jaxclust.progress")


def check_reducer(reducer: Reducer, n: int, dimensions: int = 2) -> None:
    """Refuse what :func:`reduce` could not do with n samples, before any work.

    Raises:
        InputError: the reducer's library is missing, the samples are too few or the
            dimensions too many.
    """
    if reducer == "tsne" and dimensions > _MOST_TSNE:
        raise InputError(
            f"t-SNE makes at most {_MOST_TSNE} ‹dimensions›, not {dimensions}; take tsne_exact, "
            "umap or pca"
        )
    if reducer == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError("reducer umap needs umap-learn; pip install 'jaxclust[umap]'")
    if reducer == "umap" and n < _LEAST_UMAP:
        raise InputError(f"UMAP needs at least {_LEAST_UMAP} images, not {n}; take pca or tsne")
    if reducer == "tsne" and n > _WITHOUT_OPENTSNE and importlib.util.find_spec("openTSNE") is None:
        raise InputError(
            f"t-SNE of {n:,} images needs openTSNE; pip install 'jaxclust[tsne]', or take at most "
            f"{_WITHOUT_OPENTSNE:,} images with ‹limit›"
        )


def reduce(
    x: np.ndarray, reducer: Reducer, seed: int, dimensions: int = 2, neighbours: int = 30
) -> np.ndarray:
    """Reduce x[n, d] to few dimensions -> float32 [n, dimensions].

    The same samples and seed give the same result on the same machine. Fewer than 2,000 samples are
    reduced on one thread, more on one per core. There, machines with other numbers of cores may
    differ in the last bits, and t-SNE's maps by what grows from those.

    Args:
        x: samples, float [n, d]; "tsne" and "umap" also take fewer columns than dimensions.
        reducer: tsne (van der Maaten & Hinton 2008; openTSNE where installed, else
            scikit-learn); tsne_exact (tsne.py, for accelerators); umap (McInnes et al.
            2018); pca; none: x itself.
        seed: of everything random.
        dimensions: of the result; at most n and d for pca.
        neighbours: t-SNE's perplexity, UMAP's neighbours; lowered for few samples.

    Raises:
        RunError: samples that are not finite or, unless the reducer is none, all alike;
            or a library that fails on them for its own reasons.
    """
    if reducer == "none":
        samples.check_finite(x, "latents")
        return np.asarray(x, np.float32)
    samples.check_spread(x, "latents")
    x = samples.in_range(np.asarray(x))
    try:
        with samples.quiet(), samples.fewer_threads(len(x), _MANY) as threads:
            found = _reduced(x, reducer, seed, dimensions, neighbours, threads)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise RunError(f"{_NAMES[reducer]} failed: {first_line(error)}") from error
    found = np.asarray(found, np.float32)
    if not np.isfinite(found).all():
        raise RunError(f"{_NAMES[reducer]} produced no finite map; take another reducer")
    return found


_NAMES = {"tsne": "t-SNE", "tsne_exact": "t-SNE", "umap": "UMAP", "pca": "PCA"}


def _reduced(
    x: np.ndarray, reducer: Reducer, seed: int, dimensions: int, neighbours: int, threads: int
) -> Any:
    """:func:`reduce` of samples that have been checked -> float [n, dimensions]."""
    n = len(x)
    if reducer == "pca":
        from sklearn.decomposition import PCA

        return PCA(min(dimensions, *x.shape), random_state=seed).fit_transform(x)
    if reducer == "umap":
        return _umap(x, seed, dimensions, min(neighbours, n - 1))
    x, perplexity = samples.widened(x, dimensions, seed), max(1, min(neighbours, (n - 1) // 3))
    if reducer == "tsne_exact":
        return _exact_tsne(x, seed, dimensions, perplexity)
    if importlib.util.find_spec("openTSNE") is None:
        return _tsne_of_scikit_learn(x, seed, dimensions, perplexity, threads)
    return _open_tsne(x, seed, dimensions, perplexity, threads)


def _umap(x: np.ndarray, seed: int, dimensions: int, neighbours: int) -> Any:
    from umap import UMAP

    # Its spectral initialisation needs more samples than it takes eigenvectors.
    first = "spectral" if len(x) > dimensions + 2 else "random"
    return UMAP(
        n_components=dimensions, n_neighbors=neighbours, init=first, random_state=seed, n_jobs=1
    ).fit_transform(x)


def _tsne_of_scikit_learn(
    x: np.ndarray, seed: int, dimensions: int, perplexity: int, threads: int
) -> Any:
    from sklearn.manifold import TSNE

    return TSNE(
        dimensions, perplexity=perplexity, init="pca", random_state=seed, n_jobs=threads
    ).fit_transform(x)


def _open_tsne(x: np.ndarray, seed: int, dimensions: int, perplexity: int, threads: int) -> Any:
    import openTSNE

    done = 0

    def say(iteration: int, error: float, embedding: object) -> None:
        nonlocal done
        del iteration, embedding  # it restarts counting in each of the two stages
        done += _SAID_EVERY
        _say(done, _EXAGGERATED + _ITERATIONS, error)

    # What it would lower it to anyway, with a message to the user; then not a whole number.
    fitting: Any = min(perplexity, (len(x) - 1) / 3)
    return openTSNE.TSNE(
        n_components=dimensions,
        perplexity=fitting,
        # Left to itself, it interpolates from 10,000 samples on, in any number of dimensions.
        negative_gradient_method="bh" if dimensions > _MOST_INTERPOLATED else "auto",
        early_exaggeration_iter=_EXAGGERATED,
        n_iter=_ITERATIONS,
        n_jobs=threads,
        random_state=seed,
        callbacks=say,
        callbacks_every_iters=_SAID_EVERY,
    ).fit(x)


def _exact_tsne(x: np.ndarray, seed: int, dimensions: int, perplexity: int) -> Any:
    from sklearn.decomposition import PCA

    first = PCA(min(dimensions, len(x)), random_state=seed).fit_transform(x)
    # Small, as the published schedule wants it.
    state = tsne.start(jnp.asarray(1e-4 * first / first[:, 0].std(), jnp.float32))
    samples = jnp.asarray(x, jnp.float32)
    found = device.jit(tsne.affinities)(samples, float(perplexity))
    descend = device.jit(tsne.descend, static_argnums=3)
    total = _EXAGGERATED + _ITERATIONS
    while int(state.iteration) < total:
        state = descend(state, samples, found, _SAID_EVERY)
        _say(int(state.iteration), total, float(state.divergence))
    return state.y


def _say(iteration: int, total: int, divergence: float) -> None:
    progress.info("t-SNE iteration %d of %d, KL divergence %.3f", iteration, total, divergence)
