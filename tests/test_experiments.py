"""What the tables of experiments/ say is what their runs said."""

import importlib
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def table(monkeypatch, tmp_path):
    from experiments.tables import grid

    monkeypatch.setattr(grid, "RESULTS", tmp_path / "results")
    return grid.Table("example", "An example", [grid_cell("a-digits", "A")], seeds=(0, 1))


def grid_cell(name, title, **more):
    from experiments.tables import grid

    return grid.Cell(name, title, "digits", ["--method=kmeans", "--limit=60"], **more)


def run(table, monkeypatch, *arguments):
    from experiments.tables import grid

    monkeypatch.setattr(sys, "argv", ["example.py", *arguments])
    assert grid.main(table, "An example.") == 0
    return json.loads((grid.RESULTS / "example.json").read_text())


def test_a_table_runs_what_is_missing_and_keeps_what_is_recorded(table, monkeypatch, tmp_path):
    [row] = run(table, monkeypatch, "--seeds", "0")
    summary = json.loads((tmp_path / "runs/example/a-digits-0/summary.json").read_text())
    assert (row["seeds"], row["acc"], row["epoch"]) == ([0], [summary["acc"]], ["all"])
    # Another machine, without the run's folder: only the other seed is run.
    monkeypatch.chdir(tmp_path / "runs")
    [both] = run(table, monkeypatch)
    assert both["seeds"] == [0, 1]
    assert both["acc"][0] == summary["acc"]
    assert [path.name for path in Path("runs/example").iterdir()] == ["a-digits-1"]
    said = (tmp_path / "results" / "example.md").read_text()
    mean, spread = statistics.mean(both["acc"]), statistics.stdev(both["acc"])
    assert f"| {100 * mean:.1f} ± {100 * spread:.1f} | 0, 1 | all |" in said
    assert "`jaxclust run --method=kmeans --limit=60 --dataset=digits --seed SEED`" in said


def test_a_cell_may_have_more_seeds_than_its_table(table, monkeypatch):
    more = grid_cell("b-digits", "B", seeds=range(7))
    rows = run(table._replace(cells=[*table.cells, more]), monkeypatch)
    assert [row["seeds"] for row in rows] == [[0, 1], list(range(7))]
    shown = Path("results/example.md").read_text()
    assert "| 0, 1 | all | 0, 0 |" in shown
    assert "| 0 to 6 | all | 0 |" in shown


def test_an_unfinished_run_is_listed_with_its_epoch_and_finished_later(
    table, monkeypatch, tmp_path
):
    folder = tmp_path / "runs/example/a-digits-0"
    [whole] = run(table, monkeypatch, "--seeds", "0")
    (folder / "summary.json").unlink()
    scored = {"epoch": 3, "nmi": 0.5, "acc": 0.6, "ari": 0.4, "empty_clusters": 0}
    (folder / "metrics.jsonl").write_text(
        json.dumps({"loss": 1}) + "\n" + json.dumps(scored) + "\n"
    )
    [partial] = run(table, monkeypatch, "--collect")
    assert (partial["acc"], partial["epoch"]) == ([0.6], ["3 of 0"])
    assert partial["n_images"] == 60
    [again] = run(table, monkeypatch, "--seeds", "0")
    assert (again["acc"], again["epoch"]) == (whole["acc"], ["all"])


def test_rows_are_merged_by_seed():
    from experiments.tables import grid

    old = {"name": "a", "seeds": [0, 2], "acc": [0.1, 0.3], "nmi_output": [1, 3]}
    new = {"name": "a", "seeds": [1, 2], "acc": [0.2, 0.9]}
    merged = grid.merge(old, new)
    assert merged["seeds"] == [0, 1, 2]
    assert merged["acc"] == [0.1, 0.2, 0.9]
    assert merged["nmi_output"] == [1, None, None]
    assert grid.spread([0.5]) == "50.0"


@pytest.mark.parametrize(
    "name",
    [
        "ccnn_small",
        "dac_small",
        "dac_sweeps",
        "baselines",
        "autoencoders",
        "derc_studies",
        "ics_studies",
    ],
)
def test_every_cell_of_every_table_is_a_run_that_can_start(name):
    """Options, presets and data sets exist; nothing is run."""
    from dataclasses import replace

    from jaxclust.cli.arguments import last_value
    from jaxclust.cli.run import parse
    from jaxclust.data.catalogue import CATALOGUE
    from jaxclust.methods import registry
    from jaxclust.runs.options import Options

    module = importlib.import_module(f"experiments.tables.{name}")
    cells = module.TABLE.cells if hasattr(module, "TABLE") else module.CELLS
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.dataset in CATALOGUE
        arguments = cell.arguments()
        registered = registry.find(last_value(arguments, "method") or "")
        config = registered.config(last_value(arguments, "preset") or "best")
        parsed, _ = parse(arguments, replace(Options()), config, "")
        assert parsed.dataset == cell.dataset


def test_a_response_map_adds_up_to_the_likeness_of_the_mean():
    from experiments.figures import ccnn_maps

    rng = np.random.default_rng(0)
    maps, centroid = rng.random((2, 3, 4, 5)), rng.random(5)
    lit = ccnn_maps.response(maps, centroid)
    product = np.einsum("nhwc,c->nhw", maps, centroid)
    np.testing.assert_allclose(
        lit * product.max(axis=(1, 2))[:, None, None], product, err_msg="each position's part"
    )
    np.testing.assert_allclose(product.mean(axis=(1, 2)), maps.mean(axis=(1, 2)) @ centroid)
    assert lit.max(axis=(1, 2)).tolist() == [1, 1]
    assert not ccnn_maps.response(maps, -centroid).any()
