"""What a run clusters (images, or an encoder's features of them), and into how many clusters."""

import sys
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import numpy as np

from jaxclust.clustering.host import cluster_count
from jaxclust.clustering.host.cluster_count import Curve
from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.core.types import DataSpec
from jaxclust.data import catalogue
from jaxclust.images.descriptors import Descriptor, describe
from jaxclust.images.normalisation import measure, normalise
from jaxclust.methods import registry
from jaxclust.models.encoders import frozen
from jaxclust.models.encoders.frozen import Frozen
from jaxclust.runs import embedding
from jaxclust.runs.options import Options
from jaxclust.training.assemble import check_n_clusters

# Images described at a time.
_BLOCK = 500
# The number of clusters for a method that finds its own: only its latent is as wide, as DEC's is.
_OWN_NUMBER = 10


class Found(NamedTuple):
    """What a run clusters."""

    image_set: catalogue.ImageSet
    n_clusters: int
    curve: Curve | None  # if the number was searched for
    config: Any  # the method's settings, with the features' spaces filled in


def find(options: Options, config: Any, begun: dict[str, Any]) -> Found:
    """Load the images, encode them if an encoder is named, choose the number of clusters.

    Args:
        options: of the run.
        config: the method's settings.
        begun: the record of the run to resume, which keeps its number of clusters; else empty.

    Raises:
        InputError: no usable images, a method that does not take them, or no number of clusters.
    """
    encoder = None if options.encoder is None else frozen.load(options.encoder, options.precision)
    image_set = _load(options, encoder)
    if image_set.spaces and getattr(config, "spaces", ()) is None:
        config = replace(config, spaces=image_set.spaces)
    if len(image_set.ids) < 2:
        raise InputError(f"{options.dataset} holds one image; there is nothing to cluster")
    features = encoder is not None or _has_features(image_set, config)
    counts = _asked(options, image_set, config, features=features)
    if encoder is not None:
        image_set = _encoded(options, config, image_set, encoder, counts[0])
    if "cluster_count" in begun and _keeps_to_it(options, counts):
        curve = Curve(**begun["cluster_count"])
        return Found(image_set, curve.chosen, curve, config)
    if len(counts) == 1:
        return Found(image_set, counts[0], None, config)
    # Processes on other machines might find another number: all use the first one's.
    if options.process_id != 0:
        chosen = int(processes.largest_of_processes(np.zeros(1, np.int64))[0])
        return Found(image_set, chosen, None, config)
    encoded = _are_features(image_set)
    curve = cluster_count.curve(_features(image_set, config), counts, encoded=encoded)
    processes.largest_of_processes(np.array([curve.chosen]))
    if not options.quiet:
        print(
            f"clusters: {curve.chosen} by silhouette in the {curve.place()} of {counts[0]} to "
            f"{counts[-1]}; next best {curve.next_best}; HDBSCAN finds {curve.hdbscan}",
            file=sys.stderr,
        )
    return Found(image_set, curve.chosen, curve, config)


def _keeps_to_it(options: Options, counts: list[int]) -> bool:
    """Whether a run goes on with the number it found; it may have searched where labels tell one,
    as an earlier version did."""
    return len(counts) > 1 or options.n_clusters is None


def _descriptor(config: Any) -> Descriptor | None:
    """How a classical method describes images; None for a method that learns features."""
    kind = getattr(config, "features", None)
    return kind if kind in get_args(Descriptor) else None


def _are_features(image_set: catalogue.ImageSet) -> bool:
    """Whether the set holds features [n, d] in place of images."""
    return len(image_set.images.shape) == 2


def _has_features(image_set: catalogue.ImageSet, config: Any) -> bool:
    """Whether there are features in which to search for the number of clusters."""
    return _are_features(image_set) or _descriptor(config) is not None


def _asked(
    options: Options, image_set: catalogue.ImageSet, config: Any, *, features: bool
) -> list[int]:
    """The numbers of clusters to choose from; just one if it is given, or if none is used."""
    said, n = options.n_clusters, len(image_set.ids)
    if said is None:
        said = image_set.n_classes
    if getattr(config, "finds_number", False) and said in {None, "auto"}:
        return [min(_OWN_NUMBER, n)]
    if said is None and features:
        said = "auto"
    if said is None:
        raise InputError(
            f"{options.dataset} does not say how many clusters to look for; give ‹n_clusters›"
        )
    counts = cluster_count.asked(said, n)
    check_n_clusters(counts[-1], n)
    if len(counts) > 1 and not features:
        raise InputError(
            f"‹n_clusters› {said} needs features to find the number, but {options.method} learns "
            "its own; give a number, or an ‹encoder›"
        )
    return counts


def _features(image_set: catalogue.ImageSet, config: Any) -> np.ndarray:
    """The features in which to search for the number of clusters, float [n, d]."""
    images = image_set.images
    if _are_features(image_set):
        return images
    kind = _descriptor(config)
    assert kind is not None
    rows = np.linspace(0, len(images) - 1, min(len(images), cluster_count.MOST_SAMPLES)).astype(int)
    normalisation = measure(images)
    blocks = np.array_split(rows, max(1, len(rows) // _BLOCK))
    return np.concatenate(
        [np.asarray(describe(normalise(images[block], normalisation), kind)) for block in blocks]
    )


def _encoded(
    options: Options, config: Any, image_set: catalogue.ImageSet, encoder: Frozen, k: int
) -> catalogue.ImageSet:
    """The images' features; a method that cannot take features is refused first."""
    if options.num_processes > 1:
        raise InputError(
            "an ‹encoder› works in one process only; write features with jaxclust embed, and give "
            "them as features:PATH"
        )
    if options.image_size is not None:
        raise InputError("an ‹encoder› has an image size of its own; leave out ‹image_size›")
    spec = DataSpec(len(image_set.ids), (encoder.width,), k)
    registry.find(options.method).build(config, spec)
    quiet = options.quiet or options.process_id != 0
    return embedding.encoded(image_set, encoder, embedding.telling(quiet))


def _load(options: Options, encoder: Frozen | None) -> catalogue.ImageSet:
    return catalogue.load(
        options.dataset,
        options.data_dir or catalogue.default_data_dir(),
        image_size=options.image_size,
        labels_from_folders=options.labels_from_folders,
        limit=options.limit,
        imbalance=options.imbalance,
        seed=options.seed,
        in_memory=int(options.in_memory * 1e9),
        max_megapixels=options.max_megapixels,
        view=None if encoder is None else embedding.view_of(encoder),
    )
