"""The one exception that speaks to a user."""


class S4Error(ValueError):
    """A mistake that the user can mend: the message names the file or the value, and says what to do.

    The shell prints it without a traceback and exits with status 2.
    """


def closest(name: str, known: list[str]) -> str:
    """A sentence that offers the nearest known names for a misspelt `name`."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(known))}."
