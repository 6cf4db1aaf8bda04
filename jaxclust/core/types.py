"""The vocabulary every method and the training loop share."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.struct
import jax.numpy as jnp
from jax import Array

PyTree = Any
Precision = Literal["float32", "bfloat16"]


class TrainState(flax.struct.PyTreeNode):
    """All that training changes, as one pytree of arrays.

    The key of a step is `fold_in(key, step)`, so a resumed run draws what the
    uninterrupted one would have drawn.
    """

    step: Array  # int32 []: steps taken so far, over all phases
    key: Array  # uint32 [2]: the run's random key, never advanced
    params: PyTree  # trained parameters
    model_state: PyTree  # batch-norm statistics and the like
    opt_state: PyTree  # optax state of the current phase
    cluster: PyTree  # the method's cluster state


def first_state(
    key: Array,
    cluster: PyTree,
    params: PyTree = None,
    model_state: PyTree = None,
    opt_state: PyTree = (),
) -> TrainState:
    """The state of a run that has taken no step; without params, nothing is learned."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params={} if params is None else params,
        model_state={} if model_state is None else model_state,
        opt_state=opt_state,
        cluster=cluster,
    )


def centroids_of(state: TrainState) -> Any:
    """A method's centroids [k, d], whether it trains them or not; None without any."""
    trained = state.params.get("centroids")
    return getattr(getattr(state.cluster, "kmeans", None), "centroids", trained)


class DataSpec(NamedTuple):
    """What a method must know of the data before it sees any."""

    n_images: int
    image_shape: tuple[int, int, int]  # height, width, channels
    n_clusters: int


class Compute(NamedTuple):
    """How a method computes, whatever its settings."""

    # Of the networks' passes; parameters, batch-norm statistics, losses and cluster
    # state are float32 either way.
    precision: Precision = "float32"
    # Of the mapped axis whose devices share a batch; None: one device.
    axis_name: str | None = None


class Batch(NamedTuple):
    """What a step sees of the data."""

    images: Array  # float32 [b, h, w, c], normalised
    rows: Array  # int32 [b], of the data set


class StepInfo(NamedTuple):
    """What a step reports."""

    loss: Array  # float32 []: the number that must stay finite
    watch: dict[str, Array]  # scalars worth logging, by name


class Prediction(NamedTuple):
    """What a method says of images."""

    assignments: Array  # int32 [b]
    probabilities: Array  # float32 [b, k], rows sum to one
    features: Array  # float32 [b, d], what was clustered
    readings: dict[str, Array]  # int32 [b] each: every way to read labels, by name


Step = Callable[[TrainState, Batch], tuple[TrainState, StepInfo]]


class Phase(NamedTuple):
    """A stretch of training with one step function and one optimiser.

    `begin` runs once, before the phase's first step, and `refresh` after each of
    its epochs; both see the features of all images under the current state, or of `sample`
    of them where there are more.
    None means identity, and then no features are computed.
    """

    name: str
    epochs: int
    batch_size: int
    # None: the phase is its `begin`, and has no epochs.
    step: Step | None
    begin: Callable[[TrainState, Any], TrainState] | None = None
    refresh: Callable[[TrainState, Any], TrainState] | None = None
    # Whether predictions between its epochs are worth scoring; those after `begin` are.
    scored: bool = True
    # Asked after each epoch's refresh, bool []: nothing is left to do.
    finished: Callable[[TrainState], Array] | None = None
    # Steps in a row that see the same batch (DAC's passes over one draw).
    repeats: int = 1
    # Epochs from one `refresh` to the next.
    refresh_every: int = 1
    # Every device is given the whole batch (DAC's draw), not its share of it.
    whole_batch: bool = False
    # Numbers of rows other than the batch's that a step shares out to the devices.
    shared: tuple[int, ...] = ()
    # Images whose features are enough for `begin` and `refresh`; None: those of all.
    sample: int | None = None
    # `begin` and `refresh` run on the host, uncompiled, get the features as a NumPy array
    # and keep the state's shapes and dtypes: scikit-learn's algorithms and the like.
    on_host: bool = False


class Method(NamedTuple):
    """A clustering method as pure functions; `train.fit` runs its phases in order."""

    init: Callable[[Array, Array], TrainState]  # (key, images[b, h, w, c])
    predict: Callable[[TrainState, Array], Prediction]  # (state, images[b, h, w, c])
    phases: tuple[Phase, ...]
    # What stored values are normalised by (normalisation.Normalisation), where weights from
    # elsewhere expect it; None: the set's own statistics.
    normalisation: Any = None

    @property
    def step(self) -> Step:
        """The step of the method proper: that of its last phase that has one.

        Raises:
            AttributeError: the method has none, as clustering in one go has not.
        """
        steps = [phase.step for phase in self.phases if phase.step is not None]
        if not steps:
            raise AttributeError("this method clusters in one go and has no train step")
        return steps[-1]
