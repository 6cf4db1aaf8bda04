"""Settings of DEC's family and their presets."""

from dataclasses import dataclass, replace

from jaxclust.core.settings import setting
from jaxclust.images.augment import Affine, Augmentation
from jaxclust.methods.parts import autoencoding

# Digits are not mirrored.
DIGIT_VIEWS = Augmentation(
    Affine(rotation=15.0, shift=0.1, zoom=0.15, shear=0.2),
    brightness=0.1,
    contrast=0.2,
    erasing=0.25,
)


@dataclass(frozen=True)
class Config:
    """Settings of DEC's family; the defaults are DEC's."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int = setting(40, least=0)
    """Epochs of clustering; 0: k-means on the latents."""
    batch_size: int = setting(256, least=1)
    """Images per step, in pre-training too."""
    network: autoencoding.Name = "dense"
    """dense: DEC's; shallow and deep: ICS's, three and five pooled convolutions; strided:
    DERC's, strided_valid without padding; variational: shallow with a Gaussian latent; sparse: one
    layer of rarely active units; what_where: two pooled convolutions, with the places of their
    maxima passed to the decoder."""
    latent_width: int = setting(10, least=1)
    """Width of the latent that is clustered; of what_where, channels of the last maps, which are
    the latent."""

    pretrain_epochs: int | None = setting(50, least=0)
    """Epochs of reconstruction pre-training; None: 30, or on a small data set as many as
    `pretrain_steps` needs."""
    pretrain_steps: int = setting(1000, least=0)
    """Minimum steps of pre-training if no epochs are given."""
    pretrain_augmented: bool = False
    """Pre-train on random affine views, with the ranges of `views`."""
    noise: float = setting(0.0, least=0)
    """Standard deviation of the noise on pre-training's input (denoising autoencoder)."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate, in both phases."""

    clustering_weight: float = setting(1.0, least=0)
    """Weight of KL(p || q), q the Student-t assignments, p their target distribution."""
    power: tuple[float, float] = (2.0, 2.0)
    """First and last power of q in the target distribution; DEC's is 2 (Eq. 3)."""
    reconstruction_weight: float = setting(0.0, least=0)
    """Weight of the reconstruction error; 0: the decoder is not used (DEC)."""
    per_pixel: bool = True
    """Average clustering's reconstruction error over an image's values instead of summing."""
    cluster_augmented: bool = False
    """Train on random views, with the ranges of `views`, instead of the images, towards the targets
    of the plain images (Guo et al. 2018)."""
    refresh_every: int = setting(1, least=1)
    """Epochs between updates of the target distribution."""
    tolerance: float = setting(0.001, least=0, most=1)
    """Stop once less than this fraction of the assignments changes between two updates."""
    views: Augmentation = DIGIT_VIEWS
    """Random views, where the method uses any."""


# Random views and enough steps (Guo et al. 2018). The images clustered are sharp, so views must be
# sharp too.
_VIEWS = Config(
    epochs=60,
    pretrain_epochs=None,
    pretrain_steps=6000,
    pretrain_augmented=True,
    cluster_augmented=True,
    views=replace(DIGIT_VIEWS, affine=replace(DIGIT_VIEWS.affine, resampling="nearest")),
)
_AE = Config(epochs=0)
# 50 epochs of the digits are only 400 steps.
_STEPS = replace(_AE, pretrain_epochs=None)
PRESETS: dict[str, dict[str, Config]] = {
    "dec": {"best": _VIEWS, "paper": Config()},
    # The published weight 0.1 is for the clustering loss against a mean over pixels.
    "idec": {
        "best": replace(_VIEWS, clustering_weight=0.1, reconstruction_weight=1.0),
        "paper": Config(clustering_weight=0.1, reconstruction_weight=1.0),
    },
    # Its paper speaks of gradually boosted targets. The schedule is ours; it must not end early.
    "dbc": {
        name: replace(config, network="strided", power=(2.0, 4.0), tolerance=0.0)
        for name, config in (("best", _VIEWS), ("paper", Config()))
    },
    "ae_kmeans": {"best": _AE, "paper": _AE},
    "dae": {name: replace(_STEPS, network="strided") for name in ("best", "paper")},
    "denoising_ae_kmeans": {name: replace(_AE, noise=0.5) for name in ("best", "paper")},
    # After 400 steps its squared error is 0.33 a pixel of unit variance; after 4,000 it is 0.02.
    "sae_kmeans": {
        name: replace(_STEPS, network="sparse", latent_width=200, pretrain_steps=4000)
        for name in ("best", "paper")
    },
    "decnn_kmeans": {name: replace(_STEPS, network="strided") for name in ("best", "paper")},
    "swwae_kmeans": {
        name: replace(_STEPS, network="what_where", latent_width=32) for name in ("best", "paper")
    },
    "vae_kmeans": {name: replace(_AE, network="variational") for name in ("best", "paper")},
}


def without_views(config: Config) -> Config:
    """The settings for features, which have no views."""
    return replace(config, pretrain_augmented=False, cluster_augmented=False)
