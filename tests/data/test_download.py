"""Downloads from a local server that misbehaves on demand."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import s4kit.data as data
from s4kit.data import camvid
from s4kit.data.download import fetch, manifest, sha256_of
from s4kit.errors import S4Error

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY (or `files`); `cuts` = after how many bytes the next answers break off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.cuts, self.log, self.files = True, [], [], {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.log.append((self.path, wanted))
        body = server.files.get(self.path, BODY if self.path.startswith("/file") else None)
        if body is None:
            return self.send_error(404)
        start = int(wanted[6:-1]) if wanted and server.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        until = start + server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[start:until])
        return None

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


def get(path, *urls, sha=SHA):
    return fetch(path, urls, sha, timeout=5, pause=0)


def test_plain(server, tmp_path):
    path = get(tmp_path / "deep/a.bin", f"{server.url}/file")
    assert path.read_bytes() == BODY and not list(path.parent.glob("*.part"))
    get(path, f"{server.url}/file")
    assert len(server.log) == 1  # there and right: not asked again


def test_a_cut_connection_is_continued(server, tmp_path):
    server.cuts = [300_000, 200_000]
    assert get(tmp_path / "a", f"{server.url}/file").read_bytes() == BODY
    assert [r for _, r in server.log] == [None, "bytes=300000-", "bytes=500000-"]


def test_an_old_part_is_continued(server, tmp_path):
    (tmp_path / "a.part").write_bytes(BODY[:1000])
    assert get(tmp_path / "a", f"{server.url}/file").read_bytes() == BODY
    assert server.log[0][1] == "bytes=1000-"


def test_a_whole_part_is_taken(server, tmp_path):
    (tmp_path / "a.part").write_bytes(BODY)
    assert get(tmp_path / "a", f"{server.url}/file").read_bytes() == BODY


def test_a_part_that_is_too_long_is_dropped(server, tmp_path):
    (tmp_path / "a.part").write_bytes(BODY + b"more")
    assert get(tmp_path / "a", f"{server.url}/file").read_bytes() == BODY


def test_without_checksum_an_old_part_is_not_trusted(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    assert get(tmp_path / "a", f"{server.url}/file", sha=None).read_bytes() == BODY


def test_a_server_without_ranges(server, tmp_path):
    server.ranges, server.cuts = False, [300_000]
    assert get(tmp_path / "a", f"{server.url}/file").read_bytes() == BODY


def test_wrong_checksum_goes_to_the_next_mirror(server, tmp_path):
    server.files["/bad"] = b"other"
    assert get(tmp_path / "a", f"{server.url}/bad", f"{server.url}/file").read_bytes() == BODY


def test_a_wrong_file_that_is_there_is_replaced(server, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    assert get(tmp_path / "a", f"{server.url}/file").read_bytes() == BODY


def test_all_mirrors_fail(server, tmp_path):
    server.files["/bad"] = b"other"
    dead = "http://127.0.0.1:9/file"
    with pytest.raises(S4Error) as caught:
        fetch(tmp_path / "a", [dead, f"{server.url}/bad", f"{server.url}/none"], SHA, "do it so", 5, 0)
    text = str(caught.value)
    assert dead in text and "wrong checksum" in text and "HTTP 404" in text and "By hand: do it so" in text
    assert not (tmp_path / "a").exists()


def test_it_stops_after_a_few_cuts(server, tmp_path):
    server.cuts = [1000] * 10
    with pytest.raises(S4Error, match=r"the connection broke after 3000 of"):
        get(tmp_path / "a", f"{server.url}/file")
    assert len(server.log) == 3 and (tmp_path / "a.part").stat().st_size == 3000


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(S4Error, match="cannot be written"):
        get(tmp_path / "file/a", f"{server.url}/file")


@pytest.fixture
def served_camvid(server, camvid_root, monkeypatch):
    """The tiny CamVid of the tests behind the server, with checksums to match."""
    files = {f"/CamVid/{p.relative_to(camvid_root)}": p.read_bytes() for p in camvid_root.rglob("*.*")}
    server.files.update(files)
    names = [n[len("/CamVid/") :] for n in files if n.endswith(".png")]
    monkeypatch.setattr(camvid, "LISTS", {s: sha256_of(camvid_root / f"{s}.txt") for s in ("train", "val")})
    monkeypatch.setattr(camvid, "FILES", {("train", "val"): manifest(camvid_root, names)})
    monkeypatch.setattr(camvid, "MIRRORS", (f"{server.url}/CamVid",))
    return server


def test_camvid(served_camvid, tmp_path):
    seen = []
    mirrors = camvid.MIRRORS
    root = data.get("camvid", tmp_path / "got", lambda *told: seen.append(told), mirrors=mirrors)
    assert len(data.load("camvid", root=root).train) == 33 and seen[-1] == (72, 72, "files")
    (root / "train" / "0001TP_train_000003.png").unlink()
    asked = len(served_camvid.log)
    data.get("camvid", root, mirrors=mirrors)
    assert len(served_camvid.log) == asked + 1
    (root / "train" / "0001TP_train_000003.png").write_bytes(b"not this")
    with pytest.raises(S4Error, match="not those of the pinned commit"):
        data.get("camvid", root, mirrors=mirrors)


def test_what_cannot_be_downloaded():
    with pytest.raises(S4Error, match="free account"):
        data.get("cityscapes")
    with pytest.raises(S4Error, match="embedded"):
        data.get("scenes")
