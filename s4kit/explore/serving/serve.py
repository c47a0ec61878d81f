"""The explorer on a local page: `s4kit explore RUN`. Packs are read when they are asked for, and new snapshots appear.

Only this machine can connect; whoever does must know the token in the address; and a page from elsewhere that a browser
shows at the same time gets nothing, since the host and the origin of each request are looked at. No path of a request
ever becomes a path of a file.
"""

from __future__ import annotations

import getpass
import hmac
import json
import os
import secrets
import socket
import struct
import sys
import webbrowser
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import S4Error
from ...report.text import finite
from . import answers, html
from .live import Live

HOSTS = ("127.0.0.1", "localhost")
LARGEST = 64 << 20  # bytes of a question: a painted label has far less
PATIENCE = 60  # seconds for a request to arrive
ALLOWED = "connect-src 'self'; img-src 'self' data:"
NO_ICON = '<link rel="icon" href="data:,">'  # or the browser would ask for one, outside of the token


class Refused(Exception):
    """A request that gets nothing."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves some runs on 127.0.0.1 until it is closed.

    Args:
        runs: folders. port: 0 = any that is free.

    Raises:
        S4Error: see `Live`; or the port is taken.
    """

    daemon_threads = True

    def __init__(self, runs: Sequence[str | Path], port: int = 0) -> None:
        self.live = Live(runs)
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise S4Error(f"Port {port} cannot be had ({error}); leave --port out for one that is free.") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client: Any) -> None:
        """A browser that goes away in the middle is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer with a page or a file; what goes wrong is said in the answer."""
        self._guarded(self._get)

    def do_POST(self) -> None:
        """Answer a change, such as a watched image; what goes wrong is said in the answer."""
        self._guarded(self._post)

    def version_string(self) -> str:
        """What the `Server` header says: no version of Python."""
        return "s4kit"

    def log_message(self, *_: Any) -> None:
        """Nothing: a line for each request would hide what the server has to say."""
        pass

    # ---- who may ask ----

    def _guarded(self, answer: Callable[[list[str]], None]) -> None:
        try:
            answer(self._route())
        except Refused as refused:
            self.close_connection = True  # what else was sent stays unread
            self._send(refused.status.phrase.encode(), "text/plain; charset=utf-8", refused.status)

    def _route(self) -> list[str]:
        """The parts of the path behind the token.

        Raises:
            Refused: another host's name, another page's request, or no token.
        """
        host = self.headers.get("Host", "")
        try:
            parts = urlsplit(f"//{host}")
            named, _ = parts.hostname, parts.port
        except ValueError:
            named = None
        if named not in HOSTS or len(self.headers.get_all("Host", [])) != 1:
            raise Refused(HTTPStatus.FORBIDDEN)  # a name that somebody else has pointed here
        origin, route = self.headers.get("Origin"), self.path.split("?")[0].split("/")
        if origin not in (None, f"http://{host}"):
            raise Refused(HTTPStatus.FORBIDDEN)
        if len(route) < 3 or route[0] or not hmac.compare_digest(route[1].encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.NOT_FOUND)
        opened = self.command == "GET" and route[2:] == [""]  # the page itself may be come to from anywhere
        if not opened and self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN)
        return route[2:]

    # ---- what is answered ----

    def _get(self, route: list[str]) -> None:
        live = self.server.live
        if route == [""]:
            state = live.state()
            names = ", ".join(run.path.resolve().name for run in live.runs)
            page, policy = html.document(
                f"Pseudo-labels: {names}", finite(state), "served.js", allowed=ALLOWED, head=NO_ICON
            )
            policy += "; frame-ancestors 'none'"
            return self._send(page.encode(), "text/html; charset=utf-8", more={"Content-Security-Policy": policy})
        if route == ["news"]:
            seen = urlsplit(self.path).query.removeprefix("seen=")
            return self._json({"version": seen} if seen == live.version() else live.news())
        if len(route) == 5 and route[0] == "thumbnail" and route[4] in ("picture", "labels"):
            return self._thumbnail(*route[1:])
        raise Refused(HTTPStatus.NOT_FOUND)

    def _thumbnail(self, run: str, which: str, row: str, kind: str) -> None:
        if not (run.isdecimal() and row.isdecimal() and len(run + row) < 16):
            raise Refused(HTTPStatus.NOT_FOUND)
        try:
            data = self.server.live.survey(int(run), which).thumbnail(int(row), labels=kind == "labels")
        except S4Error as error:
            raise Refused(HTTPStatus.NOT_FOUND) from error
        kept = {"Cache-Control": "private, max-age=3600"}  # the address names the step
        self._send(data, "image/png" if kind == "labels" else "image/jpeg", more=kept)

    def _post(self, route: list[str]) -> None:
        """A message of the page: its answer as JSON behind four bytes of length, then the bytes that go with it."""
        if route != ["message"] or self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.NOT_FOUND)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED)
        if len(length) > 12 or int(length) > LARGEST:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST) from error
        about, data = _answer(self.server.live, asked)
        head = json.dumps(finite(about)).encode()
        self._send(struct.pack("<I", len(head)) + head + (data or b""), "application/octet-stream")

    def _json(self, value: Any) -> None:
        self._send(json.dumps(finite(value)).encode(), "application/json")

    def _send(
        self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        plain = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in (plain | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _answer(live: Live, asked: Any) -> tuple[dict[str, Any], bytes | None]:
    """The answer to a message, and the bytes that go with it; what goes wrong is said in it.

    Besides those of `answers`: {"kind": "rows", "run", "which"}, {"kind": "look", "run", "id"}, {"kind": "tag", "run",
    "tag", "ids", "on"}, {"kind": "watch", "run", "ids"}.
    """
    if answers.known(asked):
        about, data, wrong = live.respond(asked)
        if wrong is not None and not isinstance(wrong, S4Error):
            print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return about, data
    kind = asked.get("kind") if isinstance(asked, dict) else None
    try:
        if kind == "rows":
            return {"kind": kind}, live.rows(asked.get("run"), asked.get("which"))
        if kind == "look":
            return {"kind": kind}, live.look(asked.get("run"), asked.get("id"))
        if kind == "tag":
            return {"kind": kind, "tags": live.tag(*(asked.get(name) for name in ("run", "tag", "ids", "on")))}, None
        if kind == "watch":
            return {"kind": kind, "added": live.watch(asked.get("run"), asked.get("ids"))}, None
    except S4Error as error:
        return {"kind": kind, "error": str(error)}, None
    return {"error": f"the server does not know what {kind!r} is"}, None


def serve(runs: Sequence[str | Path], port: int = 0, browse: bool = True) -> dict[str, Any]:
    """Serve the explorer of some runs until Ctrl-C; says where, and opens the browser.

    Args:
        browse: open a browser, where this is no remote machine.
    """
    server = Server(runs, port)
    remote = "SSH_CONNECTION" in os.environ
    print(f"The explorer is at {server.url}", flush=True)
    if remote:
        print(f"From your own machine: ssh -N -L {server.server_port}:127.0.0.1:{server.server_port} {_here()}")
    print("It follows runs that are being trained. Ctrl-C ends it.", flush=True)
    if browse and not remote:
        webbrowser.open(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)
    finally:
        server.server_close()
    return {"url": server.url}


def _here() -> str:
    """This machine as one says it to ssh; the address that the user has connected to."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    host = connection[2] if len(connection) == 4 else socket.gethostname()
    return f"{getpass.getuser()}@{host}"
