"""Every id comes back from the tables as it was."""

import csv
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxclust.cli import main
from jaxclust.runs import csv_tables
from jaxclust.runs.finished import read_finished
from tests.methods import small

# What a file may be called on Linux, its bytes decoded as Python decodes them.
FILES = st.binary(min_size=1).filter(lambda b: b"\0" not in b and b"/" not in b).map(os.fsdecode)


@given(st.lists(FILES, min_size=1))
def test_any_name_comes_back(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    text = csv_tables.as_text(("index", "id"), enumerate(names))
    path.write_bytes(text.encode("utf-8", csv_tables.ERRORS))
    rows = csv_tables.read_rows(path)
    assert [row["id"] for row in rows] == names
    assert [int(row["index"]) for row in rows] == list(range(len(names)))


def test_numbers_are_not_quoted_and_strings_are():
    rows = [(0, "a", np.int64(3), 0.25), (1, 'q"', np.int32(4), 1e-7)]
    text = csv_tables.as_text(("index", "id", "cluster", "confidence"), rows)
    assert text == 'index,id,cluster,confidence\n0,"a",3,0.25\n1,"q""",4,1e-07\n'


@pytest.mark.skipif(sys.platform != "linux", reason="names that other systems refuse")
def test_a_run_on_awkward_names_is_read_by_every_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["Icon\r.png", "a\nb.png", 'q"uote.png', "com,ma.png", "caf\udce9.png", "\x1b[31m.png"]
    (tmp_path / "in").mkdir()
    for name, picture in zip(names, small.images(6)[0], strict=True):
        Image.fromarray(picture[..., 0]).save(tmp_path / "in" / name)
    (tmp_path / "in" / "torn\r.png").write_bytes(b"no")
    run = ["run", "--method=kmeans", "--dataset=folder:in", "--n-clusters=2", "--quiet"]
    assert main([*run, "--no-report", "--out=run"]) == 0
    run = read_finished(tmp_path / "run")
    assert sorted(run.ids) == sorted(names)
    assert run.skipped[0][0] == "torn\r.png"
    assert main(["report", "run", "--map=pca"]) == 0
    assert main(["export", "run", "--to=out"]) == 0
    assert main(["table", "run"]) == 0
    assert main(["predict", "run", "in", "--out=labels.csv"]) == 0
    with (tmp_path / "labels.csv").open("r", -1, "utf-8", "surrogateescape", "") as file:
        assert tuple(row["id"] for row in csv.DictReader(file)) == run.ids
