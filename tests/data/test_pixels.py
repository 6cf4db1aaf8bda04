"""One image: bad metadata, long and thin ones, very large ones."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxclust.core.errors import InputError
from jaxclust.data import catalogue, pixels
from jaxclust.data.metadata import without_metadata
from jaxclust.data.resizing import resize_and_crop

# Top left black, the other corners red, green and blue: no two ways round look alike.
CORNERS = np.zeros((16, 16, 3), np.uint8)
CORNERS[:8, 8:, 0] = CORNERS[8:, :8, 1] = CORNERS[8:, 8:, 2] = 200

# Colours of JPEG bleed; turned or mirrored, the mean difference is 50 and more.
NEAR = 15


def load(folder, **options):
    return catalogue.load(f"folder:{folder}", folder, **options)


def saved(kind, **options):
    content = io.BytesIO()
    Image.fromarray(CORNERS).save(content, kind, **options)
    return content.getvalue()


def png_with(kind, data, *, crc=None, last=False):
    """A PNG with a chunk of one's own, before or behind the pixels."""
    content = saved("PNG")
    crc = zlib.crc32(kind + data) if crc is None else crc
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    at = content.index(b"IEND") - 4 if last else 33
    return content[:at] + chunk + content[at:]


def jpeg_with(marker, data):
    content = saved("JPEG", quality=95)
    return (
        content[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data + content[2:]
    )


def exif(*entries, count=None):
    """An EXIF block of (tag, type, count, four bytes)."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries) if count is None else count)
    return head + b"".join(struct.pack("<HHI", *one[:3]) + one[3] for one in entries) + bytes(4)


def tiff_with_words_elsewhere():
    """A TIFF whose description, the first tag that is none of the pixels', lies behind its end."""
    content = saved("TIFF", tiffinfo={270: "words" * 5})
    at = content.index(struct.pack("<HHI", 270, 2, 26)) + 8
    return content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :]


TURNED = (0x112, 3, 1, b"\6\0\0\0")
BOMB = zlib.compress(bytes(5_000_000))
BAD = {
    "text.png": png_with(b"zTXt", b"x\0\0" + BOMB),
    "text_last.png": png_with(b"zTXt", b"x\0\0" + BOMB, last=True),
    "itxt.png": png_with(b"iTXt", b"x\0\1\0\0\0" + BOMB),
    "torn_text.png": png_with(b"zTXt", b"x\0\0torn"),
    "icc.png": png_with(b"iCCP", b"x\0\0" + BOMB),
    "torn_icc.png": png_with(b"iCCP", b"x\0\0torn"),
    "crc.png": png_with(b"tEXt", b"a\0b", crc=1),
    "short_phys.png": png_with(b"pHYs", b"\0"),
    "short_gama.png": png_with(b"gAMA", b""),
    "short_chrm.png": png_with(b"cHRM", b"123"),
    "short_time.png": png_with(b"tIME", b"1"),
    "exif.png": png_with(b"eXIf", b"garbage!!"),
    "exif_last.png": png_with(b"eXIf", b"garbage!!", last=True),
    "exif.jpg": jpeg_with(0xE1, b"Exif\0\0garbage!!"),
    "exif_short.jpg": jpeg_with(0xE1, b"Exif\0\0II"),
    "icc.jpg": jpeg_with(0xE2, b"ICC_PROFILE\0"),
    "icc_torn.jpg": jpeg_with(0xE2, b"ICC_PROFILE\0\1\2torn"),
    "mpf.jpg": jpeg_with(0xE2, b"MPF\0garbage!!"),
    "photoshop.jpg": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x04\x04"),
    "jfif.jpg": jpeg_with(0xE0, b"JFIF"),
    "adobe.jpg": jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:torn"),
    "comment.jpg": jpeg_with(0xFE, b"\xff\xfe\0"),
    "exif.webp": saved("WEBP", lossless=True, exif=b"Exif\0\0garbage!!"),
    "icc.webp": saved("WEBP", lossless=True, icc_profile=b"torn"),
    "icc.tif": saved("TIFF", icc_profile=b"torn"),
    "words.tif": tiff_with_words_elsewhere(),
    "ifd.tif": saved("TIFF", tiffinfo={34665: 99_999_999}),
}


@pytest.mark.parametrize("name", BAD)
def test_metadata_that_cannot_be_read_are_ignored(tmp_path, name):
    (tmp_path / name).write_bytes(BAD[name])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load(tmp_path)
    assert not found.skipped and not caught
    assert np.abs(found.images[0].astype(int) - CORNERS).mean() < NEAR


@pytest.mark.parametrize(
    "block",
    [
        exif(TURNED, (0x11A, 10, 1, struct.pack("<I", 40)), count=2) + struct.pack("<ii", -1, 0),
        exif(TURNED, (0x9286, 7, 4, b"\x41\x41\x41\x41")),
        exif((0x112, 3, 2, b"\6\0\6\0")),
        exif(TURNED, count=9),
        exif(TURNED, (0x8769, 4, 1, b"\xff\xff\xff\x7f")),
        b"Exif\0\0" + exif(TURNED),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bad_tags_beside_the_orientation(tmp_path, kind, block):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    content = saved(kind, exif=b"Exif\0\0" + block, **options)
    (tmp_path / f"a.{kind.lower()}").write_bytes(content)
    image = load(tmp_path).images[0]
    assert np.abs(image.astype(int) - np.rot90(CORNERS, -1)).mean() < NEAR


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_orientations_that_are_none(tmp_path, value):
    content = saved("PNG", exif=exif((0x112, 3, 1, struct.pack("<HH", value, 0))))
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(load(tmp_path).images[0], CORNERS)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("end", ["png", "tif", "jpg"])
def test_every_orientation(tmp_path, turn, end):
    tags = Image.Exif()
    tags[0x112] = turn
    options = {"tiffinfo": {0x112: turn}} if end == "tif" else {"exif": tags}
    Image.fromarray(CORNERS).save(tmp_path / f"a.{end}", **options)
    # How the picture that is shown is got from the one that is stored.
    shown = {
        1: CORNERS, 2: CORNERS[:, ::-1], 3: CORNERS[::-1, ::-1], 4: CORNERS[::-1],
        5: CORNERS.swapaxes(0, 1), 6: np.rot90(CORNERS, -1),
        7: CORNERS[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(CORNERS),
    }[turn]  # fmt: skip
    assert np.abs(load(tmp_path).images[0].astype(int) - shown).mean() < NEAR


@pytest.mark.skipif("AVIF" not in Image.SAVE and not Image.init(), reason="no AVIF")
def test_bad_exif_in_avif(tmp_path):
    tags = Image.Exif()
    tags[0x10F] = "maker"
    content = saved("AVIF", quality=95, exif=tags)
    torn = content.replace(b"II*\0", b"torn").replace(b"MM\0*", b"torn")
    assert torn != content
    (tmp_path / "a.avif").write_bytes(torn)
    assert np.abs(load(tmp_path).images[0].astype(int) - CORNERS).mean() < NEAR


def test_pixels_that_are_damaged_stay_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for i in range(4):
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "header.png").write_bytes(whole[:29] + b"\0\0\0\0" + whole[33:])
    (tmp_path / "empty.jpg").write_bytes(b"")
    found = load(tmp_path)
    assert [one.file for one in found.skipped] == ["cut.png", "empty.jpg", "header.png"]
    assert found.skipped[1].reason == "an empty file"


def test_metadata_are_cut_off_files_of_any_length():
    for content in (saved("PNG"), saved("JPEG"), png_with(b"tEXt", b"a\0b")):
        for end in range(0, len(content), 7):
            without_metadata(content[:end])
    assert without_metadata(png_with(b"tEXt", b"a\0b")) == saved("PNG")
    assert without_metadata(jpeg_with(0xFE, b"words")) == without_metadata(
        saved("JPEG", quality=95)
    )
    assert without_metadata(b"GIF89a") is None


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 9_000)])
def test_thin_images_take_little_memory(tmp_path, shape):
    values = np.zeros((*shape, 3), np.uint8)
    centre = tuple(slice(max(0, side // 2 - 20), side // 2 + 20) for side in shape)
    values[centre] = 90
    Image.fromarray(values).save(tmp_path / "thin.png")
    biggest, resize = [], Image.Image.resize

    def told(image, size, *rest, **more):
        biggest.append(size[0] * size[1])
        return resize(image, size, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", told)
        found = load(tmp_path, image_size=224)
    assert max(biggest) <= 2 * 224**2
    assert found.images.shape == (1, 224, 224, 3) and (found.images == 90).all()


def test_usual_shapes_are_resized_whole():
    noise = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = image.resize((32, 16), Image.Resampling.BILINEAR).crop((8, 0, 24, 16))
    assert resize_and_crop(image, 16) == expected


def large_jpeg(width, height):
    """A JPEG of very many pixels in a few kilobytes of memory: one colour, half of it another."""
    image = Image.new("L", (width, height), 60)
    image.paste(180, (width // 2, 0, width, height))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=75)
    return content.getvalue()


@pytest.mark.parametrize("in_memory", [None, 0])
def test_large_jpegs_are_decoded_at_a_reduced_size(tmp_path, in_memory):
    for i in range(2):
        Image.new("L", (40, 40), 60).save(tmp_path / f"{i}.png")
    (tmp_path / "large.jpg").write_bytes(large_jpeg(12_000, 9_000))
    decoded, resize = [], pixels.resize_and_crop

    def told(image, *how):
        decoded.append(image.size)
        return resize(image, *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "resize_and_crop", told)
        found = load(tmp_path, image_size=32, in_memory=in_memory)
        images = found.images[:]
    assert found.ids == ("0.png", "1.png", "large.jpg") and not found.skipped
    assert max(width * height for width, height in decoded) <= 12_000 * 9_000 / 64
    assert abs(int(images[2, 16, 2, 0]) - 60) <= 1 and abs(int(images[2, 16, 29, 0]) - 180) <= 1


@pytest.mark.parametrize("in_memory", [None, 0])
def test_images_beyond_the_limit_are_skipped_and_named(tmp_path, in_memory):
    for i in range(3):
        Image.new("L", (40, 40), 60).save(tmp_path / f"{i}.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    found = load(tmp_path, image_size=8, in_memory=in_memory)
    assert len(found.ids) == 3
    assert [one.file for one in found.skipped] == ["bomb.png"]
    assert "more pixels than is safe to decode" in found.skipped[0].reason
    assert before == Image.MAX_IMAGE_PIXELS and filters == warnings.filters
    for i in range(2):
        (tmp_path / f"{i}.png").unlink()
    assert len(load(tmp_path, image_size=8).ids) == 1
    (tmp_path / "2.png").unlink()
    with pytest.raises(InputError, match="more pixels than is safe") as refused:
        load(tmp_path, image_size=8)
    assert "--max-megapixels" in refused.value.on_command_line()


@pytest.mark.parametrize("in_memory", [None, 0])
def test_the_limit_can_be_raised_and_lowered(tmp_path, in_memory, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for i in range(3):
        Image.new("L", (30, 30), 60).save(tmp_path / f"{i}.png")
    Image.new("L", (60, 60), 90).save(tmp_path / "larger.png")
    found = load(tmp_path, image_size=8, in_memory=in_memory, max_megapixels=0.0036)
    assert len(found.ids) == 4 and (found.images[3:4] == 90).all()
    assert Image.MAX_IMAGE_PIXELS == 1000
    found = load(tmp_path, image_size=8, in_memory=in_memory, max_megapixels=0.003)
    assert [one.file for one in found.skipped] == ["larger.png"]


def test_several_threads_leave_the_process_as_it_was():
    from concurrent.futures import ThreadPoolExecutor

    from jaxclust.data.places import Rules

    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)

    def work(i):
        with pixels.undisturbed(Rules(max_megapixels=200 + i)):
            assert (200 + i) * 1e6 / 2 <= Image.MAX_IMAGE_PIXELS

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert before == Image.MAX_IMAGE_PIXELS and filters == warnings.filters
