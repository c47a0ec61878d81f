"""Unpack tar and zip archives of others without trusting them: nothing leaves the folder, no links, bounded size."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from ...errors import S4Error
from .download import Progress, refused

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError,
    RuntimeError,
)  # fmt: skip


def unpack(
    archive: Path,
    folder: Path,
    wanted: Sequence[str] = ("",),
    limit: int = 1 << 40,
    files: int = 1_000_000,
    progress: Progress | None = None,
) -> int:
    """Unpack what an archive holds below the `wanted` prefixes; a file that is there with its size is left alone.

    Each file is written beside its place and then takes its name, so that a second call after a cut goes on.

    Args:
        archive: .zip, or .tar in any compression that Python reads.
        folder: where to; made if missing.
        wanted: beginnings of member names, such as "VOCdevkit/VOC2012/JPEGImages/".
        limit: bytes that may be written, whatever the archive claims.
        files: how many files may be written.
        progress: called with (files done, 0, "files of NAME"), as the number of files is known at the end only.

    Returns:
        How many of the wanted files the archive holds.

    Raises:
        S4Error: a name that leaves the folder, a link or device among the wanted, too much data, a damaged archive, or
            a disk that refuses.
    """
    count, total, base = 0, 0, folder.resolve()
    try:
        for name, size, regular, opened in _members(archive):
            where = _inside(archive, name)
            if not any(name.startswith(prefix) for prefix in wanted):
                continue
            if not regular:
                raise S4Error(f"{archive} holds {name!r}, which is a link or device: it is not unpacked. {_HOSTILE}")
            count, total = count + 1, total + size
            if count > files or total > limit:
                raise S4Error(
                    f"{archive} unpacks to more than {files} files or {limit / 1e9:.1f} GB: stopped at {name!r}. "
                    f"{_HOSTILE}"
                )
            target = base / where
            if not (target.is_file() and target.stat().st_size == size):
                _write(archive, name, target, size, opened())
            if progress and count % 500 == 0:
                progress(count, 0, f"files of {archive.name}")
    except _DAMAGED as why:
        reason = (str(why) or type(why).__name__).splitlines()[0].rstrip(":")
        raise S4Error(f"{archive} is damaged ({reason}). Remove it and run the command again.") from None
    except OSError as why:
        raise refused(folder, why) from None
    if progress:
        progress(count, count, f"files of {archive.name}")
    return count


_HOSTILE = "It is not the archive that this data set comes as; remove it and fetch it again."


def _members(archive: Path) -> Iterator[tuple[str, int, bool, object]]:
    """(name, size in bytes, whether a regular file, how to open it) of each member but folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                kind = (info.external_attr >> 28) & 0xF  # the file type in Unix mode bits; 0 where none is stored
                if not info.is_dir():
                    yield info.filename, info.file_size, kind in (0, 8), lambda info=info: file.open(info)
    else:
        with tarfile.open(archive) as file:
            for info in file:
                file.members = []  # tarfile keeps every header otherwise
                if not info.isdir():
                    name = info.name.removeprefix("./")
                    yield name, info.size, info.isreg(), lambda info=info: file.extractfile(info)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The member's path below the folder."""
    path = PurePosixPath(name)
    strange = "\\" in name or "\0" in name or PureWindowsPath(name).drive
    if not path.parts or path.is_absolute() or ".." in path.parts or strange:
        raise S4Error(f"{archive} holds {name!r}, which would be written outside of the folder. {_HOSTILE}")
    return path


def _write(archive: Path, name: str, target: Path, size: int, source: IO[bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with source, open(part, "wb") as file:
        shutil.copyfileobj(_Bounded(source, size), file, 1 << 20)
        whole = file.tell() == size
    if not whole:
        part.unlink()
        raise S4Error(f"{archive} is damaged: {name!r} is not as long as it says. Remove it and run the command again.")
    os.replace(part, target)


class _Bounded:
    """Reads at most one byte more than `size`: what a header promises is what is written."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self.source, self.left = source, size + 1

    def read(self, amount: int) -> bytes:
        data = self.source.read(min(amount, self.left))
        self.left -= len(data)
        return data
