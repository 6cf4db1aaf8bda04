"""Which files are images: by their names, or by their content if a name says nothing."""

import mimetypes
from functools import cache
from pathlib import PurePath

from PIL import Image

# Formats that Pillow decodes itself. PostScript and PDF are programs, which it hands to
# Ghostscript, Windows metafiles are drawing commands, and it only recognises BUFR, GRIB, HDF5 and
# MPEG. HEIF is available if a plugin for it is registered.
_FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF", "ICO", "ICNS",
    "PSD", "QOI", "DDS", "DIB", "PCX", "SGI", "SUN", "CUR", "DCX", "BLP", "FTEX", "GBR", "FITS",
    "FLI", "MSP", "XBM", "XPM", "XVTHUMB", "PIXAR", "MCIDAS",
)  # fmt: skip
# Formats without a signature, which bytes of any kind may look like: only for files with such a
# name.
_BY_NAME_ONLY = ("TGA", "SPIDER", "IM", "PCD")
# File extensions that Pillow does not know by itself.
_MORE = {
    ".jif": "JPEG",
    ".fts": "FITS",
    ".spi": "SPIDER",
    ".spider": "SPIDER",
    ".xv": "XVTHUMB",
    ".mpo": "JPEG",
}

# Image formats that other programs can read.
_OTHERS = {
    "HEIC": ".heic .heif .hif .heics .heifs",
    "camera raw": ".cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .dng .raw .3fr .iiq "
    ".erf .kdc .mos .mrw .rwl .srw .x3f",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "SVG": ".svg .svgz",
    "PostScript": ".eps .ps .epsf .epsi .ai",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr .pic",
    "DICOM": ".dcm .dicom",
    "DjVu": ".djvu .djv",
    "Windows metafile": ".wmf .emf",
    "GIMP": ".xcf",
}
_OTHERS_BY_END = {end: kind for kind, ends in _OTHERS.items() for end in ends.split()}

# First bytes that no other files have.
_STARTS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "PPM": tuple(b"P%c%c" % (kind, space) for kind in b"123456fF" for space in b" \n\r\t"),
    "PSD": (b"8BPS",),
    "QOI": (b"qoif",),
    "DDS": (b"DDS ",),
    "ICNS": (b"icns",),
    "ICO": (b"\0\0\1\0",),
    "FITS": (b"SIMPLE  =",),
    "SGI": (b"\x01\xda",),
    "SUN": (b"\x59\xa6\x6a\x95",),
    "XPM": (b"/* XPM */",),
}
_OTHER_STARTS = {
    "PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "SVG": (b"<svg",),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "GIMP": (b"gimp xcf",),
    "DjVu": (b"AT&TFORM",),
}
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
# Sizes of what follows a BMP's first header.
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
# How many bytes of a file show what it is.
START = 32


def formats(name: str = "") -> tuple[str, ...]:
    """Pillow's names of the formats to try on a file with this name.

    They are image formats only, nothing that runs a program.
    """
    known = _known()
    by_name = _formats_by_end(known).get(PurePath(name).suffix.lower())
    return (*known, by_name) if by_name in _BY_NAME_ONLY else known


def _known() -> tuple[str, ...]:
    # Not remembered: plugins may be registered at any time.
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def _formats_by_end(known: tuple[str, ...]) -> dict[str, str]:
    """The formats that are read, by file extension, as `.jpg`."""
    read = {*known, *_BY_NAME_ONLY} & set(Image.OPEN)
    # Pillow tells MPO, several JPEGs in a file, from its content.
    found = {**Image.registered_extensions(), **_MORE}
    return {end: name for end, name in found.items() if name in read}


def kind_by_name(name: str) -> str | None:
    """What a file's name says it is: `image`, another kind's name, `none`, or nothing (None)."""
    end = PurePath(name).suffix.lower()
    if end in _formats_by_end(_known()):
        return "image"
    if end in _OTHERS_BY_END:
        return _OTHERS_BY_END[end]
    guessed = _types().guess_type(f"x{end}")[0] or ""
    said = guessed.split("/")[0] in {"text", "video", "audio", "application", "font", "message"}
    return "none" if said and guessed != "application/octet-stream" else None


def kind_by_content(start: bytes) -> str | None:
    """What a file's first :data:`START` bytes say it is; see :func:`kind_by_name`."""
    if start[4:8] == b"ftyp" and start[8:12] in _AVIF | _HEIC:
        heic = start[8:12] in _HEIC and not any(brand in start[16:] for brand in _AVIF)
        return "HEIC" if heic and "HEIF" not in formats() else "image"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image"
    # Two letters are not enough.
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADERS:
        return "image"
    for kind, starts in _STARTS.items():
        if start.startswith(starts) and kind in formats():
            return "image"
    return next((kind for kind, starts in _OTHER_STARTS.items() if start.startswith(starts)), None)


def told(kind: str) -> str:
    """Why images of an unsupported kind are not read."""
    return f"{kind}, which is not supported; convert it to JPEG or PNG"


@cache
def _types() -> mimetypes.MimeTypes:
    # Without the machine's own lists, so that results are the same on every machine.
    return mimetypes.MimeTypes(filenames=())
