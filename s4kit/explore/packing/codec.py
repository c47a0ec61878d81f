"""How arrays travel to the browser."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import numpy as np

from ...engine.maps import SMOOTH, differences, sums

DTYPES = {"uint8": "u1", "uint32": "u4", "float32": "f4"}


def encode(arrays: dict[str, np.ndarray], **header: Any) -> bytes:
    """gzip of: length of the header (uint32, little endian), the header as JSON, the arrays.

    The header is {"arrays": [{"name", "dtype": "u1" | "u4" | "f4", "shape", "offset", "differences"}], ...}. Offsets
    count from the first byte after the header; it and each of them are multiples of 4, so that a browser can view
    numbers in place. Smooth maps are sent as differences of neighbouring pixels, see `maps.differences`.
    """
    entries, body = [], bytearray()
    for name, values in arrays.items():
        body += b"\0" * (-len(body) % 4)
        entry = {"name": name, "dtype": DTYPES[values.dtype.name], "shape": list(values.shape), "offset": len(body)}
        entries.append(entry | {"differences": name in SMOOTH})
        values = differences(values) if name in SMOOTH else values
        body += np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    head = json.dumps({"arrays": entries, **header}).encode()
    head += b" " * (-len(head) % 4)
    return gzip.compress(struct.pack("<I", len(head)) + head + body, 6, mtime=0)


def decode(pack: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name and header of what `encode` has made, with the shapes and types that went in."""
    raw = gzip.decompress(pack)
    start = 4 + struct.unpack("<I", raw[:4])[0]
    header = json.loads(raw[4:start])
    arrays = {}
    for entry in header["arrays"]:
        dtype = np.dtype("<" + entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=int))
        found = np.frombuffer(raw, dtype, count, start + entry["offset"])
        found = found.reshape(entry["shape"])
        arrays[entry["name"]] = sums(found) if entry["differences"] else found
    return arrays, header
