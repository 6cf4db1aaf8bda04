"""Makes names from outside safe to display."""

import unicodedata

# Control, format (such as right-to-left override), surrogate, private and unassigned
# characters, and line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(name: object) -> str:
    r"""A name with invisible characters escaped, as `\u202e` or the like.

    An escape character in a file's name would act as a command on a terminal.

    >>> visible("red \x1b[31m")
    'red \\u001b[31m'
    """
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in str(name)
    )
