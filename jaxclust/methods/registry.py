"""The methods by name: what a name builds, its presets, its estimator."""

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.methods import (
    ac_pic,
    ccnn,
    classical,
    cnn_cm,
    dac,
    dcn,
    dec,
    depict,
    derc,
    gan_kmeans,
    graph_nmf,
    ics,
    imsat,
    jule,
    plain_kmeans,
    sec,
    temi,
    turtle,
    vade,
)
from jaxclust.methods.parts.registered import Registered, entry

_DEC = dec.PRESETS
METHODS: dict[str, Registered] = {
    "ccnn": entry(
        ccnn.build,
        ccnn.PRESETS,
        "joint CNN and mini-batch k-means with feature-drift compensation (Hsu & Lin 2017)",
        "CCNN",
    ),
    "ccnn_baseline1": entry(
        ccnn.build, ccnn.PRESETS, "CCNN without compensation (Baseline-I)", compensation="none"
    ),
    "ccnn_baseline2": entry(
        ccnn.build,
        ccnn.PRESETS,
        "mini-batch k-means on the initial network's features (Baseline-II)",
        learning="minibatch_kmeans",
        initial_kmeans=False,
        max_count=None,
        labels="centroid",
    ),
    "ccnn_baseline3": entry(
        ccnn.build,
        ccnn.PRESETS,
        "full-set k-means on the initial network's features (Baseline-III)",
        learning="kmeans",
        labels="centroid",
    ),
    "dac": entry(
        dac.build,
        dac.PRESETS,
        "deep adaptive clustering: pairwise classification (Chang et al. 2017)",
        "DAC",
    ),
    "dac_star": entry(
        dac.build,
        dac.PRESETS,
        "DAC with one linearly falling threshold for similar and dissimilar (DAC*)",
        thresholds="linear",
        upper=(0.95, 0.5),
        lower=None,
    ),
    "ics": entry(
        ics.build,
        ics.PRESETS,
        "inter-class separation in an autoencoder's latents (Das et al. 2019)",
        "ICS",
    ),
    "derc": entry(
        derc.build,
        derc.PRESETS,
        "autoencoder, t-SNE and Gaussian mixture, retrained on triplets (Yan et al. 2020)",
        "DERC",
    ),
    "derc_r": entry(
        derc.build, derc.WITHOUT_RETRAINING, "DERC without retraining (DERC-R)", "DERCR"
    ),
    "dae": entry(dec.build, _DEC["dae"], "k-means on the latents of DERC's autoencoder (DAE)"),
    "dec": entry(
        dec.build,
        _DEC["dec"],
        "deep embedded clustering: self-sharpened assignments (Xie et al. 2016)",
        "DEC",
    ),
    "idec": entry(
        dec.build, _DEC["idec"], "DEC that keeps reconstructing (Guo et al. 2017)", "IDEC"
    ),
    "dbc": entry(
        dec.build,
        _DEC["dbc"],
        "convolutional DEC whose targets grow sharper (Li, Qiao & Zhang 2018)",
        "DBC",
    ),
    "dcn": entry(
        dcn.build,
        dcn.PRESETS,
        "an autoencoder whose latents are pulled towards k-means centroids (Yang et al. 2017)",
        "DCN",
    ),
    "vade": entry(
        vade.build, vade.PRESETS, "variational deep embedding (Jiang et al. 2017)", "VaDE"
    ),
    "jule": entry(
        jule.build,
        jule.PRESETS,
        "clusters merged bottom-up while a network learns from them (Yang et al. 2016)",
        "JULE",
    ),
    "jule_rc": entry(
        jule.build, jule.PRESETS, "JULE, its final features clustered again (RC)", recluster=True
    ),
    "depict": entry(
        depict.build,
        depict.PRESETS,
        "denoising autoencoder and balanced soft clusters (Dizaji et al. 2017)",
        "DEPICT",
    ),
    "imsat": entry(
        imsat.build,
        imsat.PRESETS,
        "information maximisation, robust to small changes of an image (Hu et al. 2017)",
        "IMSAT",
    ),
    "temi": entry(
        temi.build,
        temi.PRESETS,
        "heads on features, trained so that neighbours share clusters (Adaloglou et al. 2023)",
        "TEMI",
    ),
    "turtle": entry(
        turtle.build,
        turtle.PRESETS,
        "labels that linear classifiers learn easily from features (Gadetsky et al. 2024)",
        "TURTLE",
    ),
    "ae_kmeans": entry(dec.build, _DEC["ae_kmeans"], "k-means on an autoencoder's latents"),
    "denoising_ae_kmeans": entry(
        dec.build, _DEC["denoising_ae_kmeans"], "k-means on a denoising autoencoder's latents"
    ),
    "vae_kmeans": entry(
        dec.build, _DEC["vae_kmeans"], "k-means on a variational autoencoder's latents"
    ),
    "sae_kmeans": entry(
        dec.build,
        _DEC["sae_kmeans"],
        "k-means on a sparse autoencoder's latents (Ng 2011)",
        "SAEKMeans",
    ),
    "decnn_kmeans": entry(
        dec.build,
        _DEC["decnn_kmeans"],
        "k-means on the latents of strided and transposed convolutions (Zeiler et al. 2010)",
        "DeCNNKMeans",
    ),
    "swwae_kmeans": entry(
        dec.build,
        _DEC["swwae_kmeans"],
        "k-means on a stacked what-where autoencoder's latents (Zhao et al. 2015)",
        "SWWAEKMeans",
    ),
    "gan_kmeans": entry(
        gan_kmeans.build,
        gan_kmeans.PRESETS,
        "k-means on the pooled layers of a GAN's discriminator (Radford et al. 2016)",
        "GANKMeans",
    ),
    "cnn_cm": entry(
        cnn_cm.build,
        cnn_cm.PRESETS,
        "k-means on features from filters learned by convolutional k-means (Dundar et al. 2016)",
        "CNNCM",
    ),
    "kmeans": entry(plain_kmeans.build, plain_kmeans.PRESETS, "full-set k-means"),
    "minibatch_kmeans": entry(
        plain_kmeans.build, plain_kmeans.PRESETS, "mini-batch k-means", full=False, epochs=10
    ),
    "gmm": entry(
        classical.build_mixture,
        classical.PRESETS["gmm"],
        "Gaussian mixture on 50 principal components",
    ),
    "spectral": entry(
        classical.build_spectral,
        classical.PRESETS["spectral"],
        "spectral clustering of the nearest-neighbour graph",
    ),
    "agglomerative": entry(
        classical.build_agglomerative,
        classical.PRESETS["agglomerative"],
        "agglomerative clustering with Ward's linkage",
    ),
    "ac_pic": entry(
        ac_pic.build,
        ac_pic.PRESETS,
        "agglomeration by path integrals on the nearest-neighbour graph (Zhang et al. 2013)",
        "ACPIC",
    ),
    "sec": entry(
        sec.build,
        sec.PRESETS,
        "spectral embedded clustering, kept close to a linear map (Nie et al. 2011)",
        "SEC",
    ),
    "graph_nmf": entry(
        graph_nmf.build,
        graph_nmf.PRESETS,
        "non-negative matrix factorisation that follows the neighbour graph (Cai et al. 2009)",
        "GraphNMF",
    ),
    "nmf": entry(
        classical.build_nmf, classical.PRESETS["nmf"], "non-negative matrix factorisation"
    ),
}


def of_family(name: str) -> Registered:
    """The method whose `build` a `types.Recipe` names; InputError for an unknown one."""
    found = {getattr(entry.make, "family", ""): entry for entry in reversed(METHODS.values())}
    if name not in found:
        raise InputError(f"unknown method family '{name}'; {nearest_name(name, found)}")
    return found[name]


def find(name: str) -> Registered:
    """A registered method; for an unknown name, InputError that suggests the nearest."""
    if name not in METHODS:
        raise InputError(f"unknown method '{name}'; {nearest_name(name, METHODS)}")
    return METHODS[name]


def rows() -> list[tuple[str, str, str, str]]:
    """(name, what it is, presets, estimator) of every method, for documents."""
    return [
        (name, entry.about, ", ".join(sorted(entry.presets)), entry.estimator or "")
        for name, entry in METHODS.items()
    ]


def markdown() -> str:
    """:func:`rows` as a table."""
    lines = ["| method | what it is | presets | class |", "| --- | --- | --- | --- |"]
    for name, about, presets, estimator in rows():
        shown = f"`{estimator}`" if estimator else ""
        lines.append(f"| `{name}` | {about} | {presets} | {shown} |")
    return "\n".join(lines)
