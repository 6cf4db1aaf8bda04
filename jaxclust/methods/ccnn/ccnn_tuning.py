"""CCNN's fine-tuning step, and the features that its centroids move by (Eqs. 1, 13, 14)."""

from dataclasses import dataclass
from functools import cached_property

import jax
from jax import Array

from jaxclust.clustering.drift import rollback
from jaxclust.clustering.selection import Samples
from jaxclust.core.types import DataSpec, PyTree, Step, TrainState
from jaxclust.images.augment import plain
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.methods.ccnn.ccnn_config import Config
from jaxclust.methods.ccnn.ccnn_network import Networks, fine_tuning_optimiser
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import affine_views


@dataclass(frozen=True, eq=False)
class Tuning:
    """The network of a CCNN and how it is tuned."""

    config: Config
    spec: DataSpec
    networks: Networks
    axis_name: str | None

    @cached_property
    def tune(self) -> Step:
        """A fine-tuning step on trusted samples, whose assignments are the batch's extra."""
        return gradient_step(
            self.loss,
            fine_tuning_optimiser(self.config, self.spec.n_images),
            views=affine_views(self.config.views),
            axis_name=self.axis_name,
            keep_updates=self.keeps_updates,
        )

    @property
    def keeps_updates(self) -> bool:
        """Whether updates are kept, because they are rolled back explicitly."""
        config = self.config
        tracked = config.compensation == "rollback" and not self.reuses_features
        return tracked and config.learning == "joint"

    @property
    def reuses_features(self) -> bool:
        """Whether a full rollback just reuses the features extracted before the update."""
        config = self.config
        return config.rollback_scope == "network" and config.rollback_path == "fast"

    def activate(self, logits: Array) -> Array:
        return jax.nn.softmax(logits) if self.config.output == "softmax" else jax.nn.relu(logits)

    def extract(self, params: PyTree, stats: PyTree, images: Array) -> tuple[Array, Array]:
        """What is clustered [b, d] and the output logits [b, k], in inference mode."""
        variables = {"params": params, **stats}
        images = plain(images, self.config.views)
        outputs, _ = self.networks.network.apply(variables, images, train=False)
        if self.config.features == "backbone":
            pooled, _ = self.networks.backbone.apply(variables, images, train=False)
            return pooled, outputs.logits
        return outputs.features, outputs.logits

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        """Eq. 1 on this device's part of the trusted samples."""
        variables = {"params": params["network"], **at.state.model_state["network"]}
        outputs, stats = self.networks.network.apply(
            variables, at.batch.images, train=True, key=at.key
        )
        value = sum_of_squared_errors(self.activate(outputs.logits), at.batch.extra)
        return value, Aux({"network": stats}, {})

    def tracked_features(self, after: TrainState, samples: Samples) -> Array:
        """Features for the centroid update, once the network has moved on (Eq. 14)."""
        config = self.config
        params, stats = after.params["network"], after.model_state["network"]
        if config.compensation == "none":
            return self.extract(params, stats, samples.images)[0]
        if self.reuses_features:
            return samples.features
        updates = after.last.updates["network"]
        if config.rollback_scope == "feature_layer":
            params = rollback(params, updates, layers=("feature",))
            return self.extract(params, stats, samples.images)[0]
        params = rollback(params, updates)
        return self.extract(params, after.last.model_state["network"], samples.images)[0]
