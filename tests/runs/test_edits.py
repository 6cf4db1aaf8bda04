"""Edits of a run's clusters: each kind, what is refused, the edited run."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jaxclust.cli import main
from jaxclust.core.errors import InputError
from jaxclust.report import comparison
from jaxclust.runs import edited, edits
from jaxclust.runs.finished import read_finished
from tests.methods import small

N = 36


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    images, kinds = small.images(N)
    np.savez(folder / "x.npz", images=images, labels=kinds)
    command = ["run", "--method=kmeans", f"--dataset=npz:{folder}/x.npz", "--n-clusters=3"]
    assert main([*command, "--quiet", "--no-report", f"--out={folder}/run"]) == 0
    return read_finished(folder / "run")


def rows_of(run, cluster):
    return np.flatnonzero(run.clusters == cluster).tolist()


def after(run, *listed):
    return edits.applied(run, listed)


def test_no_edit_changes_nothing(finished):
    found = after(finished)
    np.testing.assert_array_equal(found.clusters, finished.clusters)
    assert found.names == ("", "", "")
    assert not found.touched.any()


def test_a_name_is_given_and_taken_away(finished):
    given = {"do": "rename", "cluster": 1, "name": " left bars "}
    assert after(finished, given).names == ("", "left bars", "")
    taken = {"do": "rename", "cluster": 1, "name": ""}
    assert after(finished, given, taken).names == ("", "", "")


def test_merged_clusters_are_one_and_numbers_close_up(finished):
    found = after(
        finished,
        {"do": "rename", "cluster": 2, "name": "two"},
        {"do": "merge", "cluster": 0, "into": 1},
    )
    expected = np.where(finished.clusters == 2, 1, 0)
    np.testing.assert_array_equal(found.clusters, expected)
    assert found.names == ("", "two")


def test_moved_images_and_a_new_cluster(finished):
    row, other = rows_of(finished, 0)[:2]
    found = after(
        finished,
        {"do": "move", "rows": [row], "into": 2},
        {"do": "move", "rows": [other], "into": 9},
    )
    expected = finished.clusters.copy()
    expected[row], expected[other] = 2, 3
    np.testing.assert_array_equal(found.clusters, expected)
    assert np.flatnonzero(found.touched).tolist() == sorted([row, other])


def test_noise_is_of_no_cluster_and_comes_last(finished):
    rows = rows_of(finished, 1)
    found = after(finished, {"do": "noise", "rows": rows})
    assert found.names == ("", "", "noise")
    assert set(found.clusters[rows]) == {2}
    np.testing.assert_array_equal(found.noise, finished.clusters == 1)


def test_a_split_s_first_part_stays_and_images_left_out_go_to_the_nearest_part(finished):
    rows = rows_of(finished, 0)
    near, far = rows[:3], rows[3:5]
    found = after(finished, {"do": "split", "cluster": 0, "parts": [near, far], "new": [3]})
    assert set(found.clusters[near]) == {0}
    assert set(found.clusters[far]) == {3}
    flat = finished.features.reshape(N, -1).astype(np.float64)
    means = [flat[part].mean(axis=0) for part in (near, far)]
    for row in rows[5:]:
        closer = np.argmin([np.linalg.norm(flat[row] - mean) for mean in means])
        assert found.clusters[row] == (0, 3)[closer]


@pytest.mark.parametrize(
    "edit",
    [
        {"do": "explode"},
        {},
        {"do": "rename", "cluster": 0, "name": "a\nb"},
        {"do": "rename", "cluster": 0, "name": "x" * 201},
        {"do": "rename", "cluster": 0, "name": 3},
        {"do": "rename", "cluster": -1, "name": "x"},
        {"do": "merge", "cluster": 0},
        {"do": "merge", "cluster": True, "into": 1},
        {"do": "move", "rows": [N], "into": 1},
        {"do": "move", "rows": "all", "into": 1},
        {"do": "move", "rows": [0.5], "into": 1},
        {"do": "move", "rows": [0], "into": 10**9},
        {"do": "split", "cluster": 0, "parts": [[0]], "new": [3]},
        {"do": "split", "cluster": 0, "parts": [[], []], "new": [3]},
    ],
)
def test_what_makes_no_sense_is_refused_by_its_number(finished, edit):
    fine = {"do": "rename", "cluster": 0, "name": "fine"}
    with pytest.raises(InputError, match="edit 2 cannot be applied"):
        after(finished, fine, edit)


def test_parts_must_be_apart_and_of_the_cluster(finished):
    rows, others = rows_of(finished, 0), rows_of(finished, 1)
    for parts in ([rows[:2], rows[1:3]], [rows[:2], others[:1]]):
        with pytest.raises(InputError, match="not apart, or not of it"):
            after(finished, {"do": "split", "cluster": 0, "parts": parts, "new": [3]})


def test_a_split_s_new_clusters_are_new(finished):
    """With another cluster's number its images would join that one unsaid."""
    rows = rows_of(finished, 0)
    parts = [rows[:2], rows[2:4], rows[4:6]]
    for new in ([3, 1], [3, 3], [0, 3]):
        with pytest.raises(InputError, match="a number that no cluster has"):
            after(finished, {"do": "split", "cluster": 0, "parts": parts, "new": new})
    found = after(finished, {"do": "split", "cluster": 0, "parts": parts, "new": [3, 4]})
    assert set(found.clusters) == {0, 1, 2, 3, 4}


def saved(run, path, *listed, **changes):
    content = {"jaxclust_edits": 1, "run": edits.mark(run.clusters), "edits": list(listed)}
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_all_clusters_can_become_one(finished, tmp_path):
    merges = [{"do": "merge", "cluster": cluster, "into": 2} for cluster in (0, 1)]
    file = saved(finished, tmp_path / "edits.json", *merges)
    out = tmp_path / "new"
    assert main(["apply", str(finished.path), str(file), f"--out={out}"]) == 0
    summary = read_finished(out).summary
    assert summary["clusters_found"] == 1 and summary["assignment_entropy"] == 0


def test_what_is_refused_leaves_nothing_behind(finished, tmp_path, capsys):
    file = saved(finished, tmp_path / "edits.json")
    out = tmp_path / "new"
    command = ["apply", str(finished.path), str(file), f"--out={out}"]
    assert main([*command, f"--images=npz:{tmp_path}/gone.npz"]) == 2
    assert not out.exists()
    assert main([*command, "--as", "folders"]) == 0
    assert (out / "exports").is_dir()


def test_scores_by_other_rules_are_not_those_of_the_edited_clusters(finished, tmp_path):
    summary = {**finished.summary, "acc_output": 0.5, "nmi_centroid": 0.5, "starts": [{"acc": 0.5}]}
    result = after(finished, {"do": "merge", "cluster": 0, "into": 1})
    edited.write(replace(finished, summary=summary), result, [], tmp_path / "new")
    found = read_finished(tmp_path / "new").summary
    assert not {"acc_output", "nmi_centroid"} & found.keys()
    assert found["starts"] is None
    assert found.keys() - {"edited"} == finished.summary.keys()


def test_the_edited_run_is_one_of_its_own(finished, tmp_path):
    before = {path.name: path.read_bytes() for path in finished.path.iterdir() if path.is_file()}
    row = rows_of(finished, 0)[0]
    file = saved(
        finished,
        tmp_path / "edits.json",
        {"do": "rename", "cluster": 2, "name": "right, bars"},
        {"do": "merge", "cluster": 0, "into": 1},
        {"do": "noise", "rows": [row]},
    )
    out = tmp_path / "new"
    assert main(["apply", str(finished.path), str(file), f"--out={out}"]) == 0
    changed = read_finished(out)
    assert changed.names == ("", "right, bars", "noise")
    assert changed.n_clusters == 3
    assert changed.confidence[row] == 1
    assert changed.ids == finished.ids
    np.testing.assert_array_equal(changed.features, finished.features)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["edited"] and summary["n_clusters"] == 3
    assert summary["acc"] < finished.summary["acc"]
    assert summary["out"] == str(out)
    # A table tells it from what the method found, whose published figures are not for it.
    (row_of_it,) = comparison.rows_of([out])
    assert row_of_it.title.endswith(", edited by hand")
    assert row_of_it.published is None
    assert len(comparison.rows_of([finished.path, out])) == 2
    page = (out / "report.html").read_text()
    assert "right, bars" in page
    after = {path.name: path.read_bytes() for path in finished.path.iterdir() if path.is_file()}
    assert after == before
    # Once more over it, and a prediction with it, are refused.
    assert main(["apply", str(finished.path), str(file), f"--out={out}"]) == 2
    assert main(["predict", str(out), "digits"]) == 2


def test_default_folder_and_edits_of_edits(finished, tmp_path, capsys):
    file = saved(finished, tmp_path / "edits.json", {"do": "merge", "cluster": 0, "into": 1})
    assert main(["apply", str(finished.path), str(file)]) == 0
    first = read_finished(finished.path.with_name("run-edited"))
    assert first.n_clusters == 2
    again = saved(first, tmp_path / "more.json", {"do": "rename", "cluster": 0, "name": "most"})
    assert main(["apply", str(first.path), str(again)]) == 0
    second = read_finished(first.path.with_name("run-edited-edited"))
    assert second.names == ("most", "")
    # Edits of one are none of the other.
    assert main(["apply", str(first.path), str(file), f"--out={tmp_path}/out"]) == 2
    assert "of another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "no edits of version 1"),
        ('{"jaxclust_edits": 2}', "no edits of version 1"),
    ],
)
def test_other_files_are_refused_in_one_line(finished, tmp_path, capsys, text, said):
    def applying(file):
        return main(["apply", str(finished.path), str(file), f"--out={tmp_path}/out"])

    (tmp_path / "edits.json").write_text(text)
    assert applying(tmp_path / "edits.json") == 2
    assert said in capsys.readouterr().err
    assert applying(tmp_path / "none.json") == 2
    assert applying(saved(finished, tmp_path / "edits.json", edits={"do": "noise"})) == 2
    assert "no list of edits" in capsys.readouterr().err
