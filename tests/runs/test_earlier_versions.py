"""What earlier versions left is read, or refused in a line."""

import json
import shutil

import pytest

from jaxclust.cli import main

RUN = ["run", "--method=dec", "--dataset=digits", "--limit=60", "--epochs=1", "--pretrain-epochs=1"]
# What config.json and summary.json did not hold before.
NEWER = {
    "config.json": [("options", "max_megapixels"), ("data", "value_ranges"), ("source",)],
    "summary.json": [("passed_over",), ("finds_number",)],
}


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A run directory as it was before: without newer fields, its checkpoint of another state."""
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "--quiet", "--no-report", "--out=run"]) == 0
    for name, fields in NEWER.items():
        path = tmp_path / "run" / name
        content = json.loads(path.read_text())
        for *around, last in fields:
            holder = content
            for part in around:
                holder = holder[part]
            holder.pop(last)
        path.write_text(json.dumps(content))
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("*0*")
    other = [*RUN, "--method=minibatch_kmeans", "--quiet", "--no-report", "--out=other"]
    assert main([word for word in other if not word.startswith("--pretrain")]) == 0
    [foreign] = (tmp_path / "other" / "checkpoints").iterdir()
    shutil.rmtree(checkpoint)
    shutil.copytree(foreign, checkpoint)
    return tmp_path / "run"


def test_its_results_are_read(earlier, tmp_path, capsys):
    assert main(["report", str(earlier)]) == 0
    assert main(["table", str(earlier), "--format=csv"]) == 0
    assert "digits,dec" in capsys.readouterr().out.replace('"', "")
    assert main(["export", str(earlier), "--to", str(tmp_path / "sorted")]) == 0


def test_its_checkpoint_is_refused_in_a_line(earlier, capsys):
    assert main(["predict", str(earlier), "digits"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "holds another state" in said
    assert main([*RUN, "--out=run", "--resume", "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
