"""How much an archive may unpack to."""

import zipfile
from pathlib import Path

from jaxclust.core.errors import InputError

# Arrays do not compress a hundredfold; a file this dense and large is no data and no weights.
_BOMB_BYTES, _BOMB_RATIO = 2**30, 100


def refuse_bomb(path: Path) -> None:
    """InputError for a small zip archive that claims to unpack to gigabytes."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _BOMB_BYTES and size > _BOMB_RATIO * path.stat().st_size:
        raise InputError(
            f"{path} claims to unpack to {size / 2**30:.0f} GiB, more than is safe; write it with "
            "numpy.savez"
        )
