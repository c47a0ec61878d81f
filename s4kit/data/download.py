"""Fetch a file: several mirrors, resume after a cut, a checksum of the fresh file, whole or absent."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from ..errors import S4Error

CHUNK = 1 << 18
TRIES = 3  # per mirror


class _Failed(Exception):
    """This attempt failed; `again`: the same mirror may do better."""

    def __init__(self, why: str, again: bool = True) -> None:
        super().__init__(why)
        self.again = again


def sha256_of(path: str | os.PathLike) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    path: str | os.PathLike,
    mirrors: Sequence[str],
    sha256: str | None = None,
    manual: str = "",
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Download to `path` from the first mirror that works.

    What arrives goes to `path.part`, which later attempts continue (HTTP Range), and takes its name when it is whole
    and, with `sha256`, right. Without a checksum nothing vouches for an old part: it is then continued only within
    this call and from the same mirror.

    Args:
        path: the file to make; kept if it is there (and right).
        mirrors: URLs of the same bytes, best first.
        sha256: hex digest.
        manual: what to do by hand, for the error.
        timeout: seconds without an answer.
        pause: seconds before an attempt is repeated.

    Raises:
        S4Error: all mirrors failed (says how each did), or the disk refused.
    """
    path = Path(path)
    if path.is_file() and (sha256 is None or sha256_of(path) == sha256):
        return path
    part = path.with_name(path.name + ".part")
    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in mirrors:
            try:
                _from_mirror(url, part, sha256, timeout, pause)
            except _Failed as why:
                failures.append(f"  {url}: {why}")
            else:
                os.replace(part, path)
                return path
    except OSError as why:
        raise S4Error(f"{path} cannot be written ({why}). Free disk space or choose another folder.") from None
    raise S4Error(
        "\n".join([f"{path.name} could not be downloaded:", *failures])
        + f"\nBy hand: {manual or f'download it from one of these addresses and save it as {path}'}."
    )


def _from_mirror(url: str, part: Path, sha256: str | None, timeout: float, pause: float) -> None:
    if sha256 is None:
        part.unlink(missing_ok=True)
    for attempt in range(TRIES):
        try:
            _continue(url, part, timeout)
            break
        except _Failed as why:
            if not why.again or attempt == TRIES - 1:
                raise
            time.sleep(pause)
    if sha256 is not None and (found := sha256_of(part)) != sha256:
        part.unlink()
        raise _Failed(f"wrong checksum (sha256 {found[:12]}..., expected {sha256[:12]}...)", again=False)


def _continue(url: str, part: Path, timeout: float) -> None:
    """One request that fetches what `part` lacks."""
    have = part.stat().st_size if part.exists() else 0
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
        expected = answer.headers.get("Content-Length")
        received = _save(answer, part, append=resumed)
    if expected is not None and received < int(expected):
        raise _Failed(f"the connection broke after {received} of {expected} bytes")


def _save(answer, part: Path, append: bool) -> int:
    received = 0
    with open(part, "ab" if append else "wb") as file:
        while True:
            try:
                chunk = answer.read(CHUNK)
            except (OSError, HTTPException):  # a cut: what came is kept
                break
            if not chunk:
                break
            file.write(chunk)
            received += len(chunk)
    return received


def manifest(folder: Path, names: Sequence[str]) -> str:
    """sha256 of the sorted lines "NAME SHA256" of files below `folder`: one checksum for many files."""
    lines = sorted(f"{name} {sha256_of(folder / name)}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
