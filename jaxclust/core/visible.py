"""Names from elsewhere, made safe to look at."""

import unicodedata

# Control, format (such as right-to-left override), surrogate, private and unassigned
# characters, and line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(name: object) -> str:
    r"""A name in which every character can be seen; others stand as `\u202e` or the like.

    On a terminal an escape character in a file's name would be a command to it.

    >>> visible("red \x1b[31m")
    'red \\u001b[31m'
    """
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in str(name)
    )
