"""The one reader of text files: lists, class tables. What Windows saves is read, what cannot be is said in one line."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from ...errors import S4Error

MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with its byte-order mark.

    Raises:
        S4Error: there is no such file, it cannot be opened, or it is in another encoding; names the line.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise S4Error(f"{path} does not exist.") from None
    except OSError as why:
        raise S4Error(f"{path} cannot be opened as a text file ({why.strerror}).") from None
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as why:
        line = 1 + raw[: why.start].count(b"\n")
        raise S4Error(
            f"{path} is not UTF-8 (byte 0x{raw[why.start]:02x} in line {line}): open it in an editor and save it "
            "as UTF-8."
        ) from None
    if "\0" in text:
        raise S4Error(f"{path} is no text in UTF-8 (it holds zero bytes): open it in an editor and save it as UTF-8.")
    return text


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines of `read_text` that are not blank, without the blanks around them; any line ending.

    Raises:
        S4Error: as `read_text`.
    """
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]
