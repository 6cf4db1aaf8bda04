"""The same work for every shard of a set: each process takes its own; finished ones stay."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxclust.core import exchange, processes
from jaxclust.core.errors import InputError, RunError, first_line
from jaxclust.core.visible import visible
from jaxclust.data import shards
from jaxclust.data.feature_shards import made
from jaxclust.data.shards import Shard
from jaxclust.runs.csv_tables import ERRORS, as_text


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
    refused: str = ""  # why nothing more was done, if so


# (the shard's file, the Parquet file to write) -> (its rows, images passed over and why)
Work = Callable[[Path, Path], tuple[int, list[tuple[str, str]]]]


def found_by_first(pattern: str) -> list[Shard]:
    """The shards of a pattern, as the first process sees them; see :func:`shards.listed`."""
    told = exchange.told(lambda: json.dumps(shards.listed(pattern)))
    return [Shard(*one) for one in json.loads(told)]


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
        try:
            before = made(target) if shards.there(target) else None
            if before is not None and before.mark != mark:
                refused = f"{target} was not made by this command; give another folder"
                return Done(written, kept, rows, passed, refused)
            if before is None:
                count, images = _worked(shard, target, work)
                written, rows = written + 1, rows + count
                _say(f"{shard.where}: {count:,} rows", quiet)
            else:
                kept, images = kept + 1, before.skipped
        # Archives, Parquet and remote stores have errors of every kind.
        except Exception as error:
            if not shards.is_damage(error):
                raise
            passed.append(Passed(shard.where, "", first_line(error)))
            if strict:
                break
            continue
        passed += [Passed(shard.where, name, reason) for name, reason in images]
    return Done(written, kept, rows, passed)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def _missing(own: Sequence[Shard]) -> list[Passed]:
    """The first shard that is not there, found before any work is done."""
    return [Passed(one.where, "", "no such file") for one in own if not shards.there(one.where)][:1]


def _worked(shard: Shard, target: str, work: Work) -> tuple[int, list[tuple[str, str]]]:
    """Work on one shard."""
    told = []
    with shards.local(shard.where) as source:
        shards.write(target, lambda new: told.append(work(source, new)))
    return told[0]


def _together(mine: Done, found: Sequence[Shard], out: str, strict: bool) -> Done:
    """The processes' results, written down and, if strict, refused."""
    told = [Done(*json.loads(text)) for text in exchange.texts_of_all(json.dumps(mine))]
    for one in told:
        if one.refused:
            raise InputError(one.refused)
    passed = [Passed(*one) for some in told for one in some.passed]
    whole = [one for one in passed if not one.image]
    done = Done(
        sum(one.shards for one in told),
        sum(one.kept for one in told),
        sum(one.rows for one in told),
        passed,
    )
    if strict and whole:
        raise InputError(f"{whole[0].shard} cannot be read ({whole[0].reason})")
    if len(whole) == len(found):
        raise RunError(
            f"none of {len(found)} shards could be read ({whole[0].shard}: {whole[0].reason})"
        )
    exchange.agreed(lambda: _list(passed, out))
    return done


def _list(passed: Sequence[Passed], out: str) -> None:
    """Say what was passed over, now and by earlier calls, and write it down."""
    path = shards.joined(out, "skipped.csv")
    for one in passed:
        where = f"{one.shard}: {one.image}" if one.image else one.shard
        print(f"skipped {visible(where)}: {visible(one.reason)}", file=sys.stderr)
    if passed:
        text = as_text(("shard", "image", "reason"), passed).encode("utf-8", ERRORS)
        shards.write(path, lambda new: _fill(new, text))
    elif shards.there(path):
        shards.remove(path)


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
