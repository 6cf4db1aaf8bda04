"""Few dimensions from many, on the host: t-SNE, UMAP, PCA behind one signature."""

import importlib.util
import logging
import os
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import tsne
from jaxclust.core import device
from jaxclust.core.errors import InputError

Reducer = Literal["tsne", "tsne_exact", "umap", "pca", "none"]
# Samples that scikit-learn's t-SNE takes minutes for, where openTSNE takes seconds.
_WITHOUT_OPENTSNE = 20_000
_EXAGGERATED, _ITERATIONS, _SAID_EVERY = tsne.EXAGGERATED, 500, 50

progress = logging.getLogger("jaxclust.progress")


def check_reducer(reducer: Reducer, n: int) -> None:
    """Raise InputError for a reducer whose library is missing."""
    if reducer == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError("reducer umap needs umap-learn; pip install 'jaxclust[umap]'")
    if reducer == "tsne" and n > _WITHOUT_OPENTSNE and importlib.util.find_spec("openTSNE") is None:
        raise InputError(
            f"t-SNE of {n:,} images needs openTSNE; pip install 'jaxclust[tsne]', or take at most "
            f"{_WITHOUT_OPENTSNE:,} images (run --limit)"
        )


def reduce(
    x: np.ndarray, reducer: Reducer, seed: int, dimensions: int = 2, neighbours: int = 30
) -> np.ndarray:
    """x[n, d] in few dimensions -> float32 [n, dimensions].

    Args:
        x: samples, float [n, d].
        reducer: tsne (van der Maaten & Hinton 2008; openTSNE where installed, else
            scikit-learn); tsne_exact (tsne.py, for accelerators); umap (McInnes et al.
            2018); pca; none: x itself.
        seed: of everything random. Threads are as many as the machine has cores.
        dimensions: of the result; at most d for pca.
        neighbours: t-SNE's perplexity, UMAP's neighbours; lowered for few samples.
    """
    n = x.shape[0]
    if reducer == "none":
        return np.asarray(x, np.float32)
    if reducer == "pca":
        from sklearn.decomposition import PCA

        found = PCA(min(dimensions, *x.shape), random_state=seed).fit_transform(x)
    elif reducer == "umap":
        from umap import UMAP

        found = UMAP(
            n_components=dimensions, n_neighbors=min(neighbours, n - 1), random_state=seed, n_jobs=1
        ).fit_transform(x)
    elif reducer == "tsne_exact":
        found = _exact_tsne(x, seed, dimensions, max(1, min(neighbours, (n - 1) // 3)))
    else:
        found = _tsne(x, seed, dimensions, max(1, min(neighbours, (n - 1) // 3)))
    return np.asarray(found, np.float32)


def _tsne(x: np.ndarray, seed: int, dimensions: int, perplexity: int) -> Any:
    if importlib.util.find_spec("openTSNE") is None:
        from sklearn.manifold import TSNE

        reducer = TSNE(
            dimensions,
            perplexity=perplexity,
            init="pca",
            random_state=seed,
            n_jobs=os.cpu_count() or 1,
        )
        return reducer.fit_transform(x)
    import openTSNE

    done = 0

    def say(iteration: int, error: float, embedding: object) -> None:
        nonlocal done
        del iteration, embedding  # it counts each of the two stages anew
        done += _SAID_EVERY
        _say(done, _EXAGGERATED + _ITERATIONS, error)

    return openTSNE.TSNE(
        n_components=dimensions,
        perplexity=perplexity,
        early_exaggeration_iter=_EXAGGERATED,
        n_iter=_ITERATIONS,
        n_jobs=os.cpu_count() or 1,
        random_state=seed,
        callbacks=say,
        callbacks_every_iters=_SAID_EVERY,
    ).fit(x)


def _exact_tsne(x: np.ndarray, seed: int, dimensions: int, perplexity: int) -> Any:
    from sklearn.decomposition import PCA

    first = PCA(dimensions, random_state=seed).fit_transform(x)
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
