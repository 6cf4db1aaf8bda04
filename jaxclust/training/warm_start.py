"""The result of a run's pre-training, for other runs to start from.

Runs that differ only in what follows pre-training need it once: ablations, DEC and IDEC, weights
and widths of a loss. A run that starts from it equals, bit for bit, one that pre-trains itself, if
seed, data and pre-training are the same.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.types import Method, Phase, TrainState

# Names of the phase whose result is kept, and of the file in the run's folder.
PHASE, FILE = "pretrain", "pretrained.npz"
_PARTS = ("network", "decoder")  # of the params


def _named(state: TrainState) -> dict[str, Any]:
    """What is kept, by name: the network, its statistics and the number of steps.

    Other parameters (DEC's centroids) are found after pre-training.
    """
    params = {name: state.params[name] for name in _PARTS if name in state.params}
    kept = {"params": params, "model_state": state.model_state, "step": state.step}
    return flatten_dict(to_state_dict(kept), sep="/")


def arrays(state: TrainState) -> dict[str, np.ndarray]:
    """What a run keeps of its state at the end of pre-training."""
    return {name: np.asarray(value) for name, value in _named(state).items()}


def capture(state: TrainState) -> "WarmStart":
    """The result of a pre-training that is over, from a state; for `fit(start=…)`."""
    return WarmStart("the other fit", arrays(state))


class WarmStart(NamedTuple):
    """The result of another run's pre-training."""

    run: Path | str  # where it comes from, for messages
    arrays: dict[str, np.ndarray]

    def check(self, method: Method, state: TrainState) -> None:
        """Refuse a method without pre-training, or with another network.

        Args:
            method: the one that would start from it.
            state: its first state, or the shapes of it.

        Raises:
            InputError: it cannot start from it.
        """
        if not method.phases[0].pretrains:
            raise InputError("this method has no pre-training; leave out ‹pretrained›")
        expected = {name: tuple(leaf.shape) for name, leaf in _named(state).items()}
        found = {name: array.shape for name, array in self.arrays.items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise InputError(
                    f"‹pretrained› {self.run} is from another network: {name} is "
                    f"{found.get(name, 'missing')} there and {expected.get(name, 'missing')} "
                    "here; use the same image size, method family and widths"
                )

    def into(self, state: TrainState, phase: Phase, n_images: int) -> TrainState:
        """A first state as if its own pre-training had ended with this.

        Args:
            state: the method's first.
            phase: its pre-training, which may be of another length than the one that led to this:
                schedules that go on from there count steps from its own end.
            n_images: in the data set.
        """
        kept: Any = jax.tree.map(jnp.asarray, unflatten_dict(self.arrays, sep="/"))
        if phase.until is None:
            steps = phase.epochs * -(-n_images // min(phase.batches.size, n_images))
            kept["step"] = jnp.full_like(kept["step"], steps)
        kept["params"] = {**state.params, **kept["params"]}
        if "model_state" in kept:
            kept["model_state"] = from_state_dict(state.model_state, kept["model_state"])
        return state.replace(**kept)


def load(run: Path) -> WarmStart:
    """Read a run's pretrained.npz.

    Raises:
        InputError: the run has none, or it is damaged.
    """
    path = run / FILE
    if not path.is_file():
        raise InputError(
            f"‹pretrained› {run}: there is no {FILE}; give the folder of a run that has finished "
            "pre-training an autoencoder (with several seeds, one seed-…)"
        )
    try:
        with np.load(path, allow_pickle=False) as found:
            return WarmStart(run, {name: found[name] for name in found})
    except Exception as error:  # damaged zip and npy files raise many kinds
        raise InputError(f"{path} cannot be read ({first_line(error)})") from error
