"""Names from elsewhere, made safe to look at."""

import unicodedata

# Control, format (such as right-to-left override), surrogate, private and unassigned
# characters, and line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def shown(name: str) -> str:
    r"""A name in which every character can be seen; others stand as `\u202e` or the like.

    What HTML would take for markup is left to the template's escaping.
    """
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in str(name)
    )
