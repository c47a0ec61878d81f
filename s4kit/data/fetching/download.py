"""Fetch a file: several mirrors, resume after a cut, a checksum of the fresh file, whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from ...errors import S4Error

CHUNK = 1 << 18
TRIES = 3  # attempts in a row, per mirror, that bring less than WORTH
WORTH = 1 << 20  # bytes that make an attempt worth another one: large files survive many cuts
KINDS = {32: "md5", 40: "sha1", 64: "sha256"}  # hex digits -> the digest they are

Progress = Callable[[int, int, str], None]
"""Called with (done, of how many, of what: "files", "MB of NAME", ...)."""


class _Failed(Exception):
    """This attempt failed; `again`: the same mirror may do better."""

    def __init__(self, why: str, again: bool = True) -> None:
        super().__init__(why)
        self.again = again


def digest_of(path: str | os.PathLike, kind: str) -> str:
    """Hex digest of a file; `kind` is md5, sha1 or sha256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def sha256_of(path: str | os.PathLike) -> str:
    """Hex digest of a file."""
    return digest_of(path, "sha256")


def fetch(
    path: str | os.PathLike,
    mirrors: Sequence[str],
    checksum: str | None = None,
    manual: str = "",
    timeout: float = 30.0,
    pause: float = 1.0,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download to `path` from the first mirror that works.

    What arrives goes to `path.part`, which later attempts continue (HTTP Range), and takes its name when it is whole
    and, with `checksum`, right. Without a checksum nothing vouches for an old part: it is then continued only within
    this call and from the same mirror.

    Args:
        path: the file to make; kept if it is there (and right).
        mirrors: URLs of the same bytes, best first.
        checksum: hex digest: 64 digits are sha256, 40 sha1, 32 md5.
        manual: what to do by hand, for the error.
        timeout: seconds without an answer.
        pause: seconds before an attempt is repeated.
        size: in bytes, where it is known: anything else is a cut or another file.
        progress: called about once a second.

    Raises:
        S4Error: all mirrors failed (says how each did), or the disk refused.
    """
    path = Path(path)
    if path.is_file() and _problem(path, checksum, size) is None:
        return path
    part = path.with_name(path.name + ".part")
    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in mirrors:
            try:
                _from_mirror(url, part, checksum, size, timeout, pause, progress)
            except _Failed as why:
                failures.append(f"  {url}: {why}")
            else:
                os.replace(part, path)
                return path
    except OSError as why:
        raise refused(path, why) from None
    raise S4Error(
        "\n".join([f"{path.name} could not be downloaded:", *failures])
        + f"\nBy hand: {manual or f'download it from one of these addresses and save it as {path}'}."
    )


def refused(path: Path, why: OSError) -> S4Error:
    """What to tell where the disk did not take a file."""
    if why.errno in (errno.ENOSPC, errno.EDQUOT):
        return S4Error(
            f"The disk is full: {path} cannot be written. Free space, or choose a folder on another disk (--root), and "
            "run the command again: it goes on where it stopped."
        )
    return S4Error(f"{path} cannot be written ({why}). Free disk space or choose another folder.")


def room(folder: Path, need: int, what: str) -> None:
    """Make sure that the disk has `need` bytes left before anything is fetched.

    Raises:
        S4Error: says how much is needed and how much is free.
    """
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < need:
        raise S4Error(
            f"{what} needs {need / 1e9:.1f} GB below {folder}, where {free / 1e9:.1f} GB are free. Free space, or "
            "choose a folder on another disk (--root)."
        )


def _problem(path: Path, checksum: str | None, size: int | None) -> str | None:
    """Why a whole file is not the wanted one."""
    if size is not None and (found := path.stat().st_size) != size:
        return f"wrong size ({found} bytes, expected {size})"
    if checksum is not None:
        kind = KINDS[len(checksum)]
        if (found := digest_of(path, kind)) != checksum:
            return f"wrong checksum ({kind} {found[:12]}..., expected {checksum[:12]}...)"
    return None


def _from_mirror(
    url: str,
    part: Path,
    checksum: str | None,
    size: int | None,
    timeout: float,
    pause: float,
    progress: Progress | None,
) -> None:
    if checksum is None:
        part.unlink(missing_ok=True)
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, timeout, size, progress)
            break
        except _Failed as why:
            gained = (part.stat().st_size if part.exists() else 0) - before
            tries = 0 if gained >= WORTH else tries + 1
            if not why.again or tries == TRIES:
                raise
            time.sleep(pause)
    if wrong := _problem(part, checksum, size):
        part.unlink()
        raise _Failed(wrong, again=False)


def _continue(url: str, part: Path, timeout: float, size: int | None, progress: Progress | None) -> None:
    """One request that fetches what `part` lacks."""
    have = part.stat().st_size if part.exists() else 0
    if have and have == size:
        return
    request = urllib.request.Request(
        url, headers={"User-Agent": "s4kit", **({"Range": f"bytes={have}-"} if have else {})}
    )
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as why:
        if why.code == 416:  # nothing beyond what we have: whole already, or not this file
            if why.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            part.unlink()
        raise _Failed(f"HTTP {why.code}", again=why.code in (408, 416, 429) or why.code >= 500) from None
    except (urllib.error.URLError, OSError, HTTPException) as why:
        raise _Failed(str(getattr(why, "reason", why))) from None
    with answer:
        starts_at_have = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        resumed = have > 0 and answer.status == 206 and starts_at_have
        length = answer.headers.get("Content-Length")
        have = have if resumed else 0
        expected = have + int(length) if length else size
        if size is not None and expected != size:
            raise _Failed(f"another file ({expected} bytes, expected {size})", again=False)
        received = _save(answer, part, have, expected, progress)
    if expected is not None and received < expected:
        raise _Failed(f"the connection broke after {received} of {expected} bytes")


def _save(answer, part: Path, have: int, expected: int | None, progress: Progress | None) -> int:
    """Append what comes to the first `have` bytes of `part`; how many bytes it then has."""
    told = 0.0
    with open(part, "ab" if have else "wb") as file:
        while True:
            try:
                chunk = answer.read(CHUNK)
            except (OSError, HTTPException):  # a cut: what came is kept
                break
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            if progress and expected and (time.monotonic() - told > 1 or have == expected):
                told = time.monotonic()
                progress(have // 1_000_000, -(-expected // 1_000_000), f"MB of {part.name.removesuffix('.part')}")
    return have


def manifest(folder: Path, names: Sequence[str]) -> str:
    """sha256 of the sorted lines "NAME SHA256" of files below `folder`: one checksum for many files."""
    lines = sorted(f"{name} {sha256_of(folder / name)}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
