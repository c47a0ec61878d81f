"""The local page: what it answers is what the runs hold, it follows a training, and nobody else gets anything."""

from __future__ import annotations

import http.client
import json
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import s4kit as s4
from s4kit.cli import main
from s4kit.engine import survey
from s4kit.explore.packing.codec import decode
from s4kit.explore.serving import serve
from s4kit.explore.state import for_browser
from s4kit.explore.view import View


class Client:
    """Asks a server in any way, also in ways that no browser would."""

    def __init__(self, server: serve.Server) -> None:
        self.server, self.home = server, f"/{server.token}/"

    def ask(self, path: str = "", method: str = "GET", body: bytes | None = None, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        connection._encode_request = lambda request: request.encode()  # any bytes, where Python would refuse
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        if body is not None:
            headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"} | headers
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        reply = connection.getresponse()
        found = reply.status, reply.read(), dict(reply.getheaders())
        connection.close()
        return found

    def get(self, path: str = "") -> bytes:
        status, body, _ = self.ask(self.home + path)
        assert status == 200, body
        return body

    def message(self, **asked) -> tuple[dict, bytes]:
        status, body, _ = self.ask(self.home + "message", "POST", json.dumps(asked).encode())
        assert status == 200, body
        length = struct.unpack("<I", body[:4])[0]
        return json.loads(body[4 : 4 + length]), body[4 + length :]


@pytest.fixture
def start() -> Iterator:
    servers = []

    def start(*runs: Path) -> Client:
        server = serve.Server(runs)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return Client(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    return shutil.copytree(runs["fixmatch"], tmp_path / "copy")


# ---- what is answered ----


def test_packs_and_whole_images_are_those_of_the_runs(start, runs):
    client, view = start(runs["fixmatch"], runs["cps"]), View([runs["fixmatch"], runs["cps"]])
    page = client.get().decode()
    state = json.loads(page.split('id="state">')[1].split("</script>")[0])
    assert state["meta"] == json.loads(json.dumps(for_browser(view.meta) | {"kernel": True})) and state["snapshot"] == 2
    for key in ("image/2", "track/1/0", "track/2/4", "path/0/1", "summary/1"):
        about, data = client.message(kind="need", key=key)
        assert about == {"kind": "pack", "key": key} and data == view.data.pack(key)
    about, data = client.message(kind="full", image=1, track=2)
    assert about == {"kind": "full", "image": 1, "track": 2} and decode(data)[0]["label"].shape == (1, 40, 40)
    assert "nothing under" in client.message(kind="need", key="track/9/9")[0]["error"]
    assert "no image" in client.message(kind="full", image=99, track=0)[0]["error"]
    assert "does not know" in client.message(kind="exec", code="1")[0]["error"]


def test_a_training_is_followed(start, runs, copy):
    folder = copy / "probes"
    late, early = folder / "0000005.npz", folder / "0000003.npz"
    late.rename(copy / "late")
    client = start(copy)
    first = json.loads(client.get("news?seen="))
    assert first["meta"]["tracks"][0]["steps"] == [1, 3] and early.is_file()
    assert json.loads(client.get(f"news?seen={first['version']}")) == {"version": first["version"]}
    (copy / "late").rename(late)
    news = json.loads(client.get(f"news?seen={first['version']}"))
    assert news["meta"]["tracks"][0]["steps"] == [1, 3, 5] and news["version"] != first["version"]
    assert decode(client.message(kind="need", key="track/0/0")[1])[0]["label"].shape[0] == 3


def test_a_run_without_a_snapshot_is_waited_for_while_it_trains(start, copy):
    (copy / "probes").rename(copy / "later")
    with pytest.raises(s4.S4Error, match="holds no snapshots"):
        start(copy)  # it has ended: none will come
    (copy / "evaluations.csv").unlink()
    client = start(copy)
    news = json.loads(client.get("news?seen="))
    assert news["meta"] is None and "holds no snapshots" in news["words"]
    assert "no snapshot yet" in client.message(kind="need", key="image/0")[0]["error"]
    (copy / "later").rename(copy / "probes")
    assert len(json.loads(client.get(f"news?seen={news['version']}"))["meta"]["images"]) == 5


def test_the_whole_set_is_served_with_its_thumbnails_and_tags(start, copy):
    s4.open_run(copy).sweep(device="cpu", show=False)
    found = survey.Survey(copy / "sweep" / "last")
    client = start(copy)
    (about,) = json.loads(client.get("news?seen="))["surveys"]
    assert (about["run"], about["which"], about["count"], about["of"]) == (0, "last", 11, 11)
    arrays, head = decode(client.message(kind="rows", run=0, which="last")[1])
    assert head["ids"] == found.ids and head["lists"] == found.lists and head["tags"] == {}
    for name in head["columns"]:
        assert np.array_equal(arrays[f"column/{name}"], found.columns[name], equal_nan=True)
    assert client.get("thumbnail/0/last/3/picture?step=5") == found.thumbnail(3)
    assert client.get("thumbnail/0/last/10/labels") == found.thumbnail(10, labels=True)
    ids = found.ids[2:4]
    assert client.message(kind="tag", run=0, tag=" odd ", ids=ids, on=True)[0]["tags"] == {"odd": ids}
    assert client.message(kind="tag", run=0, tag="odd", ids=ids[:1], on=False)[0]["tags"] == {"odd": ids[1:]}
    assert json.loads((copy / "tags.json").read_text()) == {"odd": ids[1:]}
    whole = decode(client.message(kind="look", run=0, id=found.ids[10])[1])[0]
    assert whole["image"].shape == (40, 40, 3) and set(whole) >= {"truth", "label", "weight"}
    added = client.message(kind="watch", run=0, ids=[found.ids[10]])[0]["added"]
    assert added == [found.ids[10]] == s4.open_run(copy).snapshots().ids[5:]
    for asked in (
        {"kind": "rows", "run": 0, "which": "../../probes"},
        {"kind": "rows", "run": 1, "which": "last"},
        {"kind": "rows", "run": True, "which": "last"},
        {"kind": "rows", "run": 0, "which": "best"},
        {"kind": "look", "run": 0, "id": "../../etc/passwd"},
        {"kind": "look", "run": 0, "id": None},
        {"kind": "tag", "run": 0, "tag": "", "ids": [], "on": True},
        {"kind": "tag", "run": 0, "tag": "x" * 99, "ids": [], "on": True},
        {"kind": "tag", "run": 0, "tag": "x", "ids": [1], "on": True},
        {"kind": "watch", "run": 0, "ids": "worst"},
        {"kind": "watch", "run": 0, "ids": ["nobody"]},
    ):
        assert "error" in client.message(**asked)[0], asked


# ---- who gets nothing ----


def test_without_the_token_there_is_nothing(start, runs):
    client = start(runs["fixmatch"])
    token = client.server.token
    assert len(token) >= 32 and start(runs["fixmatch"]).server.token != token
    for path in (
        "/",
        "",
        "/index.html",
        f"/{token}",
        f"/{token[:-1]}/",
        f"/{token}x/",
        "//",
        f"/x/{token}/",
        f"/ü/{token}",
    ):
        status, body, _ = client.ask(path.encode().decode("latin-1") or "/")
        assert status == 404 and b"S4" not in body and token.encode() not in body


@pytest.mark.parametrize(
    "path",
    [
        "../config.json", "..%2fconfig.json", "%2e%2e/config.json", "....//config.json", "thumbnail/0/../0/picture",
        "thumbnail/0/last/-1/picture", "thumbnail/0/last/1e9/picture", "thumbnail/0/last/0/../../x",
        "thumbnail/0/..%2f..%2fprobes/0/picture", f"thumbnail/{'9' * 99}/last/0/picture", "thumbnail/0/last/٣/picture",
        "config.json", "probes/index.json", "//etc/passwd", "\\..\\config.json", "news/..", "message", "", 
    ],
)  # fmt: skip
def test_no_path_reaches_a_file(start, runs, path):
    client = start(runs["fixmatch"])
    status, body, _ = client.ask(client.home + path)
    assert status == (200 if path == "" else 404)
    if path:
        assert b"fixmatch" not in body and b"root:" not in body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "localhost:9"}, 200),  # through ssh the port may be another
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "evil.example@127.0.0.1:bad"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost", "Origin": "http://localhost:1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_foreign_hosts_and_origins_are_refused(start, runs, headers, status):
    client = start(runs["fixmatch"])
    assert client.ask(client.home + "news?seen=", **headers)[0] == status
    asked = json.dumps({"kind": "need", "key": "image/0"}).encode()
    assert client.ask(client.home + "message", "POST", asked, **headers)[0] == status


def test_the_page_may_be_come_to_from_a_link_but_not_framed(start, runs):
    client = start(runs["fixmatch"])
    status, body, headers = client.ask(client.home, Sec_Fetch_Site="cross-site")
    policy = headers["Content-Security-Policy"]
    assert status == 200 and "frame-ancestors 'none'" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy and headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff" and "Python" not in headers["Server"]
    assert client.server.token.encode() not in body


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"{}", {"Content_Type": "text/plain"}, 404),
        (b"{}", {"Content_Length": "x"}, 411),
        (b"{}", {"Content_Length": str(10**11)}, 413),
        (b"{}", {"Content_Length": "9" * 5000}, 413),
        (b"{}", {"Transfer_Encoding": "chunked"}, 411),
        (b"[]", {}, 200),
        (b"null", {}, 200),
    ],
)
def test_odd_questions_are_turned_away(start, runs, body, headers, status):
    client = start(runs["fixmatch"])
    plain = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    given = plain | {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", client.server.server_port, timeout=30)
    connection.putrequest("POST", client.home + "message")
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    assert connection.getresponse().status == status
    connection.close()
    assert client.get("news?seen=")  # and it lives on


def test_other_methods_are_not_known(start, runs):
    client = start(runs["fixmatch"])
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "HEAD"):
        assert client.ask(client.home, method)[0] == 501


def test_names_of_a_foreign_run_are_text(start, copy):
    index = copy / "probes" / "index.json"
    found = json.loads(index.read_text())
    evil = "</script><script>window.hacked=1</script>"
    found["ids"][0] = found["classes"][0] = evil
    index.write_text(json.dumps(found))
    moved = copy.rename(copy.with_name("<img src=x onerror=hacked()>"))
    page = start(moved).get().decode()
    assert evil not in page and "<img src=x" not in page and page.count("<script") == 2


# ---- the shell ----


def test_the_shell_says_where_the_page_is_and_how_to_come_there(runs, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    monkeypatch.setattr(serve.Server, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert main(["explore", str(runs["fixmatch"])]) == 0
    (url,) = opened
    said = capsys.readouterr().out
    assert url in said and url.startswith("http://127.0.0.1:") and "ssh" not in said
    assert main(["explore", str(runs["fixmatch"]), "--no-browser", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["url"].startswith("http://127.0.0.1:") and len(opened) == 1
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.2 51000 10.0.0.7 22")
    assert main(["explore", str(runs["fixmatch"])]) == 0 and len(opened) == 1
    said = capsys.readouterr().out
    port = said.split("127.0.0.1:")[1].split("/")[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in said and "@10.0.0.7" in said


def test_what_cannot_be_served_is_said(runs, tmp_path, capsys, start):
    assert main(["explore", str(tmp_path)]) == 2 and "holds no run" in capsys.readouterr().err
    assert main(["explore", str(runs["cps"]), "--steps", "3"]) == 2 and "--html" in capsys.readouterr().err
    taken = str(start(runs["cps"]).server.server_port)
    assert main(["explore", str(runs["cps"]), "--port", taken]) == 2 and "cannot be had" in capsys.readouterr().err
    assert main(["explore", str(runs["cps"]), "--port", "99999"]) == 2


def test_only_this_machine_can_connect(start, runs):
    assert start(runs["fixmatch"]).server.socket.getsockname()[0] == "127.0.0.1"
