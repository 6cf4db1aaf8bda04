"""CCNN's settings (Hsu & Lin 2017), the presets, and what they must satisfy."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxclust.clustering.kmeans import Seeding
from jaxclust.core import settings
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
from jaxclust.images.augment import Affine

# Of conv6 and conv7 in Fig. 1.
ADAPTATION_WIDTHS = (6144, 2048)
# The nearest pixel: pseudo-labels come from sharp images, so views must be sharp too.
_VIEWS = Affine(15.0, 0.1, 0.15, 0.2, resampling="nearest")


@dataclass(frozen=True)
class Config:
    """CCNN's settings; the defaults are preset `best`."""

    starts: int = setting(4, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int = setting(20, least=0)
    """Epochs of clustering."""
    batch_size: int = setting(200, least=1)
    """Images per mini-batch."""
    network: Literal["auto", "lenet", "alexnet", "alexnet_dense"] = "auto"
    """lenet: the paper's Fig. 4; alexnet: Fig. 1, on images resized to 224;
    alexnet_dense: AlexNet's own fully connected head (Table V). auto: lenet under 64 pixels,
    otherwise alexnet."""
    adaptation_widths: tuple[int, int] | None = None
    """Widths of the first two adaptation layers (conv6 and conv7, Fig. 1); the third has the number
    of clusters, and each channel's maximum goes on. None: 6144 and 2048 on network alexnet, and
    none on a weights file's network, whose averaged last map is then the feature."""
    feature_width: int | None = setting(None, least=1)
    """Width of the feature that is clustered; default the number of clusters, or with a weights
    file and no adaptation layers its network's own width, since a random layer would blur its
    features."""
    rectify_features: bool = False
    """ReLU on the feature, as in the paper."""
    output: Literal["relu", "softmax"] = "softmax"
    """Non-linearity of the output: relu (Eqs. 4-6) or softmax (Figs. 1 and 3)."""

    init: str = "autoencoder"
    """The network clustering starts from: autoencoder (reconstruction training first),
    random, or a weights file (.safetensors, .npz, .pth) of AlexNet, VGG-16 or a ResNet with
    torchvision's names, MobileNet-v1 with Keras's or EfficientNet-Lite 0 to 2 with its PyTorch
    package's. That network then sees images resized as its weights expect, usually to 224."""
    frozen_statistics: bool = True
    """Keep a weights file's batch-norm statistics during fine-tuning, so that the network that is
    tuned is the one that extracts features (as it is in AlexNet, which has no batch norm).
    Otherwise it is tuned with each batch's statistics."""
    pretrain_epochs: int = setting(20, least=0)
    """Epochs of the autoencoder's reconstruction training."""
    pretrain_learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate in pre-training."""

    learning: Literal["joint", "minibatch_kmeans", "kmeans"] = "joint"
    """joint: the method. minibatch_kmeans (Baseline-II) and kmeans (Baseline-III)
    cluster the initial network's features and train nothing."""
    features: Literal["feature_layer", "backbone"] = "feature_layer"
    """What the two frozen baselines cluster: the feature layer (FC9) or the
    backbone's map averaged over positions."""
    seeding: Seeding = "kmeans++"
    """k-means++ (Sec. III.C) or uniform (Table I)."""
    initial_kmeans: bool = True
    """Run full k-means from the seeds before training."""
    fit_output: bool = True
    """Fit the output layer to the first pseudo-labels before training."""
    normalise_features: bool = True
    """Cluster features of unit length."""

    k_m: int = setting(160, least=1)
    """Samples of each mini-batch that are trusted (the paper's top-k_m)."""
    n_m: int = setting(160, least=1)
    """Trusted samples a fine-tuning step needs; a multiple of k_m."""
    balanced: bool = True
    """Choose trusted samples in turn from every cluster, not by distance alone."""
    centroid_update: Literal["minibatch", "finetune"] = "minibatch"
    """Move centroids on every mini-batch (Sec. III.C) or only when fine-tuning, by
    the samples fine-tuned on (Table I)."""
    max_count: float | None = setting(50.0, least=1)
    """Cap on the counts that set the centroids' learning rate; None is Eq. 12."""

    compensation: Literal["rollback", "none"] = "rollback"
    """Feature-drift compensation (Eqs. 13-14); none is Baseline-I."""
    rollback_scope: Literal["network", "feature_layer"] = "network"
    """Roll back the whole network or the feature layer alone (W_FC9)."""
    rollback_path: Literal["fast", "explicit"] = "fast"
    """For the whole network: reuse the features extracted before the update, or
    subtract the update and extract them again."""

    optimiser: Literal["adam", "sgd"] = "adam"
    """Optimiser of fine-tuning; sgd has momentum 0.9."""
    learning_rate: float | None = setting(None, above=0)
    """Learning rate of fine-tuning; default 3e-4, or 1e-5 with a weights file, where ten times that
    emptied all clusters but one (MobileNet-v1, Adam)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate changes over the epochs; cosine ends at zero."""
    dropout: float = setting(0.5, least=0, most=0.99)
    """Dropout rate on the wide layers of the AlexNet-size networks."""
    views: Affine = _VIEWS
    """Random views the networks are trained on; pseudo-labels and centroids always
    come from the plain images."""
    labels: Literal["centroid", "output"] = "output"
    """How final labels are read: nearest centroid or largest output."""


PRESETS: dict[str, Config] = {
    "best": Config(),
    "paper": Config(
        starts=1,
        epochs=10,
        batch_size=50,
        rectify_features=True,
        output="relu",
        seeding="uniform",
        initial_kmeans=False,
        fit_output=False,
        normalise_features=False,
        k_m=10,
        n_m=50,
        balanced=False,
        centroid_update="finetune",
        max_count=None,
        optimiser="sgd",
        # The paper gives none; this is the usual rate for fine-tuning an AlexNet. At this rate,
        # networks that were trained with batch norm need each batch's statistics.
        learning_rate=1e-3,
        frozen_statistics=False,
        schedule="constant",
        views=Affine(),
        labels="centroid",
        adaptation_widths=ADAPTATION_WIDTHS,
    ),
}


def weights_file(config: Config) -> Path | None:
    """The file that `init` names, if it names one."""
    return None if config.init in {"autoencoder", "random"} else Path(config.init).expanduser()


def has_feature_layer(config: Config) -> bool:
    """Whether a layer of its own makes the feature, not the network of a weights file."""
    added = config.feature_width is not None or config.adaptation_widths is not None
    return added or weights_file(config) is None


def fine_tuning_rate(config: Config) -> float:
    """The learning rate set, or its default."""
    if config.learning_rate is not None:
        return config.learning_rate
    return 3e-4 if weights_file(config) is None else 1e-5


def check(config: Config) -> None:
    """Raise InputError for settings that contradict each other."""
    settings.check(config)
    if weights_file(config) and config.network != "auto":
        raise InputError("a weights file brings its own network; leave out ‹network›")
    if config.features == "backbone" and config.learning == "joint":
        raise InputError(
            "‹features› backbone is for the frozen baselines; set ‹learning› kmeans or "
            "minibatch_kmeans, or leave ‹features› at feature_layer"
        )
    if config.adaptation_widths is not None and min(config.adaptation_widths) < 1:
        widths = " ".join(map(str, config.adaptation_widths))
        raise InputError(f"‹adaptation_widths› must each be at least 1, not {widths}")
    if config.rollback_scope == "feature_layer" and not has_feature_layer(config):
        raise InputError(
            "‹rollback_scope› feature_layer needs a feature layer, which the network of a weights "
            "file has only with a ‹feature_width› or ‹adaptation_widths›; give one"
        )
    if not 1 <= config.k_m <= config.batch_size:
        raise InputError(
            f"‹k_m› must lie between 1 and ‹batch_size› ({config.batch_size}), not {config.k_m}; "
            "lower ‹k_m› or raise ‹batch_size›"
        )
    if config.n_m < config.k_m or config.n_m % config.k_m:
        raise InputError(f"‹n_m› must be a multiple of ‹k_m› ({config.k_m}), not {config.n_m}")


def fit_to_batch(config: Config, n_images: int) -> Config:
    """The settings with k_m and n_m scaled down to a set smaller than the batch."""
    if config.batch_size <= n_images:
        return config
    k_m = max(1, config.k_m * n_images // config.batch_size)
    return replace(config, batch_size=n_images, k_m=k_m, n_m=k_m * max(1, config.n_m // config.k_m))
