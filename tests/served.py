"""Published lists from a local server, in the forms in which their sources write them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served(ThreadingHTTPServer):
    """Serves `files` {"/path": bytes}; `log` has what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.log: list[str] = []
        self.open = True
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """From here on there is no network."""
        if self.open:
            self.open = False
            self.shutdown()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.log.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *args) -> None:
        pass


def normal(ids: Sequence[str]) -> bytes:
    """The ids, one a line: what a list's sha256 is of."""
    return "".join(f"{name}\n" for name in ids).encode()


def sha256(ids: Sequence[str]) -> str:
    return hashlib.sha256(normal(ids)).hexdigest()


def raw(ids: Sequence[str], dataset: str, repo: str) -> bytes:
    """The ids as the source writes them: pairs of paths (UniMatch), one path, bare with CRLF, flat paths with a tab."""
    if dataset == "voc":
        pairs = (f"JPEGImages/{name}.jpg SegmentationClass/{name}.png" for name in ids)
        return "\n".join(pairs).encode() if "UniMatch" in repo else "\r\n".join(ids).encode()
    if dataset == "cityscapes":
        image = "leftImg8bit/train/{0}_leftImg8bit.png"
        lines = {
            "UniMatch": image + " gtFine/train/{0}_gtFine_labelTrainIds.png",
            "TorchSemiSeg": "/images/train/{1}.png\t/segmentation/train/{1}_gtFine.png",
        }
        line = next((form for key, form in lines.items() if key in repo), image)
        return "\n".join(line.format(name, name.split("/")[1]) for name in ids).encode()
    line = {"coco": "train2017/{0}.jpg masks/{0}.png", "ade20k": "images/training/{0}.jpg annotations/training/{0}.png"}
    return "".join(line[dataset].format(name) + "\n" for name in ids).encode()
