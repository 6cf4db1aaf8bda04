"""A new method is a loss, refits and a prediction; one registry line gives it all the rest."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxclust as jc
from jaxclust.cli import main
from jaxclust.clustering import kmeans
from jaxclust.core import keys, settings
from jaxclust.core.settings import setting
from jaxclust.core.types import first_state
from jaxclust.methods import registry
from jaxclust.methods.parts.gradient import Aux, gradient_step
from jaxclust.methods.parts.recipe import recorded
from tests.methods import small
from tests.trees import assert_same


@dataclass(frozen=True)
class Config:
    """Settings of the toy."""

    epochs: int = setting(5, least=0)
    """Passes over the data."""
    learning_rate: float = setting(1e-2, above=0)
    """Adam's."""


@recorded("toy")
def build(config, spec, compute=jc.Compute()):  # noqa: B008
    """A linear map that follows the k-means of its inputs."""
    settings.check(config)
    adam, k, width = optax.adam(config.learning_rate), spec.n_clusters, int(np.prod(spec.shape))

    def flat(images):
        return images.reshape(len(images), -1)

    def init(key, images):
        params = {"map": jnp.zeros((width, k), jnp.float32)}
        centroids = jnp.zeros((k, width), jnp.float32)
        return first_state(key, centroids, k, params, opt_state=adam.init(params))

    def seed(state, features):
        found = kmeans.fit(keys.of(state, "seeding"), features, k)
        return state.replace(cluster=found.centroids)

    def loss(params, at):
        images = flat(at.batch.images)
        labels, _ = kmeans.assign(images, at.state.cluster)
        logits = images @ params["map"]
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, Aux(at.state.model_state, {"cross_entropy": value}, labels)

    def predict(state, images):
        probabilities = jax.nn.softmax(flat(images) @ state.params["map"])
        labels = probabilities.argmax(axis=1).astype(jnp.int32)
        return jc.Prediction(labels, probabilities, flat(images), {"output": labels})

    step = gradient_step(loss, adam, axis_name=compute.axis_name)
    phase = jc.Phase("cluster", step, config.epochs, jc.Batches(20), first=jc.Refit(seed))
    return jc.Method(init, predict, (phase,))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    line = registry.entry(build, {"best": Config()}, "a toy", "Toy")
    monkeypatch.setitem(registry.METHODS, "toy", line)


IMAGES, KINDS = small.images(60)


def test_the_command_line_knows_it(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=KINDS)
    run = ["run", "--method=toy", f"--dataset=npz:{tmp_path}/x.npz", f"--out={tmp_path}/run"]
    assert main([*run, "--epochs=4", "--quiet", "--json"]) == 0
    assert '"method": "toy"' in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").is_file()
    assert main([*run, "--epochs=-1"]) == 2
    assert "--epochs must be at least 0, not -1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "--method=toy", "--dataset=digits", "--help"])
    assert "--learning-rate" in capsys.readouterr().out


def test_it_has_an_estimator():
    toy = jc.Toy(3, random_state=0).fit(IMAGES)
    assert jc.metrics.accuracy(KINDS, toy.labels_) > 0.9
    assert "A toy." in type(toy).__doc__
    with pytest.raises(ValueError, match=r"^epochs must be at least 0"):
        jc.Toy(3, epochs=-1).fit(IMAGES)


def test_it_is_saved_and_documented(tmp_path):
    entry = registry.find("toy")
    fitted = jc.fit(entry.build(entry.config(), jc.spec_of(IMAGES, 3)), IMAGES)
    jc.save(fitted, tmp_path)
    again = jc.load(tmp_path)
    assert_same(again.state, fitted.state)
    assert ("toy", "a toy", "best", "Toy") in registry.rows()


def test_the_contract_s_promises_are_about_it():
    """tests/methods/test_contract.py runs for every name of the registry."""
    from tests.methods import test_contract

    entry = registry.find("toy")
    data = small.data(60)
    method = entry.build(entry.config(), jc.training.placement.spec_of(data, 3))
    state = jc.fit(method, data, seed=0).state
    case = test_contract.Case(method, data, state, {}, jax.jit(method.predict))
    test_contract.test_step_is_pure(case)
    test_contract.test_step_keeps_the_state_s_shape(case)
    test_contract.test_predictions(case)
    test_contract.test_resuming_template_has_the_states_shapes(case)
