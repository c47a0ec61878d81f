"""The sandbox of one notebook through all its exercises: cells run, stops survived, the guilty cell found."""

from __future__ import annotations

from .confine import Limits
from .restore import Part
from .sandbox import Sandbox, Stopped, TooLong


class Session:
    """A sandbox with the notebook's cells run in it; begun again when one was stopped, without a twice guilty cell."""

    def __init__(self, parts: list[Part], limits: Limits) -> None:
        self.parts, self.limits = parts, limits
        self.errors: dict[str, str] = {}
        self.noticed: list[str] = []
        self.denied: list[str] = []
        self.suspects: set[int] = set()
        self.left_out: dict[int, str] = {}
        self.box: Sandbox | None = None

    def code(self, key: str) -> str:
        """The answer to an exercise as it was written."""
        return "\n".join(part.written for part in self.parts if part.key == key)

    def begin(self, key: str) -> None:
        """See that the sandbox is there and the answer's cell was not what broke it.

        Raises:
            Stopped: it was.
        """
        while self.box is None:
            self._run()
        guilty = next((words for at, words in self.left_out.items() if self.parts[at].key == key), None)
        if guilty:
            raise Stopped(guilty)

    def restart(self) -> None:
        """Close a sandbox that has ended, so that the next `begin` runs the cells in a new one."""
        if self.box is not None and self.box.ended:
            self.close()

    def close(self) -> None:
        """End the sandbox, where there is one; a second time is no mistake."""
        if self.box is not None:
            self.box.__exit__()
            self.box = None

    def _run(self) -> None:
        """Run all cells. Guilty of a stop is the one that ended the process, or that took most of the time."""
        self.box = Sandbox(self.limits).__enter__()
        self.denied = self.box.denied
        took: dict[int, float] = {}
        for at, part in enumerate(self.parts):
            if at in self.left_out:
                continue
            left = self.box.left
            try:
                self.errors[part.key or part.place] = self.box.cell(part.code, part.place)
                took[at] = left - self.box.left
            except Stopped as stopped:
                took[at] = left
                self._blame(max(took, key=took.get) if isinstance(stopped, TooLong) else at, str(stopped))
                self.close()
                return

    def _blame(self, at: int, words: str) -> None:
        """Leave a cell out at its second stop: the first may have been the machine's."""
        if at in self.suspects:
            self.left_out[at] = words
            self.noticed.append(f"{self.parts[at].place} was stopped: {words}")
        self.suspects.add(at)
