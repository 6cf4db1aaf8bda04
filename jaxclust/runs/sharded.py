"""The same work for every shard of a set: each process takes its own; finished ones stay."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from jaxclust.core import exchange, processes
from jaxclust.core.errors import InputError, RunError, first_line
from jaxclust.core.visible import visible
from jaxclust.data import shards
from jaxclust.data.feature_shards import made_by
from jaxclust.data.shards import Shard
from jaxclust.runs.csv_tables import ERRORS, as_text
from jaxclust.runs.writable import OUT_OF_ROOM


class Passed(NamedTuple):
    """What was passed over: a shard, or an image in one."""

    shard: str
    image: str  # empty: the whole shard
    reason: str


class Done(NamedTuple):
    """How a set's shards went, over all processes."""

    shards: int  # written now
    kept: int  # written before
    rows: int  # of those written now
    passed: list[Passed]


# (the shard's file, the Parquet file to write) -> (its rows, images passed over and why)
Work = Callable[[Path, Path], tuple[int, list[tuple[str, str]]]]


def over_shards(
    found: Sequence[Shard], out: str, work: Work, mark: str, *, strict: bool, quiet: bool
) -> Done:
    """Write a Parquet shard into a folder for every shard of a set.

    What is already there is kept, so that a killed command can be repeated. All processes call this
    alike, and each works on its own shards.

    Args:
        found: all shards.
        out: folder or URL.
        work: what is done with one.
        mark: says what writes the shards, such as an encoder's digest; work writes it into each.
        strict: end at a shard that is missing or damaged; otherwise it is passed over and listed.
        quiet: show no progress.

    Raises:
        InputError: `out` has shards of another mark; or, if strict, a shard cannot be read.
        RunError: not one shard can be read.
    """
    exchange.agreed(lambda: shards.make_folder(out))
    own = found[processes.share_of_process()]
    missing = _missing(own) if strict else []
    mine = Done(0, 0, 0, missing) if missing else _own(own, out, work, mark, strict, quiet)
    return _together(mine, found, out, strict)


def _own(own: Sequence[Shard], out: str, work: Work, mark: str, strict: bool, quiet: bool) -> Done:
    """Work on this process's shards."""
    passed: list[Passed] = []
    written = kept = rows = 0
    for shard in own:
        target = shards.joined(out, f"{shard.name}.parquet")
        if _finished(target, mark):
            kept += 1
            continue
        try:
            count, images = _worked(shard, target, work)
        # Archives, Parquet and remote stores have errors of every kind.
        except Exception as error:
            if not _is_damage(error):
                raise
            passed.append(Passed(shard.where, "", first_line(error)))
            if strict:
                break
            continue
        written, rows = written + 1, rows + count
        passed += [Passed(shard.where, name, reason) for name, reason in images]
        if not quiet:
            print(f"{shard.where}: {count:,} rows", file=sys.stderr, flush=True)
    return Done(written, kept, rows, passed)


def _missing(own: Sequence[Shard]) -> list[Passed]:
    """The first shard that is not there, found before any work is done."""
    return [Passed(one.where, "", "no such file") for one in own if not shards.there(one.where)][:1]


def _is_damage(error: Exception) -> bool:
    """Whether an error may be a shard's; a full disk and a lack of memory are not."""
    if isinstance(error, MemoryError | RunError | jax.errors.JaxRuntimeError):
        return False
    return getattr(error, "errno", None) not in OUT_OF_ROOM


def _worked(shard: Shard, target: str, work: Work) -> tuple[int, list[tuple[str, str]]]:
    """Work on one shard."""
    told = []
    with shards.local(shard.where) as source:
        shards.write(target, lambda new: told.append(work(source, new)))
    return told[0]


def _finished(target: str, mark: str) -> bool:
    """Whether a shard is written already.

    Raises:
        InputError: something else has written it.
    """
    if not shards.there(target):
        return False
    if made_by(target) != mark:
        raise InputError(
            f"{target} was made by something else; give another folder, or remove this one"
        )
    return True


def _together(mine: Done, found: Sequence[Shard], out: str, strict: bool) -> Done:
    """The processes' results, written down and, if strict, refused."""
    told = [json.loads(text) for text in exchange.texts_of_all(json.dumps(mine))]
    passed = [Passed(*one) for _, _, _, some in told for one in some]
    whole = [one for one in passed if not one.image]
    written, kept, rows = (sum(one[i] for one in told) for i in range(3))
    done = Done(written, kept, rows, passed)
    if strict and whole:
        raise InputError(f"{whole[0].shard} cannot be read ({whole[0].reason})")
    if len(whole) == len(found):
        raise RunError(
            f"none of {len(found)} shards could be read ({whole[0].shard}: {whole[0].reason})"
        )
    if processes.first():
        for one in passed:
            where = f"{one.shard}: {one.image}" if one.image else one.shard
            print(f"skipped {visible(where)}: {visible(one.reason)}", file=sys.stderr)
        if passed:
            text = as_text(("shard", "image", "reason"), passed).encode("utf-8", ERRORS)
            shards.write(shards.joined(out, "skipped.csv"), lambda new: _fill(new, text))
    return done


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
