"""The exception that speaks to a user, and the warning."""

import warnings


class S4Error(ValueError):
    """A mistake that the user can mend: the message names the file or the value, and says what to do.

    The shell prints it without a traceback and exits with status 2.
    """


class S4Warning(UserWarning):
    """What is probably not meant, though it can be done: the message names the file or the value, and what to do."""


def caution(message: str, stacklevel: int = 3) -> None:
    """Warn with an `S4Warning`, placed at the caller of the function that warns."""
    warnings.warn(message, S4Warning, stacklevel=stacklevel)


def closest(name: str, known: list[str]) -> str:
    """A sentence that offers the nearest known names for a misspelt `name`."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(known))}."
