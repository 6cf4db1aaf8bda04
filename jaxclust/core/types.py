"""The vocabulary that every method and the training loop share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.errors import InputError

PyTree = Any
Precision = Literal["float32", "bfloat16"]


@runtime_checkable
class Source(Protocol):
    """All that a data set must offer, in memory or read when needed: rows by their numbers.

    NumPy and JAX arrays are sources. Values are images [n, h, w, c] or features [n, d].
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width, channels) or (n, width)."""
        ...

    @property
    def dtype(self) -> Any:
        """uint8 or float32."""
        ...

    def __len__(self) -> int:
        """n."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """The values of rows int [b], or of a slice, as an array [b, …]."""
        ...


class DataSpec(NamedTuple):
    """What a method must know about the data before it sees any."""

    n_images: int
    shape: tuple[int, ...]  # (height, width, channels) of images, (width,) of features
    n_clusters: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels).

        Raises:
            InputError: these are features, for a method that needs images.
        """
        if len(self.shape) != 3:
            raise InputError(
                f"this method needs images [n, h, w, c], not features [n, {self.shape[0]}]; "
                "derc, derc_r, temi, turtle, dec, idec, dcn, vade, imsat, ae_kmeans, "
                "denoising_ae_kmeans, sae_kmeans, kmeans and the classical methods take those"
            )
        height, width, channels = self.shape
        return height, width, channels

    @property
    def width(self) -> int:
        """The width of features.

        Raises:
            InputError: these are images, for a method that needs features.
        """
        if len(self.shape) != 1:
            raise InputError(
                f"this method needs features [n, d], not images of shape {self.shape}: give an "
                "‹encoder›, or features:PATH as the ‹dataset›"
            )
        return self.shape[0]


class Compute(NamedTuple):
    """How a method computes, whatever its settings."""

    # Of the networks' passes; parameters, batch-norm statistics, losses and cluster
    # state are float32 either way.
    precision: Precision = "float32"
    # Name of the mapped axis whose devices share a batch; None: one device.
    axis_name: str | None = None


class Network(NamedTuple):
    """Any library's network as two functions; `models.adapter` makes one from a Flax module."""

    # (key, example [b, …]) -> variables: {"params": …, other collections}
    init: Callable[[Array, Array], PyTree]
    # (variables, x [b, …], *, train, key) -> (outputs, collections except params after the pass)
    apply: Callable[..., tuple[Any, PyTree]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that training changes, as one pytree of arrays.

    Every random draw is keyed by `key`, `step` and its purpose (:func:`keys.of`), so that
    a resumed run draws what the uninterrupted one would have drawn.
    """

    step: Array  # int32 []: steps taken so far, over all phases
    key: Array  # typed key []: the run's random key, never advanced
    params: PyTree  # trained parameters
    model_state: PyTree  # the network's other collections: batch-norm statistics and the like
    opt_state: PyTree  # optax state of the current phase
    cluster: PyTree  # the method's cluster state
    usage: Array  # float32 [k]: running share of each cluster
    last: PyTree = ()  # LastUpdate, of methods that ask for it

    def replace(self, **changes: Any) -> Self:
        """The state with some of its fields changed."""
        return replace(self, **changes)


class LastUpdate(NamedTuple):
    """What is needed to undo an optimiser step."""

    updates: PyTree  # as optax returned them, of the structure of params
    model_state: PyTree  # the collections before the step


def first_state(
    key: Array,
    cluster: PyTree,
    n_clusters: int,
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
        # With a dtype, since a weakly typed leaf would cause the step to be traced again.
        usage=jnp.full((n_clusters,), 1 / n_clusters, jnp.float32),
    )


class Batch(NamedTuple):
    """What a step sees of the data."""

    images: Array  # float32 [b, h, w, c], or features [b, d]; normalised
    rows: Array  # int32 [b], of the data set
    extra: PyTree = ()  # what `Batches.extra` gathered


class Rows(NamedTuple):
    """In the result of `Batches.extra`: rows to be replaced by their images, for sets in memory."""

    rows: Array  # int [m], of the data set


class StepInfo(NamedTuple):
    """What a step reports."""

    loss: Array  # float32 []: the number that must stay finite
    watch: dict[str, Array]  # scalars worth logging, by name


class Prediction(NamedTuple):
    """What a method predicts for images."""

    assignments: Array  # int32 [b]
    probabilities: Array  # float32 [b, k], rows sum to one
    features: Array  # float32 [b, d], what was clustered
    readings: dict[str, Array]  # int32 [b] each: every way to read labels, by name


Step = Callable[[TrainState, Batch], tuple[TrainState, StepInfo]]


class Batches(NamedTuple):
    """What a step is fed."""

    size: int
    repeats: int = 1  # steps in a row on the same draw (DAC's passes)
    order: Literal["shuffled", "fixed"] = "shuffled"  # of epochs; fixed: all like the first
    # Devices share each draw, or all get the whole draw and share its inner batches.
    split: Literal["batch", "inner"] = "batch"
    # Other numbers of rows that a step splits over the devices.
    shared: tuple[int, ...] = ()
    # (state, rows int [b]) -> pytree [b, …] put into `Batch.extra`: targets, neighbours (Rows)
    extra: Callable[[TrainState, Array], PyTree] | None = None


class Refit(NamedTuple):
    """What happens between epochs: the state refitted to the features of all images."""

    # (state, features [n, d]) -> state. On the host it is uncompiled, gets a NumPy array
    # and keeps the state's shapes and dtypes: scikit-learn's algorithms and the like.
    update: Callable[[TrainState, Any], TrainState]
    on: Literal["device", "host"] = "device"
    rows: int | None = None  # this many images' features are enough; None: all
    # images: the normalised images themselves instead of features, flat [n, values].
    sees: Literal["features", "images"] = "features"


class Phase(NamedTuple):
    """A stretch of training with one step function and one optimiser."""

    name: str
    step: Step | None  # None: the phase is only its `first`, and has no epochs
    epochs: int
    batches: Batches
    first: Refit | None = None  # once, before the first step
    between: Refit | None = None  # after epochs
    every: int = 1  # epochs from one `between` to the next
    # Asked before the first step and after each epoch's `between`, bool []: is it done?
    until: Callable[[TrainState], Array] | None = None
    pretrains: bool = False  # its final state is worth keeping for other runs
    # When predictions are worth scoring: after `first` and every epoch, after `first` only, never.
    scored: Literal["always", "first", "never"] = "always"


def nothing(state: TrainState) -> dict[str, Any]:
    """No artifacts."""
    del state
    return {}


class Recipe(NamedTuple):
    """How to build a method again: what `save` writes and `load` reads."""

    family: str  # a name of methods.registry.FAMILIES
    config: Any
    spec: DataSpec
    compute: Compute


@dataclass(frozen=True, eq=False)
class Method:
    """A clustering method as pure functions; `training.fit` runs its phases in order."""

    init: Callable[[Array, Array], TrainState]  # (key, images [b, …], normalised)
    predict: Callable[[TrainState, Array], Prediction]  # (state, images [b, …], normalised)
    phases: tuple[Phase, ...]
    # state -> what a run stores besides assignments: "centroids" [k, d], "map" [n, 2 or more],
    # "noise" bool [n]
    artifacts: Callable[[TrainState], dict[str, Any]] = nothing
    # How to normalise stored values (images.Normalisation), if pre-trained weights expect it; None:
    # by the set's own statistics.
    normalisation: Any = None
    recipe: Recipe | None = None  # None: built with custom parts
    # Whether a run reports how well a linear classifier learns its clusters from the features.
    learned_from_features: bool = False
    # Whether it finds the number of clusters itself, and the number asked for is not used.
    finds_number: bool = False
    # Starts that `jaxclust.fit` begins, to choose one without labels; see training.starts
    starts: int = 1
    # Its compiled programs, for as long as it lives; see training.programs.
    programs: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def replace(self, **changes: Any) -> Self:
        """The method with some of its fields changed; nothing is compiled for it yet."""
        return replace(self, **changes)

    @property
    def step(self) -> Step:
        """The step of the method proper: that of its last phase that has one.

        Raises:
            AttributeError: the method has none, since it clusters in one go.
        """
        steps = [phase.step for phase in self.phases if phase.step is not None]
        if not steps:
            raise AttributeError("this method clusters in one go and has no train step")
        return steps[-1]
