"""What was handed in: every notebook below a folder, and every folder in which there is none that can be read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import S4Error
from . import sheet
from .sheet import Notebook

NAMES = (".ipynb", ".ipynb.txt", ".ipynb.json")  # the latter two: what mail and browsers make of it
LARGEST = 100 << 20  # bytes of a notebook: more is no notebook
MOST = 200  # notebooks of an archive
SILENT = (".ipynb_checkpoints", "__MACOSX", "__pycache__")


@dataclass
class Handed:
    """One notebook, or the lack of one.

    Attributes:
        student: the folder that it lies in, else the name of the file.
        file: relative to the folder of submissions; "a.zip: b.ipynb" inside of an archive.
        data: its bytes; None where there is no notebook.
        error: why not, in words.
    """

    student: str
    file: str
    data: bytes | None
    error: str = ""

    @property
    def stem(self) -> str:
        """The name of the file without what follows the first of the known endings."""
        name = PurePosixPath(self.file.replace("\\", "/").rpartition(": ")[2]).name
        ending = next((e for e in sorted(NAMES, key=len, reverse=True) if name.lower().endswith(e)), "")
        return name[: len(name) - len(ending)] if ending else name

    def notebook(self) -> Notebook:
        """The notebook.

        Raises:
            S4Error: it is none.
        """
        if self.data is None:
            raise S4Error(self.error)
        return sheet.parse(self.data, PurePosixPath(self.file.rpartition(": ")[2]).name)


def handed_in(folder: Path, out: Path | None = None) -> list[Handed]:
    """All notebooks below a folder, archives included, and an entry for each student who has none.

    Args:
        out: the folder of the grades, which is not handed in.

    Raises:
        S4Error: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise S4Error(f"{folder} is not a folder of handed-in notebooks.")
    found: list[Handed] = []
    for place in sorted(folder.iterdir()):
        if not _hidden(place.name) and (out is None or place.resolve() != out.resolve()):
            found += _of_folder(place, folder) if place.is_dir() and not place.is_symlink() else _of_file(place, folder)
    if not any(one.data is not None for one in found):
        raise S4Error(
            f"There is no notebook (*.ipynb, also in a .zip) in {folder}. {found[0].error if found else ''}".rstrip()
        )
    return found


def _is_notebook(path: PurePosixPath) -> bool:
    return path.name.lower().endswith(NAMES) and not any(map(_hidden, path.parts))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in SILENT


def _of_folder(place: Path, root: Path) -> list[Handed]:
    """What one student handed in."""
    files = [f for f in sorted(place.rglob("*")) if not any(_hidden(part) for part in f.relative_to(root).parts)]
    files = [file for file in files if file.is_symlink() or not file.is_dir()]
    found = [one for file in files for one in _read(file, root, place.name)]
    if found:
        return found
    names = ", ".join(file.name for file in files[:5]) + (", ..." if len(files) > 5 else "")
    why = f"there is no notebook in the folder; it holds {names}" if files else "the folder is empty"
    return [Handed(place.name, f"{place.name}/", None, why)]


def _of_file(file: Path, root: Path) -> list[Handed]:
    """What a file beside the students' folders is: a student's whole submission."""
    own = Handed("", file.name, None).stem
    student = file.stem if own == file.name else own
    why = "it is no notebook (*.ipynb, or a .zip of such)"
    return _read(file, root, student) or [Handed(student, file.name, None, why)]


def _read(file: Path, root: Path, student: str) -> list[Handed]:
    """The notebooks that a file is or holds; [] where its name says that it is something else."""
    name = file.relative_to(root).as_posix()
    archive = file.suffix.lower() == ".zip"
    if not archive and not _is_notebook(PurePosixPath(name)):
        return []
    if file.is_symlink():
        return [Handed(student, name, None, "it is a link, which is not followed")]
    try:
        if archive:
            return [*_unpacked(file, name, student, beside=file.parent == root)]
        if file.stat().st_size > LARGEST:
            return [Handed(student, name, None, f"it is larger than {LARGEST >> 20} MB")]
        return [Handed(student, name, file.read_bytes())]
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        return [Handed(student, name, None, f"it cannot be read ({error})")]


def _unpacked(file: Path, name: str, student: str, beside: bool) -> Iterator[Handed]:
    """The notebooks of an archive; of one that holds a whole class, each below its student's folder."""
    with zipfile.ZipFile(file) as archive:
        paths = [(one, PurePosixPath(one.filename.replace("\\", "/"))) for one in archive.infolist()]
        inside = [(one, path) for one, path in paths if _is_notebook(path) and not one.is_dir()]
        if not inside:
            yield Handed(student, name, None, "there is no notebook in it")
        folders = {path.parts[0] for _, path in inside if len(path.parts) > 1}
        for one, path in inside[:MOST]:
            who = path.parts[0] if beside and len(folders) > 1 and len(path.parts) > 1 else student
            large = one.file_size > LARGEST
            data = None if large else archive.read(one)
            yield Handed(who, f"{name}: {path}", data, f"it is larger than {LARGEST >> 20} MB" if large else "")
        if len(inside) > MOST:
            yield Handed(student, name, None, f"it holds {len(inside)} notebooks; the first {MOST} were taken")
