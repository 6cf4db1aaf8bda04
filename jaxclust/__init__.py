"""Deep image clustering in JAX: CCNN, DAC, ICS, DERC and what they are compared with.

    import jaxclust as jc

    method = jc.methods.dac.build(jc.methods.dac.Config(), jc.spec_of(images, n_clusters=10))
    fitted = jc.fit(method, images, seed=0)
    labels = fitted.predict(images)

or as scikit-learn has it: `jc.DAC(n_clusters=10, random_state=0).fit_predict(images)`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxclust import (
        clustering,
        core,
        data,
        estimators,
        images,
        losses,
        methods,
        metrics,
        models,
        training,
    )
    from jaxclust.core.types import (
        Batch,
        Batches,
        Compute,
        DataSpec,
        Method,
        Network,
        Phase,
        Prediction,
        Refit,
        Source,
        StepInfo,
        TrainState,
    )
    from jaxclust.estimators import (
        ACPIC,
        CCNN,
        CNNCM,
        DAC,
        DBC,
        DCN,
        DEC,
        DEPICT,
        DERC,
        DERCR,
        ICS,
        IDEC,
        IMSAT,
        JULE,
        SEC,
        TEMI,
        TURTLE,
        DeCNNKMeans,
        GANKMeans,
        GraphNMF,
        SAEKMeans,
        SWWAEKMeans,
        VaDE,
    )
    from jaxclust.runs.predictor import Predictor
    from jaxclust.training import hooks
    from jaxclust.training.fitted import Fitted, predict
    from jaxclust.training.placement import spec_of
    from jaxclust.training.saving import load, save
    from jaxclust.training.starts import fit

__version__ = "0.1.0"
_TYPES = (
    "Batch", "Batches", "Compute", "DataSpec", "Method", "Network", "Phase", "Prediction",
    "Refit", "Source", "StepInfo", "TrainState",
)  # fmt: skip
_MODULES = (
    "clustering", "core", "data", "estimators", "images", "losses", "methods", "metrics", "models",
    "report", "runs", "training",
)  # fmt: skip
_HOMES = {
    **dict.fromkeys(_TYPES, "core.types"),
    "Fitted": "training.fitted",
    "Predictor": "runs.predictor",
    "predict": "training.fitted",
    "fit": "training.starts",
    "spec_of": "training.placement",
    "load": "training.saving",
    "save": "training.saving",
}
__all__ = [
    "ACPIC",
    "CCNN",
    "CNNCM",
    "DAC",
    "DBC",
    "DCN",
    "DEC",
    "DEPICT",
    "DERC",
    "DERCR",
    "ICS",
    "IDEC",
    "IMSAT",
    "JULE",
    "SEC",
    "TEMI",
    "TURTLE",
    "Batch",
    "Batches",
    "Compute",
    "DataSpec",
    "DeCNNKMeans",
    "Fitted",
    "GANKMeans",
    "GraphNMF",
    "Method",
    "Network",
    "Phase",
    "Prediction",
    "Predictor",
    "Refit",
    "SAEKMeans",
    "SWWAEKMeans",
    "Source",
    "StepInfo",
    "TrainState",
    "VaDE",
    "clustering",
    "core",
    "data",
    "estimators",
    "fit",
    "hooks",
    "images",
    "load",
    "losses",
    "methods",
    "metrics",
    "models",
    "predict",
    "save",
    "spec_of",
    "training",
]


def __getattr__(name: str) -> Any:
    # On first use, so that `import jaxclust` costs nothing beyond Python itself.
    if name in _MODULES:
        return importlib.import_module(f"jaxclust.{name}")
    if name == "hooks":
        return importlib.import_module("jaxclust.training.hooks")
    if name in _HOMES:
        return getattr(importlib.import_module(f"jaxclust.{_HOMES[name]}"), name)
    if not name.startswith("_"):
        # The registry's estimators: a new method has one without a line here.
        found = importlib.import_module("jaxclust.estimators").named(name)
        if found is not None:
            return found
    raise AttributeError(f"module 'jaxclust' has no attribute '{name}'")
