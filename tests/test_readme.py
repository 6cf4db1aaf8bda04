"""What the README says is so."""

import re
from pathlib import Path

import numpy as np

from jaxclust.methods import registry

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_the_table_of_methods_is_the_registry_s():
    """python -c "from jaxclust.methods import registry; print(registry.markdown())" prints it."""
    assert registry.markdown() in README


def test_the_method_of_one_s_own_runs():
    [example] = re.findall(r"```python\n(import jax\n.*?)```", README, re.DOTALL)
    rng = np.random.default_rng(0)
    kinds = np.arange(150) % 3
    features = (rng.normal(size=(150, 8)) + 5 * np.eye(3, 8)[kinds]).astype(np.float32)
    names = {"features": features}
    exec(compile(example, "README.md", "exec"), names)
    fitted, jc = names["fitted"], names["jc"]
    assert jc.metrics.accuracy(kinds, fitted.predict(features)) > 0.9
