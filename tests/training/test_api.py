"""The Python API: fit, predict, save and load, hooks, warm starts, features, compilations."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxclust as jc
from jaxclust.core.errors import InputError, Stopped
from jaxclust.core.keys import host_arrays
from jaxclust.methods import ccnn, dec, derc, vade
from jaxclust.methods.registry import METHODS
from jaxclust.training import hooks, warm_start
from tests.methods import small
from tests.trees import assert_same

IMAGES, KINDS = small.images(60)
# The smallest network: these tests are of the loop around it.
QUICK = {
    "epochs": 2, "pretrain_epochs": 2, "batch_size": 20, "latent_width": 4, "network": "sparse",
}  # fmt: skip


def method(**changes):
    config = dec.Config(**{**QUICK, **changes})
    return dec.build(config, jc.spec_of(IMAGES, n_clusters=3))


def test_images_in_labels_out():
    fitted = jc.fit(method(), IMAGES, seed=1)
    labels = fitted.predict(IMAGES)
    assert labels.shape == (60,) and labels.dtype == np.int32
    prediction = jc.predict(fitted, IMAGES)
    np.testing.assert_array_equal(prediction.assignments, labels)
    np.testing.assert_array_equal(prediction.probabilities.argmax(axis=1), labels)
    with pytest.raises(InputError, match="fitted on uint8 images of shape"):
        fitted.predict(IMAGES[:, 1:])
    with pytest.raises(InputError, match=r"channels first.*transpose\(0, 2, 3, 1\)"):
        jc.fit(method(), np.zeros((9, 3, 32, 32), np.uint8))
    with pytest.raises(InputError, match="NaN"):
        jc.fit(method(), np.full((9, 8, 8, 1), np.nan))
    with pytest.raises(InputError, match="n, h, w, c"):
        jc.fit(method(), np.zeros(9))


def test_what_is_saved_comes_back(tmp_path):
    fitted = jc.fit(method(), IMAGES, seed=1)
    jc.save(fitted, tmp_path / "model")
    again = jc.load(tmp_path / "model")
    assert_same(again.state, fitted.state)
    assert again.method.recipe == fitted.method.recipe
    np.testing.assert_array_equal(again.predict(IMAGES), fitted.predict(IMAGES))
    # It can be trained on: nothing but its arrays and settings was needed.
    assert again.normalisation == fitted.normalisation
    (tmp_path / "model" / "state.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="damaged"):
        jc.load(tmp_path / "model")
    with pytest.raises(InputError, match="no saved method"):
        jc.load(tmp_path)


def test_a_method_with_parts_of_its_own_is_loaded_with_them(tmp_path):
    built = small.method()
    fitted = jc.fit(built, IMAGES, seed=0)
    assert built.recipe is None
    jc.save(fitted, tmp_path / "own")
    with pytest.raises(InputError, match=r"load\(folder, method\)"):
        jc.load(tmp_path / "own")
    again = jc.load(tmp_path / "own", small.method())
    np.testing.assert_array_equal(again.predict(IMAGES), fitted.predict(IMAGES))
    with pytest.raises(InputError, match="another method"):
        jc.load(tmp_path / "own", method())


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors"])
def test_parameters_are_exported_by_name(tmp_path, name):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    fitted = jc.fit(method(), IMAGES, seed=1)
    fitted.export(tmp_path / name)
    if name.endswith("npz"):
        found = dict(np.load(tmp_path / name, allow_pickle=False))
    else:
        from safetensors.numpy import load_file

        found = load_file(tmp_path / name)
    expected = fitted.state.params["network"]["to_latent"]["kernel"]
    np.testing.assert_array_equal(found["params/network/to_latent/kernel"], expected)
    assert found.keys() == fitted.parameters().keys()
    with pytest.raises(InputError, match=r"\.npz or \.safetensors"):
        fitted.export(tmp_path / "w.h5")


def test_a_fit_starts_from_another_s_pretraining(tmp_path):
    whole = jc.fit(method(), IMAGES, seed=3)
    warm = jc.fit(method(epochs=2), IMAGES, seed=3, start=whole.pretrained)
    assert_same(warm.state, whole.state)
    with pytest.raises(InputError, match="another network"):
        jc.fit(method(latent_width=5), IMAGES, start=whole.pretrained)
    # From a file too: what a run directory keeps.
    np.savez(tmp_path / "pretrained.npz", allow_pickle=False, **whole.pretrained.arrays)
    filed = jc.fit(method(), IMAGES, seed=3, start=warm_start.load(tmp_path))
    assert_same(filed.state, whole.state)


def test_what_a_hook_keeps_lasts():
    """The loop donates its state to the next chunk, and kept states were deleted arrays."""
    kept = []
    keep = hooks.Calls(
        on_epoch=lambda moment: kept.append(moment.state),
        on_save=lambda moment, now: kept.append(moment.state),
        on_phase=lambda moment: kept.append(moment.state),
    )
    jc.fit(method(), IMAGES, seed=0, hooks=[keep])
    assert len(kept) > 6
    assert all(np.isfinite(leaf).all() for state in kept for leaf in jax.tree.leaves(state.params))


def test_what_is_resumed_from_stays(tmp_path):
    moments = []
    own = method()
    whole = jc.fit(own, IMAGES, hooks=[hooks.Calls(on_save=lambda m, now: moments.append(m))])
    # A hook that asks for a copy while it is called has one; the last moment's is not donated.
    state, position = moments[-1].state, moments[-1].position
    for _ in range(2):
        assert_same(jc.fit(own, IMAGES, resume=(state, position)).state, whole.state)
    assert np.isfinite(jax.tree.leaves(state.params)[0]).all()


def test_checkpoints_of_the_python_api(tmp_path):
    own, whole = method(), jc.fit(method(), IMAGES, seed=4)
    hook = hooks.Checkpoint(tmp_path, every=0)
    calls = []
    stop = hooks.Calls(interrupts=lambda: calls.append(1) or len(calls) == 4)
    with pytest.raises(Stopped):
        jc.fit(own, IMAGES, seed=4, hooks=[hook, stop])
    resume = hook.newest(own, IMAGES)
    assert_same(jc.fit(own, IMAGES, seed=4, hooks=[hook], resume=resume).state, whole.state)


def test_early_stopping_ends_a_phase():
    """Nothing falls by a thousand: two epochs after the first have been enough."""
    own = method(epochs=9, pretrain_epochs=9, tolerance=0.0)
    stopped = jc.fit(own, IMAGES, hooks=[hooks.EarlyStop(patience=2, least=1e3)])
    assert int(stopped.state.step) == 3 * 3 + 3 * 3
    whole = jc.fit(own, IMAGES, hooks=[hooks.EarlyStop(patience=20), hooks.Log()])
    assert int(whole.state.step) == 3 * 9 + 3 * 9


@pytest.mark.parametrize("name", ["dec", "idec", "vade", "kmeans", "minibatch_kmeans", "gmm"])
def test_features_are_data_too(name):
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    features = (rng.normal(size=(90, 12)) + 6 * np.eye(3, 12)[kinds]).astype(np.float32)
    config = METHODS[name].config("best")
    long = name == "vade"
    wanted = {"pretrain_epochs": 40 if long else 10, "batch_size": 30, "epochs": 2, "restarts": 2}
    wanted |= {"latent_width": 4, "starts": 1}
    known = {field.name for field in dataclasses.fields(config)}
    config = dataclasses.replace(config, **{k: v for k, v in wanted.items() if k in known})
    built = METHODS[name].build(config, jc.spec_of(features, 3))
    fitted = jc.fit(built, features, seed=0)
    assert jc.metrics.accuracy(kinds, fitted.predict(features)) > 0.9


def test_a_set_of_another_size_is_refused():
    with pytest.raises(InputError, match="was built for 60 images, not 30; build it with spec_of"):
        jc.fit(method(), IMAGES[:30])


@pytest.mark.parametrize("name", ["ccnn", "dac", "ics", "vae_kmeans"])
def test_features_are_refused_by_methods_of_images(name):
    with pytest.raises(InputError, match=r"needs images \[n, h, w, c\], not features"):
        METHODS[name].build(METHODS[name].config("best"), jc.DataSpec(90, (12,), 3))


@pytest.fixture
def compiled():
    """What the backend has compiled since it was last asked."""
    counts = []

    def listen(name, seconds, **_):
        if name == "/jax/core/compile/backend_compile_duration":
            counts.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)

    def since():
        count = len(counts)
        counts.clear()
        return count

    yield since
    jax.monitoring.clear_event_listeners()


def small_derc(iterations):
    config = derc.Config(
        epochs=1, iterations=iterations, pretrain_epochs=1, batch_size=20, latent_width=4,
        restarts=1, reducer="pca",
    )  # fmt: skip
    return derc.build(config, jc.spec_of(IMAGES, 3))


@pytest.mark.parametrize(
    "build",
    [lambda: small.method(n=60), lambda: small_derc(2), method],
    ids=["ccnn", "derc", "dec"],
)
def test_a_second_fit_compiles_nothing(build, compiled, monkeypatch):
    """Programs of a method are made once: for its phases, for evaluation, for a fit after."""
    jax.clear_caches()
    built = build()
    fitted = jc.fit(built, IMAGES, seed=0)
    fitted.predict(IMAGES)
    programs = [key[0] for key in built.programs]
    assert sorted(set(programs)) == sorted(set(programs) & {"init", "predict", "chunk", "refit"})
    # One prediction for all phases and the end, one chunk a step function.
    assert programs.count("predict") == programs.count("init") == 1
    assert programs.count("chunk") == len({p.step for p in built.phases if p.step and p.epochs})
    first = compiled()
    print(f"first fit: {first} compilations, programs {programs}")
    assert first >= len(programs) - programs.count("refit")
    again = jc.fit(built, IMAGES, seed=1)
    again.predict(IMAGES)
    assert compiled() == 0


def test_derc_s_rounds_share_their_programs():
    assert len(jc_programs(small_derc(1))) == len(jc_programs(small_derc(3)))


def jc_programs(built):
    jc.fit(built, IMAGES, seed=0)
    return built.programs


def test_the_same_settings_are_the_same_method():
    entry, spec = METHODS["vade"], jc.spec_of(IMAGES, 3)
    assert entry.build(vade.Config(), spec) is entry.build(vade.Config(), spec)
    assert entry.build(vade.Config(epochs=3), spec) is not entry.build(vade.Config(), spec)


def test_keys_of_purposes_and_steps_differ():
    """`begin` shared its key with the first step, and split(key, 10)[:2] is split(key, 2)."""
    from jaxclust.core import keys

    state = jc.training.starting.init(method(), jc.training.placement.placed(method(), IMAGES), 0)
    later = state.replace(step=state.step + 1)
    purposes = ("views", "network", "seeding", "output layer", "order", "triplets", "extra")
    drawn = {
        tuple(np.asarray(jax.random.key_data(keys.of(at, name))))
        for name in purposes
        for at in (state, later)
    }
    assert len(drawn) == 2 * len(purposes)
    assert keys.host_seed(state, "reducer") != keys.host_seed(state, "clusterer")
    assert jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)


def test_neighbours_are_gathered_in_the_loop():
    """`Batches.extra`: rows wanted beside the batch's come as images, normalised alike."""
    from jaxclust.core.types import Batch, Batches, Phase, Rows, StepInfo

    def step(state, batch):
        difference = jnp.abs(batch.images - batch.extra["next"]).max()
        state = state.replace(step=state.step + 1)
        return state, StepInfo(difference, {"rows": batch.extra["count"][0].astype(jnp.float32)})

    def extra(state, rows):
        return {"next": Rows((rows + 30) % 60), "count": jnp.full(len(rows), state.step)}

    phase = Phase("toy", step, 2, Batches(20, extra=extra))
    own = method().replace(phases=(phase,))
    halves = IMAGES.copy()
    halves[30:] = halves[:30]
    seen = []
    jc.fit(own, halves, hooks=[hooks.Calls(on_chunk=lambda p: seen.extend(p.steps))])
    assert [row["loss"] for row in seen] == [0.0] * 6
    assert [row["rows"] for row in seen] == list(range(6))
    assert Batch(1, 2).extra == ()


def test_networks_of_any_library_fit():
    """Two plain functions in place of a Flax module: a linear body for CCNN."""

    def init(key, x):
        return {"params": {"w": jax.random.normal(key, (x[0].size, 6)) / 8}, "seen": {"n": 0.0}}

    def apply(variables, x, *, train, key=None):
        vector = x.reshape(len(x), -1) @ variables["params"]["w"]
        return vector, {"seen": {"n": variables["seen"]["n"] + (1.0 if train else 0.0)}}

    config = dataclasses.replace(
        ccnn.PRESETS["best"], epochs=2, pretrain_epochs=1, batch_size=20, k_m=16, n_m=16
    )
    built = ccnn.build(config, jc.spec_of(IMAGES, 3), body=jc.Network(init, apply))
    fitted = jc.fit(built, IMAGES, seed=0)
    assert jc.metrics.accuracy(KINDS, fitted.predict(IMAGES)) > 0.9
    counted = host_arrays(fitted.state.model_state)["network"]["body_seen"]["n"]
    assert float(counted) == 3 * (1 + 2)


def test_settings_are_plain_json(tmp_path):
    jc.save(jc.fit(method(), IMAGES), tmp_path)
    content = json.loads((tmp_path / "fitted.json").read_text())
    assert content["recipe"]["family"] == "dec"
    assert content["recipe"]["config"]["latent_width"] == 4
