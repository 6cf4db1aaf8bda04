"""Runs that choose between several starts: their folder, their summary, kills."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from jaxclust import DEC
from jaxclust.cli import main
from jaxclust.methods import dec
from jaxclust.methods.registry import METHODS
from jaxclust.runs import waiting
from jaxclust.runs.progress import Reporter
from jaxclust.training import contest
from jaxclust.training.checkpoints import Checkpoints
from tests.methods import small
from tests.runs.test_single import own_folder as own_folder
from tests.runs.test_single import read_csv, results

FAST = [
    "--epochs=4", "--pretrain-epochs=1", "--batch-size=50", "--tolerance=0", "--network=sparse",
    "--quiet", "--no-report", "--evaluate-every=2",
]  # fmt: skip
DIGITS = ["run", "--method=dec", "--dataset=digits", "--limit=200", *FAST]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main([*DIGITS, "--starts=3", f"--out={out}"]) == 0
    return out


def summary_of(folder):
    return json.loads((Path(folder) / "summary.json").read_text())


def test_the_summary_lists_every_start_and_the_run_is_the_chosen_ones(finished):
    summary = summary_of(finished)
    told = summary["starts"]
    assert [one["start"] for one in told] == [0, 1, 2]
    assert [one["seed"] for one in told] == contest.seeds_of(0, 3)
    [chosen] = [one for one in told if one["chosen"]]
    assert sorted(len(one["rounds"]) for one in told) == [1, 2, 2]
    for one in told:
        assert 0 < one["acc"] <= 1
        for judged in one["rounds"]:
            assert {"epoch", "score", *contest.CRITERION} <= judged.keys()
    assert main([*DIGITS, f"--seed={chosen['seed']}", "--starts=1", "--out=alone"]) == 0
    assert results(Path("alone")) == results(finished)
    assert summary_of("alone")["starts"] is None
    # The log is that of the chosen start from its first step on.
    steps, alone = (
        [row["step"] for row in map(json.loads, path.read_text().splitlines())]
        for path in (finished / "metrics.jsonl", Path("alone/metrics.jsonl"))
    )
    assert steps == alone


class Killed(BaseException):
    """What no part of the program may catch."""


def killed_at(monkeypatch, kind, name, count):
    """A method that dies at its count-th call, before it does anything."""
    left, usual = [count], getattr(kind, name)

    def dying(self, *arguments, **named):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return usual(self, *arguments, **named)

    monkeypatch.setattr(kind, name, dying)


def armed(monkeypatch, name, count):
    """Dies in the second chunk after the count-th call of a method of `Waiting`."""
    left, usual = [count], getattr(waiting.Waiting, name)

    def arming(self, *arguments):
        found = usual(self, *arguments)
        left[0] -= 1
        if not left[0]:
            killed_at(monkeypatch, Reporter, "chunk", 2)
        return found

    monkeypatch.setattr(waiting.Waiting, name, arming)


def behind_a_verdict(monkeypatch):
    usual = Checkpoints.save

    def dying(self, state, position, now=False):
        if now and list(self.folder.parent.glob("round-0.json")):
            raise Killed
        return usual(self, state, position, now)

    monkeypatch.setattr(Checkpoints, "save", dying)


KILLS = {
    "in the first start": lambda patched: armed(patched, "hooks", 1),
    "in the last start": lambda patched: armed(patched, "hooks", 3),
    "in the second round": lambda patched: armed(patched, "hooks", 4),
    "behind a verdict": behind_a_verdict,
    "between starts": lambda patched: killed_at(patched, waiting.Waiting, "hooks", 2),
    "between rounds": lambda patched: killed_at(patched, waiting.Waiting, "hooks", 4),
    "with the choice made": lambda patched: killed_at(patched, waiting.Waiting, "chosen", 1),
}


@pytest.mark.parametrize("where", KILLS)
def test_killed_runs_go_on_to_the_same_end(where, finished, monkeypatch):
    arguments = [*DIGITS, "--starts=3", "--out=killed", "--checkpoint-every=0"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        KILLS[where](patched)
        main(arguments)
    assert not Path("killed/summary.json").exists()
    assert main([*arguments, "--resume"]) == 0
    assert results(Path("killed")) == results(finished)
    assert summary_of("killed")["starts"] == summary_of(finished)["starts"]
    rows = [json.loads(line) for line in Path("killed/metrics.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [row["step"] for row in whole]


DEEP = {
    "ccnn": ["--pretrain-epochs=1", "--k-m=20", "--n-m=20", "--batch-size=30"],
    "dac": ["--draw-size=30", "--batch-size=30", "--inner-passes=1"],
    "ics": ["--pretrain-epochs=1", "--batch-size=30"],
    "derc": ["--pretrain-epochs=1", "--batch-size=30", "--iterations=1", "--reducer=pca"],
    "dec": ["--pretrain-epochs=1", "--batch-size=30", "--network=sparse"],
    "idec": ["--pretrain-epochs=1", "--batch-size=30"],
    "vade": ["--pretrain-epochs=1", "--batch-size=30"],
}


# Those that share a training loop with one of these are left to JAXCLUST_ALL_CHECKS.
SHUFFLED = DEEP if os.environ.get("JAXCLUST_ALL_CHECKS") else ("ccnn", "dac", "derc")


@pytest.mark.parametrize("method", SHUFFLED)
def test_shuffled_labels_choose_the_same_start(method):
    pictures, kinds = small.images(60)
    shuffled = np.random.default_rng(1).permutation(kinds)
    found = []
    for name, labels in (("a", kinds), ("b", shuffled)):
        np.savez(f"{name}.npz", images=pictures, labels=labels)
        arguments = ["run", f"--method={method}", f"--dataset=npz:{name}.npz", "--epochs=2"]
        arguments += [*DEEP[method], "--starts=2", "--quiet", "--no-report", f"--out={name}"]
        assert main(arguments) == 0
        rows = read_csv(Path(name) / "assignments.csv")
        chosen = [one["chosen"] for one in summary_of(name)["starts"]]
        found.append((chosen, [(row["cluster"], row["confidence"]) for row in rows]))
    assert found[0] == found[1]
    assert found[0][0].count(True) == 1


def test_every_deep_method_has_starts():
    """All that learn something; what only clusters once has none."""
    for name, entry in METHODS.items():
        config = entry.config("best")
        assert hasattr(config, "starts") == hasattr(config, "learning_rate"), name


def test_several_seeds_each_choose_a_start_of_their_own():
    arguments = ["run", "--method=dec", "--dataset=digits", "--limit=100", "--epochs=2"]
    arguments += ["--pretrain-epochs=1", "--network=sparse", "--starts=2", "--seeds=2"]
    arguments += ["--quiet", "--no-report"]
    assert main([*arguments, "--out=several"]) == 0
    for seed in (0, 1):
        folder = Path(f"several/seed-{seed}")
        assert summary_of(folder)["starts"][0]["seed"] == seed
        assert (folder / "starts" / "1" / "round-0.json").is_file()
    assert main([*arguments, "--out=several", "--overwrite"]) == 0
    assert main([*arguments, "--starts=1", "--out=several", "--overwrite"]) == 0
    assert not list(Path("several").glob("**/starts"))


def test_one_program_of_several_seeds_is_refused_with_starts(capsys):
    arguments = [*DIGITS, "--starts=2", "--seeds=2", "--seeds-together=yes"]
    assert main(arguments) == 2
    assert "chooses among several --starts" in capsys.readouterr().err


def test_an_estimator_chooses_as_the_command_line_does():
    pictures, _ = small.images(60)
    np.savez("x.npz", images=pictures)
    arguments = ["run", "--method=dec", "--dataset=npz:x.npz", "--n-clusters=3", "--seed=2"]
    settings = ["--epochs=2", "--pretrain-epochs=1", "--starts=3", "--batch-size=30"]
    settings += ["--network=sparse"]
    assert main([*arguments, *settings, "--quiet", "--no-report", "--out=run"]) == 0
    changes = {"epochs": 2, "pretrain_epochs": 1, "batch_size": 30, "network": "sparse"}
    config = dataclasses.replace(dec.PRESETS["dec"]["best"], **changes)
    model = DEC(3, config=config, starts=3, random_state=2).fit(pictures)
    rows = read_csv(Path("run/assignments.csv"))
    assert model.labels_.tolist() == [int(row["cluster"]) for row in rows]
