"""Repairs files that Pillow cannot read for reasons other than their pixels."""

import struct
from collections.abc import Iterator

# Chunks that a PNG's pixels and orientation depend on.
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
# TIFF's tag for the meaning of grey values, and its type for 32-bit integers.
_PHOTOMETRIC, _LONG = 262, 4
_TIFF_STARTS = {b"II*\0": "<", b"MM\0*": ">"}
# Tags that the pixels and the orientation depend on.
_TIFF_KEPT = {
    *range(254, 260), 262, 266, *range(273, 275), *range(277, 280), 284, 292, 293, 317,
    *range(320, 326), 332, 338, 339, 347, *range(512, 522), *range(529, 533),
}  # fmt: skip
_PNG_START = b"\x89PNG\r\n\x1a\n"
# JPEG segments that are metadata. Kept are Adobe's (APP14), for the colours, and EXIF (APP1), for
# the orientation; Pillow reads EXIF only when asked.
_JPEG_DROPPED = {0xE0, *range(0xE2, 0xEE), 0xEF, 0xFE}


def without_metadata(content: bytes) -> bytes | None:
    """An image file without texts, profiles and the like; None for unsupported formats.

    Args:
        content: the bytes of a file.
    """
    if content.startswith(_PNG_START):
        return _PNG_START + b"".join(_png_chunks(content))
    if content.startswith(b"\xff\xd8"):
        return _jpeg(content)
    if content[:4] in _TIFF_STARTS:
        return _tiff(content)
    if content[4:12] in {b"ftypavif", b"ftypavis"}:
        # The item stays, under a name that no one looks for.
        return content.replace(b"Exif", b"none", 1)
    return None


def _png_chunks(content: bytes) -> Iterator[bytes]:
    at = len(_PNG_START)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in _PNG_KEPT:
            yield content[at : at + length + 12]
        at += length + 12


def _jpeg(content: bytes) -> bytes:
    """A JPEG without the metadata segments before the first scan."""
    kept, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker not in _JPEG_DROPPED:
            kept.append(content[at : at + 2 + length])
        at += 2 + length
    return b"".join((*kept, content[at:]))


def with_zero_black(content: bytes) -> bytes | None:
    """A white-is-zero TIFF marked as black-is-zero, its pixels untouched; else None.

    Pillow supports only some white-is-zero files.
    """
    for at, (order, tag, kind, _) in _tags(content):
        form = f"{order}{'I' if kind == _LONG else 'H'}"
        if tag == _PHOTOMETRIC and struct.unpack_from(form, content, at + 8) == (0,):
            value = struct.pack(form, 1)
            return content[: at + 8] + value + content[at + 8 + len(value) :]
    return None


def _tiff(content: bytes) -> bytes:
    """A TIFF without the tags that do not affect the pixels: each becomes a zero byte."""
    found = bytearray(content)
    for at, (order, tag, _, _) in _tags(content):
        if tag not in _TIFF_KEPT:
            found[at : at + 12] = struct.pack(f"{order}HHIxxxx", tag, 1, 1)
    return bytes(found)


def _tags(content: bytes) -> Iterator[tuple[int, tuple[str, int, int, int]]]:
    """Offsets of the tags of a TIFF's first page, with byte order, number, type and count."""
    order = _TIFF_STARTS.get(content[:4])
    if order is None or len(content) < 8:
        return
    (at,) = struct.unpack_from(f"{order}I", content, 4)
    count = struct.unpack_from(f"{order}H", content, at)[0] if at + 2 <= len(content) else 0
    for entry in range(at + 2, min(at + 2 + 12 * count, len(content) - 11), 12):
        yield entry, (order, *struct.unpack_from(f"{order}HHI", content, entry))
