"""Which files of a folder are read, which are passed over, and what is said of those."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.core.errors import InputError
from jaxclust.data import catalogue, formats, searching

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def picture(path, kind=None, value=100, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path, kind, **options)
    return path


def load(folder, **options):
    return catalogue.load(f"folder:{folder}", folder, **options)


def test_what_pillow_reads_is_read(tmp_path):
    """Every ending of a format that Pillow writes, too, and files whose name says nothing."""
    Image.init()
    kinds = {
        ".jfif": "JPEG", ".jpe": "JPEG", ".JPG": "JPEG", ".jif": "JPEG", ".mpo": "JPEG",
        ".avif": "AVIF", ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".tga": "TGA", ".apng": "PNG",
        ".dib": "DIB", ".ico": "ICO", ".pcx": "PCX", ".pnm": "PPM", ".sgi": "SGI", ".qoi": "QOI",
        ".dds": "DDS", ".rgb": "SGI", "": "JPEG", ".0001": "PNG", ".img": "WEBP", ".bin": "TIFF",
        ".jpg_original": "JPEG", ".dat": "BMP", ".a": "GIF", ".b": "AVIF", ".x1": "JPEG2000",
        ".x2": "PPM",
    }  # fmt: skip
    kinds = {end: kind for end, kind in kinds.items() if kind in Image.SAVE}
    for i, (end, kind) in enumerate(kinds.items()):
        options = {"sizes": [(8, 8)]} if kind == "ICO" else {}
        picture(tmp_path / f"{i:02d}{end}", kind, **options)
    found = load(tmp_path, image_size=8)
    assert list(found.ids) == sorted(f"{i:02d}{end}" for i, end in enumerate(kinds))
    assert not found.skipped and found.passed_over() is None
    assert np.abs(found.images.astype(int) - 100).max() <= 12


def test_programs_are_no_formats_that_are_tried(tmp_path, monkeypatch):
    assert not {"EPS", "PDF", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"} & set(formats.formats("x.eps"))
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("it was run"))
    for i in range(3):
        picture(tmp_path / f"{i}.png")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for name in ("named.png", "named.eps", "without"):
        (tmp_path / name).write_bytes(script)
    found = load(tmp_path)
    assert len(found.ids) == 3
    assert [one.file for one in found.skipped] == ["named.png", "named.eps", "without"]
    assert all("PostScript, which is not supported" in one.reason for one in found.skipped)


def test_images_that_cannot_be_read_are_named(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "phone.HEIC", "JPEG")
    (tmp_path / "b.heic").write_bytes(HEIC)
    (tmp_path / "c").write_bytes(HEIC)
    (tmp_path / "d.nef").write_bytes(b"II*\0")
    (tmp_path / "e.svg").write_text("<svg/>")
    (tmp_path / "f.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "g.jpg")
    for name in ("labels.csv", "labels.txt", "film.mp4", "README", "empty"):
        (tmp_path / name).write_text("words" if name != "empty" else "")
    found = load(tmp_path, image_size=8)
    assert found.ids == ("a.png", "phone.HEIC")
    said = {one.file: one.reason for one in found.skipped}
    assert list(said) == ["b.heic", "c", "d.nef", "e.svg", "f.jpg", "g.jpg"]
    assert "HEIC" in said["b.heic"] and "HEIC" in said["c"] and "camera raw" in said["d.nef"]
    assert said["f.jpg"] == "a broken link" and "pipe" in said["g.jpg"]
    line = found.passed_over()
    assert "\n" not in line and line.startswith("b.heic (HEIC")
    assert line.endswith("3 more, see skipped.csv; 5 files that are not images "
                         "(.csv, .mp4, .txt, without an extension)")  # fmt: skip


def test_a_folder_of_others_only_says_so(tmp_path):
    (tmp_path / "b.heic").write_bytes(HEIC)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(InputError, match=r"no image in .*heic: HEIC.*1 file that is not an image"):
        load(tmp_path)


def test_what_systems_keep_is_ignored(tmp_path):
    picture(tmp_path / "a" / "1.jpg")
    picture(tmp_path / ".hidden" / "2.jpg")
    for folder in (".thumbnails", "@eaDir", "__MACOSX", ".Trash-1000", "$RECYCLE.BIN", "a/@eaDir"):
        picture(tmp_path / folder / "1.jpg")
    for i in range(5):
        (tmp_path / "a" / f"._{i}.jpg").write_bytes(b"\0\5\x16\7" + bytes(60))
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0")
    found = load(tmp_path)
    assert found.ids == (".hidden/2.jpg", "a/1.jpg")
    assert found.passed_over() is None


def test_links_to_folders_are_followed_once(tmp_path):
    store, root = tmp_path / "store", tmp_path / "root"
    picture(store / "cats" / "1.png")
    picture(store / "dogs" / "2.png")
    picture(root / "own" / "3.png")
    (root / "cats").symlink_to(store / "cats")
    (root / "also_cats").symlink_to(store / "cats")
    (root / "a_link_to_own").symlink_to(root / "own")
    (root / "own" / "loop").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "self").symlink_to(root / "self")
    # A loop between two folders outside.
    (store / "dogs" / "on").symlink_to(store / "round")
    (store / "round").mkdir()
    (store / "round" / "back").symlink_to(store / "dogs")
    (root / "dogs").symlink_to(store / "dogs")
    found = load(root)
    assert found.ids == ("also_cats/1.png", "dogs/2.png", "own/3.png")
    said = dict(found.skipped)
    assert said == {
        "a_link_to_own/": "a link to own, which is already included",
        "cats/": "a link to also_cats, which is already included",
    }


def test_linked_classes_are_labels(tmp_path):
    for name in ("cats", "dogs"):
        picture(tmp_path / "store" / name / "1.png")
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).symlink_to(tmp_path / "store" / name)
    found = load(tmp_path / "root", labels_from_folders=True)
    assert found.class_names == ("cats", "dogs")
    assert found.labels.tolist() == [0, 1]


def test_folders_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    picture(tmp_path / "open" / "1.png")
    picture(tmp_path / "secret" / "2.png")
    scan = os.scandir

    def refusing(path):
        if Path(path).name in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(searching.os, "scandir", refusing)
    refused = {"secret"}
    found = load(tmp_path)
    assert found.ids == ("open/1.png",)
    assert found.skipped == (("secret/", "Permission denied"),)
    refused = {tmp_path.name}
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("in_memory", [None, 0])
def test_further_pages_of_a_tiff_are_mentioned(tmp_path, in_memory):
    pages = [Image.new("L", (8, 8), 50 * i) for i in range(1, 4)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    pages[1].save(tmp_path / "two.tif", save_all=True, append_images=pages[:1])
    pages[2].save(tmp_path / "one.tif")
    pages[0].save(tmp_path / "moves.gif", save_all=True, append_images=pages[1:])
    found = load(tmp_path, image_size=8, in_memory=in_memory)
    assert found.ids == ("moves.gif", "one.tif", "scan.tif", "two.tif")
    assert found.images[2:4][:, 0, 0, 0].tolist() == [50, 100]
    assert [one.file for one in found.skipped] == ["scan.tif", "two.tif"]
    assert found.skipped[0].reason.startswith("pages 2 to 3 are not read")
    assert found.skipped[1].reason.startswith("page 2 is not read")


def test_the_run_tells_what_was_passed_over(tmp_path, capsys):
    for i in range(4):
        picture(tmp_path / "in" / f"{i}.jfif", "JPEG", 60 * i)
    (tmp_path / "in" / "b.heic").write_bytes(HEIC)
    call = ["run", "--method=kmeans", f"--dataset=folder:{tmp_path / 'in'}", "--n-clusters=2",
            "--quiet", "--no-report", f"--out={tmp_path / 'out'}"]  # fmt: skip
    assert main(call) == 0
    assert "passed_over" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["n_images"], summary["n_skipped"]) == (4, 1)
    assert "b.heic (HEIC" in summary["passed_over"]
    with (tmp_path / "out" / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["b.heic"]
    assert "HEIC" in rows[0]["reason"]
