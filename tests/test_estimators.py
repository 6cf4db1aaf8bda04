"""The scikit-learn face: its own checks, and the same results as the command line's."""

import csv
import dataclasses
import os
import pickle
from typing import get_args, get_type_hints

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxclust
from jaxclust.cli import main
from jaxclust.estimators import image_shape
from jaxclust.methods import registry
from tests.methods import small

METHODS = {entry.estimator: name for name, entry in registry.METHODS.items() if entry.estimator}
NAMES = tuple(METHODS)
ALL = bool(os.environ.get("JAXCLUST_ALL_CHECKS"))
# A few small steps; scikit-learn's checks fit a hundred times.
QUICK = {
    "epochs": 1, "pretrain_epochs": 1, "batch_size": 20, "k_m": 16, "n_m": 16, "draw_size": 20,
    "starts": 1, "inner_passes": 1, "augments": 2, "reducer": "pca", "restarts": 1, "iterations": 1,
    "steps": 20, "pretrain_augmented": False, "cluster_augmented": False,
}  # fmt: skip
_ONE_CLUSTER = "sets n_clusters to 1, which no method here accepts"
EXCLUDED = {
    "check_dont_overwrite_parameters": _ONE_CLUSTER,
    "check_methods_subset_invariance": _ONE_CLUSTER,
    "check_fit2d_predict1d": _ONE_CLUSTER,
    "check_fit2d_1feature": _ONE_CLUSTER,
}
# Blobs of two values are no pictures, and one epoch of random views does not tell them apart.
_BLOBS = {"check_clustering": "wants blobs of two values told apart, after one epoch"}
EXCLUDED_FOR = {"DAC": _BLOBS, "ICS": _BLOBS}


def quick(name):
    config = registry.find(METHODS[name]).config("best")
    known = {key: value for key, value in QUICK.items() if hasattr(config, key)}
    if not ALL and "sparse" in get_args(get_type_hints(type(config)).get("network")):
        known["network"] = "sparse"  # one layer, which compiles in half the time
    config = dataclasses.replace(config, **known)
    return getattr(jaxclust, name)(3, config=config, random_state=0)


# All estimators share what the checks are about; by default one of them is put through those
# that do not fit many times over.
CHECKED = NAMES if ALL else ("DEC",)
SLOW = {
    "check_clustering", "check_dtype_object", "check_estimators_dtypes",
    "check_estimators_nan_inf", "check_estimators_overwrite_params",
    "check_f_contiguous_array_estimator",
    "check_fit_idempotent", "check_fit_score_takes_y", "check_methods_sample_order_invariance",
    "check_pipeline_consistency", "check_positive_only_tag_during_fit",
    "check_transformer_data_not_an_array", "check_transformer_general",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:rows of:UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@parametrize_with_checks(
    [quick(name) for name in CHECKED],
    expected_failed_checks=lambda one: EXCLUDED | EXCLUDED_FOR.get(type(one).__name__, {}),
)
def test_scikit_learn_s_own_checks(estimator, check):
    if not ALL and getattr(check, "func", check).__name__ in SLOW:
        pytest.skip("fits many times over: set JAXCLUST_ALL_CHECKS=1")
    check(estimator)


def as_option(name, value):
    """A setting as the command line takes it."""
    name = name.replace("_", "-")
    return f"--{'' if value else 'no-'}{name}" if isinstance(value, bool) else f"--{name}={value}"


# Of features: all that take nothing else, and one that takes images, too.
OF_FEATURES = ("TEMI", "TURTLE")
RUNS = NAMES if ALL else ("DAC", "DERC", *OF_FEATURES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "features" if name in OF_FEATURES else "npz") for name in RUNS), ("DEC", "features")],
)
def test_every_estimator_is_the_command_line_s_run(name, kind, tmp_path):
    images, _ = small.images(60)
    estimator = quick(name).set_params(random_state=3)
    if kind == "features":
        images = images.reshape(60, -1) / 255.0
        estimator.set_params(features=None if name in OF_FEATURES else True)
    np.savez(tmp_path / "x.npz", **{"images" if kind == "npz" else kind: images})
    config = dataclasses.asdict(estimator.config)
    given = [as_option(key, config[key]) for key in (*QUICK, "network") if key in config]
    command = ["run", f"--method={METHODS[name]}", f"--dataset={kind}:{tmp_path}/x.npz", *given]
    command += ["--n-clusters=3", "--seed=3", "--quiet", "--no-report", f"--out={tmp_path}/run"]
    assert main(command) == 0
    with (tmp_path / "run" / "assignments.csv").open() as file:
        expected = [int(row["cluster"]) for row in csv.DictReader(file)]
    assert estimator.fit_predict(images).tolist() == expected
    with np.load(tmp_path / "run" / "embeddings.npz") as arrays:
        np.testing.assert_array_equal(estimator.transform(images), arrays["features"])
        np.testing.assert_array_equal(estimator.predict_proba(images), arrays["probabilities"])
        if "centroids" in arrays:
            np.testing.assert_array_equal(estimator.cluster_centers_, arrays["centroids"])
    np.testing.assert_array_equal(estimator.predict(images), estimator.labels_)
    restored = pickle.loads(pickle.dumps(estimator))  # noqa: S301
    np.testing.assert_array_equal(restored.predict(images[:7]), estimator.labels_[:7])


def test_a_pickle_holds_no_code_of_the_training_state():
    estimator = quick("DEC").fit(small.images(40)[0])
    assert b"TrainState" not in pickle.dumps(estimator)
    assert all(isinstance(leaf, np.ndarray) for leaf in estimator._leaves)


def test_parameters_are_kept_and_cloned():
    estimator = jaxclust.DAC(n_clusters=5, random_state=2, epochs=3)
    again = clone(estimator.set_params(batch_size=64))
    assert again.get_params() == estimator.get_params()
    assert (again.n_clusters, again.random_state, again.epochs, again.batch_size) == (5, 2, 3, 64)
    assert again._settings(registry.find("dac")).batch_size == 64


def test_seeds_may_be_numpy_s_and_are_bounded():
    images, _ = small.images(40)
    one, other = (
        quick("DEC").set_params(random_state=seed).fit(images) for seed in (1, np.int64(1))
    )
    np.testing.assert_array_equal(one.transform(images), other.transform(images))
    with pytest.raises(ValueError, match="random_state must be at least 0"):
        quick("DEC").set_params(random_state=-1).fit(images)


def test_images_and_their_rows_are_alike():
    images, _ = small.images(40)
    rows = images.reshape(40, -1)
    as_images, as_rows = quick("DEC").fit(images), quick("DEC").fit(rows)
    assert as_images.image_shape_ == as_rows.image_shape_ == images.shape[1:]
    assert as_images.n_features_in_ == rows.shape[1]
    np.testing.assert_array_equal(as_images.labels_, as_rows.labels_)
    np.testing.assert_array_equal(as_images.predict(rows), as_images.labels_)
    flat = make_pipeline(quick("DEC")).fit(images[..., 0])[-1]
    np.testing.assert_array_equal(flat.labels_, as_images.labels_)
    width = as_images.transform(images).shape[1]
    names = as_images.get_feature_names_out()
    assert len(names) == width
    assert names[0] == "dec0"


def test_the_shape_of_rows():
    assert image_shape(784) == (28, 28, 1)
    assert image_shape(3072) == (32, 32, 3)
    with pytest.warns(UserWarning, match="give image_shape"):
        assert image_shape(10) == (1, 10, 1)


def test_what_cannot_be_used_is_refused_in_words():
    images, _ = small.images(40)
    fitted = quick("DEC").fit(images)
    cases = [
        (
            lambda: quick("DEC").set_params(n_clusters=1).fit(images),
            "n_clusters must lie",
        ),
        (
            lambda: quick("DEC").set_params(n_clusters=41).fit(images),
            "n_clusters must lie",
        ),
        (lambda: jaxclust.DEC(preset="bset").fit(images), "did you mean best?"),
        (lambda: jaxclust.DEC(config={"epochs": 3}).fit(images), "config must be a"),
        (lambda: jaxclust.DEC(image_shape=(3, 3, 1)).fit(images.reshape(40, -1)), "does not match"),
        (lambda: jaxclust.DEC(epochs=-1).fit(images), "^epochs must be at least 0"),
        (lambda: jaxclust.DEC(epochs=1.5).fit(images), "epochs must be a whole number"),
        (lambda: jaxclust.DEC(precision="float16").fit(images), "did you mean bfloat16"),
        (lambda: jaxclust.DEC("3").fit(images), "n_clusters must be a whole number"),
        (lambda: jaxclust.DEC(None).fit(images), "n_clusters must be a whole number"),
        (lambda: jaxclust.DEC(devices="2").fit(images), "devices must be a whole number or none"),
        (lambda: jaxclust.DEC(preset=3).fit(images), "preset must be text"),
        (lambda: jaxclust.DEC(image_shape=5).fit(images.reshape(40, -1)), "3 values, each"),
        (lambda: jaxclust.DEC(3).fit(np.zeros((9, 3, 32, 32))), "channels first"),
        (lambda: fitted.predict(images[:, 1:]), "fitted on images of shape"),
        (lambda: fitted.predict(images.astype(np.float32)), "fitted on uint8 images"),
        (lambda: jaxclust.TURTLE(2).fit(images), "Found array with dim 4"),
        (lambda: jaxclust.DAC(2, features=True).fit(np.ones((9, 64))), "needs images"),
        (lambda: jaxclust.DEC(2, features=3).fit(np.ones((9, 64))), "features must be"),
        (lambda: jaxclust.TEMI(2, features=False).fit(np.ones((9, 64))), "needs features"),
        (lambda: quick("DEC").fit(np.full((9, 4, 4), np.nan)), "NaN"),
    ]
    for refused, expected in cases:
        with pytest.raises(ValueError, match=expected):
            refused()
