"""DAC's settings (Chang et al. 2017), the presets, and what they must satisfy."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from jaxclust.clustering import thresholds
from jaxclust.core import settings
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
from jaxclust.images.augment import Affine, Augmentation

# The published code takes the nearest pixel, zooms rows and columns independently, multiplies the
# values of a finished view ("rescale") and keeps shifted values between the view's own extremes.
# Its values span a range of one, with a standard deviation of 0.31 for MNIST and about 0.25 for
# photographs; ours have unit standard deviation.
_MNIST, _PHOTOGRAPHS = 1 / 0.308, 1 / 0.25


def _views(
    rotation: float, shift: float, zoom: float, unit: float, channel_shift: float, factor: float
) -> Augmentation:
    return Augmentation(
        Affine(rotation, shift, zoom, zoom_per_axis=True, resampling="nearest"),
        channel_shift=channel_shift * unit,
        clip_shift=True,
        value_factor=factor,
    )


_DIGITS = _views(10.0, 0.1, 0.05, _MNIST, 0.05, 0.975)
_VIEWS_A = replace(_views(10.0, 0.1, 0.05, _PHOTOGRAPHS, 0.05, 0.975), flip=True)
_VIEWS_B = replace(_views(20.0, 0.18, 0.15, _PHOTOGRAPHS, 0.1, 0.95), flip=True)


@dataclass(frozen=True)
class Config:
    """DAC's settings; the defaults are preset `reference`, the published code's for MNIST."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(20, least=0)
    """Epochs (the paper's outer epochs); None: set by `updates`, or without it as many as adaptive
    thresholds take to cross, 46. With those thresholds there are never more."""
    updates: int | None = setting(None, least=1)
    """If no epochs are given: 40, or on a large data set as many as this number of updates
    needs."""
    network: Literal["auto", "mnist", "cifar1", "cifar2", "stl", "dog"] = "auto"
    """A published network; auto: by the images' shorter side, mnist under 32 pixels, cifar2 under
    90, stl from there on."""
    draw_size: int = setting(1000, least=1)
    """Images whose targets are fixed together (the paper's m)."""
    draws: Literal["fixed", "shuffled"] = "fixed"
    """fixed: every epoch has the same draws, in the same order; shuffled: every epoch has its
    own."""
    batch_size: int = setting(128, least=1)
    """Images per update, compared in pairs."""
    last_batch: Literal["short", "filled", "dropped"] = "short"
    """The last batch of a pass, when fewer images are left: short: used as it is, unless it is a
    single image; filled: filled up from the pass's start; dropped: left out."""
    inner_passes: int = setting(5, least=1)
    """Passes over a draw before the next one."""
    views_per_batch: int = setting(1, least=1)
    """Updates per batch, each with its own views."""

    thresholds: Literal["adaptive", "linear"] = "linear"
    """adaptive: u = 0.95 - lambda and l = 0.455 + 0.1 lambda, lambda by Eq. 12.
    linear: u and l run from their first to their last value over the epochs."""
    lambda_rate: float = setting(0.009, above=0)
    """Learning rate of lambda, for adaptive thresholds."""
    upper: tuple[float, float] = (0.9, 0.5)
    """First and last u of linear thresholds."""
    lower: tuple[float, float] | None = None
    """First and last l of linear thresholds; None: l = u, so that every pair is used."""

    loss: Literal["bce", "squared_error", "absolute_error"] = "squared_error"
    """Loss of the selected pairs: cross-entropy (Eq. 2), or the published code's for MNIST, or for
    CIFAR-10."""
    self_label_weight: float = setting(0.0, least=0)
    """Weight of the outputs' cross-entropy against the outputs before the inner passes."""
    self_label: Literal["softmax", "label_features", "mixed"] = "softmax"
    """What that term compares; mixed: the softmax with the earlier label features, as the published
    code does for CIFAR-100."""
    entropy_weight: float = setting(0.0, least=0)
    """Weight of the entropy term (low for each image's output, high for their mean), which keeps
    clusters from merging (Bridle et al. 1992; ICS's Eq. 6). Not in the paper."""
    target_statistics: Literal["running", "batch"] = "batch"
    """Batch-norm statistics the targets are computed with; predictions always use
    running ones, so that no image's label depends on the others. An untrained network has no
    running ones yet: nearly all pairs then count as alike, and clusters merge."""
    target_batch: int | None = setting(32, least=1)
    """Images whose targets are computed together, which matters for batch statistics; None: the
    whole draw."""

    learning_rate: float = setting(1e-3, above=0)
    """RMSprop's learning rate."""
    restart_optimiser: bool = False
    """Forget RMSprop's averages at every outer epoch."""
    views: Augmentation = _DIGITS
    """Random views the network is trained on; targets come from the plain images."""

    def short_of(self, draw: int, batch: int) -> int:
        """Images in a pass's last batch if it is smaller than the others; else 0."""
        left = draw % batch
        # Batch norm makes a constant of a single image.
        return left if self.last_batch == "short" and left > 1 else 0

    def batches_of(self, draw: int, batch: int) -> int:
        """Batches of so many images per pass over a draw."""
        one_more = self.short_of(draw, batch) or (self.last_batch == "filled" and draw % batch)
        return draw // batch + bool(one_more)


_CIFAR = Config(
    epochs=50,
    draws="shuffled",
    batch_size=32,
    last_batch="dropped",
    inner_passes=10,
    views_per_batch=2,
    upper=(0.99, 0.895),
    lower=(0.8, 0.895),
    # There a pair costs -log(1e-7) times the difference, and the sum over the pairs is divided by
    # their number and by the batch's 32 rows; RMSprop takes no notice of a common factor.
    loss="absolute_error",
    self_label_weight=32 / -math.log(1e-7),
    restart_optimiser=True,
    views=replace(_VIEWS_A, affine=replace(_VIEWS_A.affine, shift=0.09)),
)
_NATURAL = replace(
    _CIFAR,
    upper=(0.99, 0.75),
    lower=None,
    loss="bce",
    self_label_weight=10.0,
    self_label="label_features",
    restart_optimiser=False,
    views=_VIEWS_A,
)

_USUAL = 40  # epochs

# New draws for every epoch, and targets that do not depend on their order.
_OWN = Config(draws="shuffled", target_batch=None, last_batch="filled")

PRESETS: dict[str, Config] = {
    # Targets are renewed after every pass, and pairs the network is unsure of are left out: what it
    # settles on in its first passes is hard to undo later. The entropy keeps clusters from merging,
    # and of several starts one has usually found them all.
    "best": replace(
        _OWN,
        starts=4,
        epochs=None,
        updates=4000,
        inner_passes=1,
        upper=(0.98, 0.9),
        lower=(0.6, 0.9),
        entropy_weight=0.05,
    ),
    # Algorithm 1; the paper gives no number of inner passes; one is used.
    "paper": replace(_OWN, epochs=None, inner_passes=1, thresholds="adaptive", loss="bce"),
    "reference": Config(),
    "reference_cifar10": _CIFAR,
    "reference_cifar100": replace(_NATURAL, network="cifar1", views=_VIEWS_B, self_label="mixed"),
    "reference_stl10": replace(_NATURAL, epochs=75, upper=(0.99, 0.5)),
    "reference_imagenet": _NATURAL,
    "reference_dog": replace(_NATURAL, network="dog"),
}


def check(config: Config) -> None:
    """Raise InputError for settings that contradict each other."""
    settings.check(config)
    lower = config.upper if config.lower is None else config.lower
    ends = zip(lower, config.upper, strict=True)
    if config.thresholds == "linear" and any(low > high + 1e-9 for low, high in ends):
        raise InputError("the lower threshold must not exceed the upper one; set ‹lower›")


def fit_to_set(config: Config, n_images: int) -> Config:
    """The settings with draw and batches no larger than the set, and a number of epochs."""
    draw = min(config.draw_size, n_images)
    batch = min(config.batch_size, draw)
    target = None if config.target_batch is None else min(config.target_batch, draw)
    epochs = config.epochs
    if epochs is None and config.updates is not None:
        a_draw = config.batches_of(draw, batch) * config.inner_passes * config.views_per_batch
        an_epoch = -(-n_images // draw) * a_draw
        epochs = min(_USUAL, -(-config.updates // an_epoch))
    return replace(config, epochs=epochs, draw_size=draw, batch_size=batch, target_batch=target)


def schedule_of(config: Config) -> tuple[thresholds.Schedule, int]:
    """The thresholds' schedule and the number of epochs.

    Algorithm 1 ends where adaptive thresholds cross; linear ones take as many epochs if neither the
    settings nor :func:`fit_to_set` give a number.
    """
    crossing = thresholds.epochs_until_crossing(thresholds.adaptive(config.lambda_rate))
    epochs = crossing if config.epochs is None else config.epochs
    if config.thresholds == "adaptive":
        return thresholds.adaptive(config.lambda_rate), min(epochs, crossing)
    return thresholds.linear(epochs, config.upper, config.lower), epochs
