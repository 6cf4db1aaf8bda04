"""The page holds every cluster and picture, and nothing that a file's name put there."""

import base64
import io
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix

from jaxclust.cli import main
from jaxclust.report import cluster_sections, planar_map
from jaxclust.report.chart import Line, line_chart
from jaxclust.report.curves import charts
from jaxclust.report.page import render
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import drawing, place, sheets, squares
from jaxclust.runs.finished import images_of, read_finished
from tests.methods import small
from tests.report.conftest import CLASSES, NAMES, N


class Page(HTMLParser):
    """Tags with their attributes, and text, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.json, self.within = [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = dict(attrs).get("id") if tag == "script" else tag

    def handle_data(self, data):
        if self.within == "data":
            self.json += data
            self.within = None
        elif self.within not in {"style", "script"}:
            self.text.append(data)

    def ids(self):
        return {attrs["id"] for _, attrs in self.tags if "id" in attrs}


@pytest.fixture(scope="module")
def page(finished):
    return Page((finished / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def run(finished):
    return read_finished(finished)


def test_names_are_text_and_never_markup(page):
    assert {tag for tag, _ in page.tags}.isdisjoint({"img", "i", "b", "iframe", "link", "object"})
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert all("://" not in (attrs.get(name) or "") for name in ("href", "src"))
    data = json.loads(page.json)
    assert sorted(data["ids"]) == sorted(
        shown(f"{CLASSES[i % 3]}/{NAMES[i] if i < len(NAMES) else f'{i:02d}.png'}")
        for i in range(N)
    )
    assert data["labelNames"] == sorted(CLASSES)
    said = "".join(page.text)
    assert "torn<b>.png" in said
    assert "\u202e" not in said


def test_every_cluster_has_its_section_and_the_page_needs_no_network(page, finished):
    assert {"cluster-0", "cluster-1", "cluster-2", "map", "confusion", "skipped"} <= page.ids()
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")
    thumbs = [attrs["aria-label"] for tag, attrs in page.tags if "thumb" in attrs.get("class", "")]
    assert len(thumbs) == N
    assert "jaxclust run --method=kmeans" in "".join(page.text)


@given(st.text())
def test_shown_names_hold_only_what_can_be_seen(text):
    seen = shown(text)
    assert shown(seen) == seen
    seen.encode("utf-8")
    assert seen.isprintable() or any(c.isspace() for c in seen)
    if text.isascii() and text.isprintable():
        assert seen == text


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_pictures_are_cut_out_of_the_sheets_where_they_were_put():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (2600, 1, 1, 3))
    images = np.broadcast_to(colours, (2600, 16, 16, 3)).astype(np.uint8)
    rows = rng.permutation(2600)
    found = sheets(lambda some, side: squares(images[some], side), rows, 10**7, 16)
    assert found.side == 16
    assert len(found.uris) == 2
    whole = [decoded(uri) for uri in found.uris]
    for i in (0, 49, 50, 2499, 2500, 2599):
        sheet, x, y = place(found, i, 2600)
        cut = whole[sheet][y : y + 16, x : x + 16]
        # WebP is lossy, most at the edges.
        assert np.abs(cut[4:12, 4:12].mean((0, 1)) - colours[rows[i], 0, 0]).max() < 25


def test_colours_are_the_first_three_channels():
    """A fourth, as of transparency or infrared, is not shown; two are shown as grey."""
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 4), dtype=np.uint8)
    np.testing.assert_array_equal(squares(images, 8), images[..., :3])
    two = squares(images[..., :2], 8)
    np.testing.assert_array_equal(two, np.repeat(images[..., :1], 3, axis=3))


def test_sheets_stay_within_their_budget():
    noise = np.random.default_rng(0).integers(0, 256, (3000, 48, 48, 3), dtype=np.uint8)

    def draw(rows, side):
        return squares(noise[rows], side)

    for budget in (2_000_000, 800_000):
        found = sheets(draw, np.arange(3000), budget, 48)
        assert sum(map(len, found.uris)) < 1.1 * budget
    roomy = sheets(draw, np.arange(3000), 10**8, 48)
    assert roomy.side == 48 > found.side


def test_squares_scale_crop_and_colour():
    images = np.zeros((2, 4, 8, 1), np.float32)
    images[0, :, 2:6] = 2.0
    found = squares(images, 4, low=0.0, high=2.0)
    assert found.shape == (2, 4, 4, 3)
    assert (found[0] == 255).all()
    assert (found[1] == 0).all()
    assert squares(np.zeros((0, 8, 8, 3), np.uint8), 4).shape == (0, 4, 4, 3)


def test_the_pictures_of_a_folder_are_shown_larger_than_the_run_saw_them(run):
    small_set = replace(images_of(run), images=images_of(run).images[:, ::2, ::2])
    drawn = drawing(small_set)(np.array([3]), 8)
    with Image.open(small_set.places[3].path) as original:
        np.testing.assert_array_equal(drawn[0, ..., 0], np.asarray(original))


def test_the_nearest_other_cluster(run):
    sections = cluster_sections.sections(run, None, None, None).clusters
    means = [run.features[run.clusters == c].reshape(-1, 64).mean(0) for c in range(3)]
    for c, section in enumerate(sections):
        others = {o: np.linalg.norm(means[c] - means[o]) for o in range(3) if o != c}
        assert section.nearest == min(others, key=others.get)
        assert section.size == (run.clusters == c).sum()


def test_the_most_and_the_least_certain_are_listed():
    rng = np.random.default_rng(0)
    n = 100

    class Run:
        n_clusters = 2
        ids = tuple(map(str, range(n)))
        clusters = np.arange(n) % 2
        confidence = rng.permutation(n) / n
        features = rng.normal(size=(n, 3))
        outlier, duplicates, names = None, (), ()

    sections = cluster_sections.sections(Run, None, None, None).clusters
    for c, section in enumerate(sections):
        order = sorted(range(c, n, 2), key=lambda i: Run.confidence[i])
        assert [p.row for p in section.most] == order[::-1][:12]
        assert [p.row for p in section.least] == order[:12]


def test_empty_clusters_are_said(run):
    emptied = replace(run, clusters=np.where(run.clusters == 1, 0, run.clusters))
    text = render(emptied, None, "pca")
    assert "Empty: no image was assigned to this cluster" in text
    found = Page(text)
    assert {"cluster-0", "cluster-1", "cluster-2"} <= found.ids()


def test_confusion_is_scikit_learn_s_with_matched_columns(run):
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 4, 200), rng.integers(0, 3, 200)
    labels[labels == 3] = 1_000_000_007
    kinds = cluster_sections.kinds_of(replace(run, labels=labels), ("a",))
    assert kinds.names == ["a", "1", "2", "1000000007"]
    table = cluster_sections.confusion(replace(run, labels=labels, clusters=found), kinds)
    counts = np.array([[count for count, _ in row] for row in table.rows])
    expected = confusion_matrix(kinds.labels, found, labels=range(4))[:, table.clusters]
    np.testing.assert_array_equal(counts, expected)
    many = rng.integers(0, 60, 5000)
    crowded = replace(run, labels=many, clusters=many)
    assert cluster_sections.confusion(crowded, cluster_sections.kinds_of(crowded, ())) is None


def test_a_chart_draws_its_values():
    text = line_chart({"loss": Line([0, 10], [1.0, 3.0])}, [5], "loss")
    (x0, y0), (x1, y1) = (
        map(float, point.split(",")) for point in text.split('points="')[1].split('"')[0].split()
    )
    assert x0 < x1 and y0 > y1
    assert 'aria-label="loss: loss from 1 to 3; steps 0 to 10"' in text
    assert text.count('class="mark"') == 1
    flat = line_chart({"a": Line([1, 2], [0.0, 0.0])})
    assert "nan" not in flat


def test_charts_leave_out_what_is_no_curve():
    rows = [{"step": i, "epoch": i, "phase": "p", "loss": 1 / (i + 1), "x": None} for i in range(9)]
    rows[3]["loss"] = float("inf")
    rows[5] |= {"nmi": 0.5}
    [panel] = charts(rows)
    assert panel.title == "loss"
    assert panel.last == [("loss", f"{1 / 9:.4g}")]
    assert charts([]) == []


def test_losses_of_phases_do_not_share_a_scale():
    rows = [{"step": i, "phase": "pretrain", "loss": 100.0 - i, "x": 1.0} for i in range(5)]
    rows += [{"step": i, "phase": "cluster", "loss": 0.1 * i, "x": 2.0} for i in range(5, 9)]
    assert [panel.title for panel in charts(rows)] == ["loss, pretrain", "loss, cluster", "x"]


def test_maps_lie_in_the_unit_square_and_keep_proportions(run):
    every = np.arange(N)
    found, name = planar_map.plane(run, every, "pca")
    assert name.startswith("principal components")
    assert found.min() >= 0 and found.max() <= 1
    own, name = planar_map.plane(replace(run, map=np.array([[0.0, 0], [4, 1]] * 18)), every, "auto")
    assert name == "the run's own map"
    np.testing.assert_allclose(np.ptp(own, axis=0), [1, 0.25])
    narrow, _ = planar_map.plane(
        replace(run, features=run.features.reshape(N, -1)[:, :1]), every, "pca"
    )
    assert narrow.shape == (N, 2)


def spreadless(n=N):
    """Features of n images that no map can be made of, by what is wrong with them."""
    columns = np.arange(5.0)
    return {
        "alike": np.zeros((n, 5)),
        # Its columns differ; its images do not.
        "alike, not zero": np.tile(columns, (n, 1)),
        "not finite": np.where(columns == 2, np.nan, np.ones((n, 5))),
    }


@pytest.mark.parametrize("how", ["auto", "pca", "tsne"])
@pytest.mark.parametrize("name", spreadless())
def test_features_without_spread_have_a_page_without_a_map(run, name, how):
    wrong = replace(run, features=spreadless()[name])
    found, said = planar_map.plane(wrong, np.arange(N), how)
    assert found is None
    assert said.startswith(f"all {N}" if "alike" in name else f"{N} of {N}")
    text = render(wrong, images_of(run), how)
    page = Page(text)
    assert f"No map: {said}." in "".join(page.text)
    assert not {tag for tag, _ in page.tags} & {"canvas", "script", "button"}
    assert {"map", "cluster-0", "cluster-1", "cluster-2", "confusion"} <= page.ids()


def test_a_label_that_is_not_known_is_no_class(run):
    labels = np.where(np.arange(N) % 4 == 0, -1, np.arange(N) % 2)
    found = np.arange(N) % 2
    partly = replace(run, labels=labels, clusters=found)
    kinds = cluster_sections.kinds_of(partly, ("a", "b"))
    assert kinds.names == ["a", "b", "not known"]
    table = cluster_sections.confusion(partly, kinds)
    assert table.labels == ["a", "b"]
    assert sum(count for row in table.rows for count, _ in row) == (labels >= 0).sum()
    assert [share for row in table.rows for _, share in row] == [100, 0, 0, 100]
    unknown = replace(run, labels=np.full(N, -1))
    assert cluster_sections.confusion(unknown, cluster_sections.kinds_of(unknown, ())) is None


def test_a_map_of_the_run_s_own_that_shows_nothing_gives_way_to_the_features(run):
    for own in (np.zeros((N, 2)), np.full((N, 2), np.nan)):
        found, said = planar_map.plane(replace(run, map=own), np.arange(N), "auto")
        assert said == "t-SNE of the features"
        assert np.isfinite(found).all()


def test_copies_of_one_picture_are_clustered_and_said(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(4):
        Image.fromarray(small.images(1)[0][0, ..., 0]).save(tmp_path / "in" / f"{i}.png")
    run = ["run", "--method=kmeans", "--n-clusters=2", f"--dataset=folder:{tmp_path}/in"]
    assert main([*run, f"--out={tmp_path}/run"]) == 0
    assert "warning: the page has no map: all 4 images' features" in capsys.readouterr().err
    assert main([*run, f"--out={tmp_path}/quiet", "--quiet"]) == 0
    assert not capsys.readouterr().err
    assert "No map: all 4" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_report_is_written_anew_and_without_pictures_where_they_are_gone(
    finished, tmp_path, capsys
):
    again = tmp_path / "run"
    shutil.copytree(finished, again)
    (again / "report.html").unlink()
    assert main(["report", str(again), "--map=pca"]) == 0
    assert capsys.readouterr().out.strip() == str(again / "report.html")
    assert "principal components" in (again / "report.html").read_text("utf-8")
    config = json.loads((again / "config.json").read_text())
    config["source"] = "folder:nowhere"
    (again / "config.json").write_text(json.dumps(config))
    (again / "report.html").unlink()
    assert main(["report", str(again), "--map=pca"]) == 0
    assert "a page without images: no such folder" in capsys.readouterr().err
    text = (again / "report.html").read_text("utf-8")
    assert "data:image" not in text
    assert "cluster-2" in Page(text).ids()


def test_what_is_no_finished_run_is_refused(tmp_path, capsys, finished):
    for where, expected in [(tmp_path, "no config.json"), (tmp_path / "no", "no config.json")]:
        assert main(["report", str(where)]) == 2
        assert expected in capsys.readouterr().err
    damaged = tmp_path / "damaged"
    shutil.copytree(finished, damaged)
    whole = (finished / "embeddings.npz").read_bytes()
    lines = (finished / "assignments.csv").read_bytes().splitlines(keepends=True)
    for name, content in [
        ("embeddings.npz", b"PK"),
        ("embeddings.npz", b""),
        ("embeddings.npz", whole[:-200]),
        ("embeddings.npz", whole[:90] + bytes(90) + whole[180:]),
        ("assignments.csv", b"".join(lines[:-3])),
        ("summary.json", b"{"),
    ]:
        before = (damaged / name).read_bytes()
        (damaged / name).write_bytes(content)
        assert main(["report", str(damaged)]) == 2
        assert "is damaged" in capsys.readouterr().err
        (damaged / name).write_bytes(before)
    assert main(["report", str(finished), "--map=lda"]) == 2
    assert "invalid choice" in capsys.readouterr().err


def test_a_failed_page_does_not_fail_the_run(tmp_path, capsys, monkeypatch):
    from jaxclust.report import page as module

    def fail(*_, **__):
        raise RuntimeError("no room")

    monkeypatch.setattr(module, "write", fail)
    command = ["run", "--method=kmeans", "--dataset=digits", "--limit=50", f"--out={tmp_path}/run"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "report.html could not be written (no room)" in said.err
    assert (tmp_path / "run" / "summary.json").is_file()
