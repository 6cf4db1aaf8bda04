"""The methods by name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.core.types import Compute, DataSpec, Method
from jaxclust.methods import ccnn, classical, dac, dec, derc, ics, plain_kmeans


@dataclass(frozen=True)
class Registered:
    """A method, or an ablation of one: the same build with settings changed."""

    build: Callable[[Any, DataSpec, Compute], Method]
    presets: dict[str, Any]
    about: str
    changes: dict[str, Any] = field(default_factory=dict)

    def config(self, preset: str) -> Any:
        """A preset's settings; InputError for an unknown preset."""
        if preset not in self.presets:
            raise InputError(f"unknown preset '{preset}'; {nearest_name(preset, self.presets)}")
        return replace(self.presets[preset], **self.changes)


def _ccnn(about: str, **changes: Any) -> Registered:
    return Registered(ccnn.build, ccnn.PRESETS, about, changes)


METHODS: dict[str, Registered] = {
    "ccnn": _ccnn("joint CNN and mini-batch k-means with feature-drift compensation"),
    "ccnn_baseline1": _ccnn("CCNN without compensation (Baseline-I)", compensation="none"),
    "ccnn_baseline2": _ccnn(
        "mini-batch k-means on the initial network's features (Baseline-II)",
        learning="minibatch_kmeans",
        initial_kmeans=False,
        max_count=None,
        labels="centroid",
    ),
    "ccnn_baseline3": _ccnn(
        "full-set k-means on the initial network's features (Baseline-III)",
        learning="kmeans",
        labels="centroid",
    ),
    "dac": Registered(dac.build, dac.PRESETS, "deep adaptive clustering: pairwise classification"),
    "dac_star": Registered(
        dac.build,
        dac.PRESETS,
        "DAC with one threshold for alike and different, falling linearly (DAC*)",
        {"thresholds": "linear", "upper": (0.95, 0.5), "lower": None},
    ),
    "ics": Registered(ics.build, ics.PRESETS, "inter-class separation in an autoencoder's latents"),
    "derc": Registered(
        derc.build, derc.PRESETS, "autoencoder, t-SNE and Gaussian mixture, retrained by triplets"
    ),
    "derc_r": Registered(
        derc.build, derc.PRESETS, "DERC without retraining (DERC-R)", {"iterations": 0}
    ),
    "dae": Registered(
        dec.build,
        dec.PRESETS["dae"],
        "k-means on the latents of DERC's autoencoder (DAE)",
    ),
    "dec": Registered(
        dec.build, dec.PRESETS["dec"], "deep embedded clustering: self-sharpened assignments"
    ),
    "idec": Registered(
        dec.build, dec.PRESETS["idec"], "DEC that keeps reconstructing (improved DEC)"
    ),
    "ae_kmeans": Registered(
        dec.build, dec.PRESETS["ae_kmeans"], "k-means on an autoencoder's latents"
    ),
    "denoising_ae_kmeans": Registered(
        dec.build,
        dec.PRESETS["denoising_ae_kmeans"],
        "k-means on a denoising autoencoder's latents",
    ),
    "vae_kmeans": Registered(
        dec.build, dec.PRESETS["vae_kmeans"], "k-means on a variational autoencoder's latents"
    ),
    "kmeans": Registered(plain_kmeans.build, plain_kmeans.PRESETS, "full-set k-means"),
    "minibatch_kmeans": Registered(
        plain_kmeans.build,
        plain_kmeans.PRESETS,
        "mini-batch k-means",
        {"full": False, "epochs": 10},
    ),
    "gmm": Registered(
        classical.build_mixture, classical.PRESETS["gmm"], "Gaussian mixture on 50 components"
    ),
    "spectral": Registered(
        classical.build_spectral,
        classical.PRESETS["spectral"],
        "spectral clustering of the nearest-neighbour graph",
    ),
    "agglomerative": Registered(
        classical.build_agglomerative,
        classical.PRESETS["agglomerative"],
        "agglomerative clustering, Ward's linkage",
    ),
    "nmf": Registered(
        classical.build_nmf, classical.PRESETS["nmf"], "non-negative matrix factorisation"
    ),
}


def find(name: str) -> Registered:
    """A registered method; InputError that names the nearest for an unknown one."""
    if name not in METHODS:
        raise InputError(f"unknown method '{name}'; {nearest_name(name, METHODS)}")
    return METHODS[name]
