"""A handed-in notebook in the order of its source: answers and texts found where they went, protected cells as given.

A cell is known by its mark (nbgrader's grade_id); where that is lost, code by the name that it defines and text by the
place where it stands. What kind of cell it is, the source says: a cell that was switched to another type is read all
the same. Whatever was found elsewhere, restored or left out is in `noticed`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from .magics import cut, plain
from .sheet import BLANK, HIDDEN, NOT_GRADED, Cell, Notebook, defined, role, tags, text


@dataclass
class Part:
    """A code cell that the grader runs.

    Attributes:
        place: "cutmix.loss", or "cell 7" for one of the student's own.
        code: what is run. key: of the exercise that it answers, "" for other cells.
        written: the cell as the student wrote it.
    """

    place: str
    code: str
    key: str = ""
    written: str = ""


def restored(source: Notebook, given: Notebook) -> tuple[list[Part], dict[str, str], list[str]]:
    """The code of a handed-in notebook in the order of the source, protected cells as they were.

    Returns:
        (parts to run, free texts by grade_id, what was noticed in words).
    """
    found = Handed(source, given)
    answers, texts = found.answers(), found.texts()
    parts, extras = [], found.extras()
    for cell in source["cells"]:
        name = grade_id(cell)
        if cell["cell_type"] == "code" and not tags(cell) & NOT_GRADED and not role(cell).get("grade"):
            if role(cell).get("solution"):
                key = name.replace("-", ".", 1)
                parts += [Part(key, plain(code), key, code) for code in answers.get(name, [])]
            else:
                parts.append(Part("protected cell", plain(text(cell))))
        parts += _own(extras.pop(name, [])) if name else []
    parts += [part for rest in extras.values() for part in _own(rest)]
    for part in parts:
        if lines := cut(part.written):
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            found.noticed.append(f"{part.place}: only Jupyter understands `{lines[0]}`{more}; left out")
    return parts, texts, found.noticed


def _own(cells: Iterable[tuple[int, str]]) -> list[Part]:
    return [Part(f"cell {at + 1}", plain(code), written=code) for at, code in cells]


def grade_id(cell: Cell) -> str:
    """The mark of a cell; "" where it has none."""
    return str(role(cell).get("grade_id", ""))


class Handed:
    """A handed-in notebook, held against its source; every cell of it is used once, or said to be lost."""

    def __init__(self, source: Notebook, given: Notebook) -> None:
        self.source, self.given = source["cells"], given["cells"]
        self.noticed: list[str] = []
        self.known = {grade_id(cell): cell for cell in self.source if grade_id(cell)}
        self.handed_out = {_as_given(cell): index for index, cell in enumerate(self.source) if _as_given(cell)}
        known = {"", BLANK, *self.handed_out}
        self.loose = [at for at, c in enumerate(self.given) if not role(c) and text(c).strip() not in known]
        self.taken: set[int] = set()  # loose cells that were found to be an answer or a text
        self._compare()

    def _compare(self) -> None:
        """What was changed that is put right without a word to the student's harm."""
        for name, cell in self.known.items():
            if role(cell).get("locked") and self._changed(name, cell):
                self.noticed.append(f"a protected cell was changed or removed, and restored ({name})")
        for name in dict.fromkeys(grade_id(cell) for cell in self.given if role(cell).get("solution")):
            if name not in self.known:
                self.noticed.append(f"an answer to {name or 'nothing'} belongs to no exercise here and was not graded")

    def _changed(self, name: str, cell: Cell) -> bool:
        """Whether a protected cell of the source is no longer there as it was handed out."""
        wanted = _as_given(cell)
        return all(grade_id(c) != name or HIDDEN.sub("", text(c)).strip() != wanted for c in self.given)

    # ---- answers in code ----

    def answers(self) -> dict[str, list[str]]:
        """The code that answers each exercise, by grade_id, in the order in which it stands."""
        return {
            name: self._answer(name, cell)
            for name, cell in self.known.items()
            if role(cell).get("solution") and cell["cell_type"] == "code"
        }

    def _answer(self, name: str, cell: Cell) -> list[str]:
        key, wanted = name.replace("-", ".", 1), defined(text(cell))
        marked = [at for at, c in enumerate(self.given) if grade_id(c) == name]
        loose = [at for at in self.loose if wanted & defined(_code(self.given[at]))]
        self.taken |= set(loose)
        if loose and marked and all(_unanswered(text(self.given[at])) for at in marked):
            self.noticed.append(f"{key}: its cell was left as it was; the answer was found in cell {loose[-1] + 1}")
            marked = []
        elif loose and not marked:
            self.noticed.append(f"{key}: its cell had lost its marks and was found by its name")
        places = sorted(marked + loose)
        for at in places:
            if self.given[at]["cell_type"] != "code":
                self.noticed.append(f"{key}: its cell had become {self.given[at]['cell_type']}; it is read as code")
        if len(places) > 1:
            self.noticed.append(f"{key}: there are {len(places)} answer cells; all are run, the last one counts")
        return [_code(self.given[at]) for at in places]

    # ---- free texts ----

    def texts(self) -> dict[str, str]:
        """The free texts by grade_id: what stands in the marked cell, and in cells of the student's own below it."""
        return {
            name: self._text(name, index)
            for index, name in enumerate(map(grade_id, self.source))
            if name and role(self.source[index]).get("solution") and self.source[index]["cell_type"] != "code"
        }

    def _text(self, name: str, index: int) -> str:
        marked = [at for at, cell in enumerate(self.given) if grade_id(cell) == name]
        said = [text(self.given[at]).strip() for at in marked]
        said = [words for words in said if words and words != BLANK]
        if said and any(self.given[at]["cell_type"] == "code" for at in marked):
            self.noticed.append(f"{name}: its cell had become code; it is read as text")
        near = [at for at in self._between(index) if self._is_prose(at)]
        if near:
            self.taken |= set(near)
            where = ", ".join(str(at + 1) for at in near)
            self.noticed.append(f"{name}: text was found in cell {where}, which had no mark")
        return "\n\n".join(said + [text(self.given[at]).strip() for at in near])

    def _is_prose(self, at: int) -> bool:
        """Whether an unmarked cell is text: no code cell, or one that Python cannot read."""
        if at in self.taken:
            return False
        if self.given[at]["cell_type"] != "code":
            return True
        try:
            ast.parse(plain(text(self.given[at])))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return " " in text(self.given[at]).strip()
        return False

    def _between(self, index: int) -> list[int]:
        """Loose cells that stand where the source has its cell `index`: after what is before it, before what follows.

        Two texts in a row share their place where both marks are lost: what is found goes to the first.
        """
        places = [(at, self._in_source(cell)) for at, cell in enumerate(self.given)]
        before = max((at for at, place in places if place is not None and place < index), default=-1)
        own = max((at for at, place in places if place == index), default=before)
        later = (at for at, place in places if place is not None and place > index and at > own)
        after = min(later, default=len(self.given))
        return [at for at in self.loose if before < at < after]

    def _in_source(self, cell: Cell) -> int | None:
        """The index of the source's cell that this one is, by its mark or by its text."""
        if name := grade_id(cell):
            return next((index for index, other in enumerate(self.source) if grade_id(other) == name), None)
        return self.handed_out.get(text(cell).strip())

    # ---- the rest ----

    def extras(self) -> dict[str, list[tuple[int, str]]]:
        """Code cells of the student's own: {grade_id of the known cell before them: [(place, code)]}."""
        extras: dict[str, list[tuple[int, str]]] = {}
        last, own = "", set(self.loose) - self.taken
        for at, cell in enumerate(self.given):
            if grade_id(cell) in self.known:
                last = grade_id(cell)
            elif at in own and cell["cell_type"] == "code" and not tags(cell) & NOT_GRADED:
                extras.setdefault(last, []).append((at, text(cell)))
        return extras


def _as_given(cell: Cell) -> str:
    """The text with which a cell of the source is handed out, "" for an answer's."""
    return "" if role(cell).get("solution") else HIDDEN.sub("", text(cell)).strip()


def _code(cell: Cell) -> str:
    """The code of an answer; in a cell that is text now, without the fences that mark it as code there."""
    lines = text(cell).split("\n")
    if cell["cell_type"] != "code":
        lines = ["" if line.lstrip().startswith("```") else line for line in lines]
    return "\n".join(lines)


def _unanswered(code: str) -> bool:
    """Whether a code cell is still as it was handed out."""
    return not code.strip() or ("# Your code here." in code and "raise NotImplementedError(" in code)
