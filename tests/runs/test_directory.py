"""What a run directory's files hold."""

import json

import pytest

from jaxclust.runs.directory import RunDirectory


def test_the_log_is_strict_json(tmp_path):
    """Also where a norm is infinite, which Python would write as `Infinity`."""
    directory = RunDirectory(tmp_path)
    directory.append_metrics([{"step": 1, "gradient_norm": float("inf"), "phase": "cluster"}])
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    strict = json.JSONDecoder(parse_constant=lambda name: pytest.fail(name))
    assert strict.decode(line) == {"step": 1, "gradient_norm": None, "phase": "cluster"}
