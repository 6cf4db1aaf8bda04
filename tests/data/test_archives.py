"""ImageNet's and Places' archives, small ones in exactly the real layout."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxclust.cli import main
from jaxclust.core.errors import InputError
from jaxclust.data import archives, catalogue
from jaxclust.data.streaming import Streamed
from tests.data import prepared_set


def jpeg(value, size=(300, 260)):
    """The bytes of a picture of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, (value, 2 * value % 256, 255 - value)).save(content, "JPEG")
    return content.getvalue()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def imagenet_val(manual):
    """Twelve pictures by their real names, not in order, one damaged."""
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        for i in reversed(range(1, 13)):
            content = b"damaged" if i == 5 else jpeg(20 * i)
            add(archive, f"ILSVRC2012_val_{i:08d}.JPEG", content)


def test_imagenets_validation_pictures_and_classes(imagenet_val, tmp_path):
    found = catalogue.load("ilsvrc_val", tmp_path)
    assert found.ids[:2] == ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
    assert len(found.ids) == 11
    assert [skipped.file for skipped in found.skipped] == ["ILSVRC2012_val_00000005.JPEG"]
    assert found.images.shape == (11, 224, 224, 3)
    assert found.n_classes == 1000
    lists = Path(tfds.__file__).parent / "datasets" / "imagenet2012"
    order = (lists / "labels.txt").read_text().split()
    truth = (lists / "validation_labels.txt").read_text().split()
    expected = [order.index(truth[i]) for i in range(12) if i != 4]
    assert found.labels.tolist() == expected
    for i, image in zip([1, 2, 3, 4, 6, 7], found.images, strict=False):
        assert abs(int(image[100, 100, 0]) - 20 * i) <= 2


def test_streamed_out_of_the_archive(imagenet_val, tmp_path):
    held = catalogue.load("ilsvrc_val", tmp_path, image_size=32)
    streamed = catalogue.load("ilsvrc_val", tmp_path, image_size=32, in_memory=0)
    assert isinstance(streamed.images, Streamed)
    np.testing.assert_array_equal(streamed.images[:], held.images)
    some = catalogue.load("ilsvrc_val", tmp_path, image_size=32, in_memory=0, limit=3)
    np.testing.assert_array_equal(some.images[:], held.images[[0, 3, 7]])
    np.testing.assert_array_equal(some.labels, held.labels[[0, 3, 7]])


def test_margin_is_cut_off(manual, tmp_path):
    """256 pixels of a 300x256 picture's height, of which the central 224 are kept."""
    picture = np.zeros((256, 300, 3), np.uint8)
    picture[16:240, 38:262] = 255
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        add(archive, "ILSVRC2012_val_00000001.JPEG", content.getvalue())
    found = catalogue.load("ilsvrc_val", tmp_path)
    assert found.images.min() == 255


def test_classes_of_a_tar_of_tars(manual, tmp_path):
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as outer:
        for i, synset in enumerate((*archives.IMAGENET10, "n01440764")):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for j in (2, 1):
                    add(inner, f"{synset}_{j}.JPEG", jpeg(10 * i + j))
            add(outer, f"{synset}.tar", content.getvalue())
    found = catalogue.load("imagenet10", tmp_path, image_size=16)
    assert len(found.ids) == 20
    assert found.ids[0] == "n02056570_1.JPEG"
    assert found.labels.tolist() == sorted([*range(10)] * 2)
    assert abs(int(found.images[3, 8, 8, 0]) - 12) <= 2
    with pytest.raises(InputError, match="lacks 14 of 15 classes"):
        catalogue.load("imagenet_dog", tmp_path)


def test_places(manual, tmp_path):
    with tarfile.open(manual / "val_256.tar", "w") as archive:
        for i in range(1, 5):
            add(archive, f"val_256/Places365_val_{i:08d}.jpg", jpeg(30 * i, (256, 256)))
    with pytest.raises(InputError, match=r"places365_val\.txt.*filelist"):
        catalogue.load("places_val", tmp_path)
    lines = [f"Places365_val_{i:08d}.jpg {7 * i}" for i in range(1, 5)]
    (manual / "places365_val.txt").write_text("\n".join(lines) + "\n")
    found = catalogue.load("places_val", tmp_path, image_size=24)
    assert found.labels.tolist() == [7, 14, 21, 28]
    with tarfile.open(manual / "train_256_places365standard.tar", "w") as archive:
        for name in ("z/zen_garden/00000001", "a/airfield/00000002", "a/airfield/00000001"):
            add(archive, f"data_256/{name}.jpg", jpeg(9, (256, 256)))
    found = catalogue.load("places_train", tmp_path, image_size=24)
    assert found.ids[0] == "data_256/a/airfield/00000001.jpg"
    assert found.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "name", ["../ILSVRC2012_val_00000001.JPEG", "/tmp/ILSVRC2012_val_00000001.JPEG"]
)
def test_members_that_leave_their_folder_are_refused(name, manual, tmp_path):
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        add(archive, name, jpeg(1))
    with pytest.raises(InputError, match="points outside its folder"):
        catalogue.load("ilsvrc_val", tmp_path)


def test_links_are_refused(manual, tmp_path):
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        link = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match="points outside its folder"):
        catalogue.load("ilsvrc_val", tmp_path)


def test_other_files_are_refused(manual, tmp_path):
    path = manual / "ILSVRC2012_img_val.tar"
    path.write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match="cannot be read as an uncompressed tar"):
        catalogue.load("ilsvrc_val", tmp_path)
    with tarfile.open(path, "w") as archive:
        add(archive, "readme.txt", b"")
    with pytest.raises(InputError, match="none of the images wanted"):
        catalogue.load("ilsvrc_val", tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"ILSVRC2012_img_val\.tar is needed; put the official"):
        catalogue.load("ilsvrc_val", tmp_path)


def test_the_whole_way_to_assignments(imagenet_val, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = [
        "run", "--method=kmeans", "--dataset=ilsvrc_val", "--image-size=16", "--n-clusters=3",
        f"--data-dir={tmp_path}", "--in-memory=0", "--quiet", "--no-report", "--out=run",
    ]  # fmt: skip
    assert main(call) == 0
    with (tmp_path / "run" / "assignments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows][:1] == ["ILSVRC2012_val_00000001.JPEG"]
    assert len(rows) == 11
    assert "ILSVRC2012_val_00000005.JPEG" in (tmp_path / "run" / "skipped.csv").read_text()


def prepared_imagenet(root, split, examples):
    listed = [
        {"image": content, "label": label, "file_name": name.encode()}
        for name, label, content in examples
    ]
    prepared_set.write(root, "imagenet2012", "5.1.0", {split: listed}, shape=None, classes=1000)


def test_a_prepared_imagenet_serves_in_the_archive_s_stead(imagenet_val, tmp_path):
    """tensorflow-datasets shuffles; by name, the pictures are those of the tar."""
    archive = catalogue.load("ilsvrc_val", tmp_path)
    order = archives.synset_order()
    truth = archives._list_of_imagenet("validation_labels.txt")
    examples = [
        (f"ILSVRC2012_val_{i:08d}.JPEG", order.index(truth[i - 1]),
         b"damaged" if i == 5 else jpeg(20 * i))
        for i in (3, 1, 12, 5, 7, 2, 4, 6, 8, 9, 10, 11)
    ]  # fmt: skip
    root = tmp_path / "elsewhere"
    assert not catalogue.present("ilsvrc_val", root)
    prepared_imagenet(root, "validation", examples)
    assert catalogue.present("ilsvrc_val", root)
    for in_memory in (None, 0):
        found = catalogue.load("ilsvrc_val", root, in_memory=in_memory)
        assert isinstance(found.images, Streamed) == (in_memory == 0)
        assert found.ids == archive.ids
        assert [one.file for one in found.skipped] == [one.file for one in archive.skipped]
        np.testing.assert_array_equal(found.labels, archive.labels)
        np.testing.assert_array_equal(found.images[:], archive.images)
    rows = np.array([4, 0])
    np.testing.assert_array_equal(found.take(rows).images[:], archive.images[rows])
    assert found.take(rows).places[0].content() == jpeg(20 * 6)


def test_classes_of_a_prepared_training_set(tmp_path):
    order = archives.synset_order()
    wanted = [*archives.IMAGENET10, order[0], order[999]]
    examples = [
        (f"{synset}_{i}.JPEG", order.index(synset), jpeg(10 * i + j))
        for j, synset in enumerate(reversed(wanted))
        for i in range(2)
    ]
    prepared_imagenet(tmp_path, "train", examples)
    found = catalogue.load("imagenet10", tmp_path, image_size=16)
    assert len(found.ids) == 20
    expected = [archives.IMAGENET10.index(name.split("_")[0]) for name in found.ids]
    assert found.labels.tolist() == expected
    with pytest.raises(InputError, match="lacks 14 of 15 classes"):
        catalogue.load("imagenet_dog", tmp_path)


def test_any_tar_of_images(tmp_path, monkeypatch):
    """The same images as its folder's, in the same order, and labels by folders."""
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for i in range(12):
        file = tmp_path / "in" / "ab"[i % 2] / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(file)
    (tmp_path / "in" / "a" / "note.txt").write_text("no image")
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        # In another order than by name.
        for file in sorted((tmp_path / "in").rglob("*.*"), reverse=True):
            archive.add(file, file.relative_to(tmp_path / "in"))
        archive.add(tmp_path / "in" / "a" / "note.txt", "a/._00.png")
        link = tarfile.TarInfo("a/copy.png")
        link.type, link.linkname = tarfile.SYMTYPE, "00.png"
        archive.addfile(link)
    for in_memory in (None, 0):
        options = {"image_size": 8, "labels_from_folders": True, "in_memory": in_memory}
        folder = catalogue.load(f"folder:{tmp_path / 'in'}", tmp_path, **options)
        found = catalogue.load(f"tar:{tmp_path / 'in.tar'}", tmp_path, **options)
        assert list(found.ids) == list(folder.ids)
        np.testing.assert_array_equal(found.images[:], folder.images[:])
        np.testing.assert_array_equal(found.labels, folder.labels)
        assert [name for name, _ in found.skipped] == ["a/copy.png"]
    # As `tar --append` does; unpacking leaves the later one.
    with tarfile.open(tmp_path / "in.tar", "a") as archive:
        archive.add(tmp_path / "in" / "b" / "01.png", "a/00.png")
    again = catalogue.load(f"tar:{tmp_path / 'in.tar'}", tmp_path, **options)
    assert list(again.ids) == list(folder.ids)
    np.testing.assert_array_equal(again.images[:][0], folder.images[:][6])
    np.testing.assert_array_equal(again.images[:][1:], folder.images[:][1:])
    assert [name for name, _ in again.skipped] == ["a/copy.png", "a/00.png"]
    (tmp_path / "in.tar.gz").write_bytes(b"packed")
    with pytest.raises(InputError, match="decompress it first"):
        catalogue.load(f"tar:{tmp_path / 'in.tar.gz'}", tmp_path)
    assert catalogue.named(str(tmp_path / "in.tar")) == f"tar:{tmp_path / 'in.tar'}"
    (tmp_path / "torn.tar").write_bytes(b"torn")
    with tarfile.open(tmp_path / "none.tar", "w") as archive:
        archive.add(tmp_path / "in" / "a" / "note.txt", "note.txt")
    for name, said in (("torn", "uncompressed tar"), ("none", "no image in"), ("x", "no such")):
        with pytest.raises(InputError, match=said):
            catalogue.load(f"tar:{tmp_path / name}.tar", tmp_path, image_size=8)


def test_a_tar_holds_the_images_of_its_folder(tmp_path):
    """Systems' previews are left out, names without an ending looked into, the rest named."""
    image = jpeg(90, (9, 9))
    contents = {
        "a/1.jpg": image, "a/noend": image, "a/named.heic": image, "a/.thumbnails/1.jpg": image,
        "@eaDir/1.jpg": image, "a/Thumbs.db": b"\xd0\xcf", "phone.heic": b"\0\0\0\x18ftypheic",
        "e.svg": b"<svg/>", "notes.txt": b"words", "README": b"words", "empty": b"",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        archive.add(tmp_path / "in", "in")
    folder = catalogue.load(f"folder:{tmp_path / 'in'}", tmp_path)
    found = catalogue.load(f"tar:{tmp_path / 'in.tar'}", tmp_path)
    assert list(folder.ids) == ["a/1.jpg", "a/named.heic", "a/noend"]
    assert [name.removeprefix("in/") for name in found.ids] == list(folder.ids)
    np.testing.assert_array_equal(found.images, folder.images)
    named = {(one.file.removeprefix("in/"), one.reason) for one in found.skipped}
    assert named == {tuple(one) for one in folder.skipped} and len(named) == 2
    assert found.others == folder.others == "3 files that are not images (.txt, without an "\
        "extension)"  # fmt: skip


@pytest.mark.parametrize("rest", [b"", b"\1" * 2048], ids=["cut off", "damaged"])
def test_a_tar_that_is_not_whole_is_refused(tmp_path, rest):
    """Also where it stops between two members, which the tar library takes for its end."""
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for i in range(3):
            third = archive.offset
            add(archive, f"{i}.jpg", jpeg(50 * i, (9, 9)))
    content = (tmp_path / "in.tar").read_bytes()
    catalogue.load(f"tar:{tmp_path / 'in.tar'}", tmp_path)
    (tmp_path / "in.tar").write_bytes(content[:third] + rest)
    with pytest.raises(InputError, match=rf"(no end mark|damaged member) after {third} bytes"):
        catalogue.load(f"tar:{tmp_path / 'in.tar'}", tmp_path)
