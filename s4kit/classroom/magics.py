"""Lines that only Jupyter understands: found where a statement begins, never inside brackets or strings."""

from __future__ import annotations

import re

RUNS_PYTHON = {"time", "timeit", "capture", "prun"}  # cell magics whose cell is Python all the same
HELP = re.compile(r"\s*(\?{1,2}\s*[\w.*]+|[\w.*\[\]'\"]+\?{1,2})\s*(#.*)?$")
GIVEN = re.compile(r"(\s*[\w.,\s\[\]'\"]+?=\s*)(?:%[A-Za-z]|!)")  # files = !ls, took = %timeit -o f()
TIMED = re.compile(r"\s*%time\s+(?=[^\s-])")  # what it times is run, and what that defines stays
DELIMITER = re.compile(r"[rbfu]*('''|\"\"\"|'|\")", re.IGNORECASE)


def plain(code: str) -> str:
    """A cell as Python, line for line: a magic, shell or help line becomes `pass`, what one returns becomes None."""
    return "\n".join(line if new is None else new for line, new in _lines(code))


def cut(code: str) -> list[str]:
    """The lines of which `plain` keeps nothing, stripped."""
    lost = [line for line, new in _lines(code) if new is not None and (not new or new.strip() not in line)]
    return [line.strip() for line in lost if line.strip()]


def _lines(code: str) -> list[tuple[str, str | None]]:
    """(line, what stands for it; None where it stays)."""
    lines = code.split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and re.match(r"%%(\w*)", first)[1] not in RUNS_PYTHON:
        return [(line, "") for line in lines]
    found: list[tuple[str, str | None]] = []
    inside, goes_on = Inside(), False
    for line in lines:
        new = "" if goes_on else _replaced(line) if inside.free else None
        found.append((line, new))
        goes_on = new is not None and line.endswith("\\")
        if new is None:
            inside.read(line)
    return found


def _replaced(line: str) -> str | None:
    """What stands for a line at which a statement begins, where it is none of Python's."""
    start = line.lstrip()
    indent = line[: len(line) - len(start)]
    if timed := TIMED.match(line):
        return indent + line[timed.end() :]
    if start.startswith(("%", "!", "?")) or HELP.match(line):
        return f"{indent}pass"
    given = GIVEN.match(line)
    return f"{given[1]}None" if given else None


class Inside:
    """Where the end of a piece of Python stands: in brackets, in a string, in a continued line, or free of them."""

    def __init__(self) -> None:
        self.depth, self.string, self.continued = 0, "", False

    @property
    def free(self) -> bool:
        """Whether a statement begins on the next line."""
        return not (self.depth or self.string or self.continued)

    def read(self, line: str) -> None:
        """Go on by a line, without its line end."""
        at, self.continued = 0, False
        while at < len(line):
            if self.string:
                at = self._through(line, at)
            elif line[at] == "#":
                return
            elif delimiter := DELIMITER.match(line, at):
                self.string, at = delimiter[1], delimiter.end()
            else:
                self.depth = max(0, self.depth + (line[at] in "([{") - (line[at] in ")]}"))
                self.continued = line[at] == "\\" and at == len(line) - 1
                at += 1
        if len(self.string) == 1 and not line.endswith("\\"):
            self.string = ""  # not closed: a mistake that Python will name

    def _through(self, line: str, at: int) -> int:
        """The place after the string's end, or after the line."""
        while at < len(line):
            if line[at] == "\\":
                at += 2
            elif line.startswith(self.string, at):
                at += len(self.string)
                self.string = ""
                return at
            else:
                at += 1
        return at
