"""Downloads from a local server that misbehaves on demand."""

import hashlib
from pathlib import Path

import pytest

import s4kit.data as data
from s4kit.data.fetching import download
from s4kit.data.fetching.download import fetch, manifest, sha256_of
from s4kit.data.sets import camvid
from s4kit.errors import S4Error

from .server import BODY

SHA = hashlib.sha256(BODY).hexdigest()


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
    with pytest.raises(S4Error, match=r"(?s)is not there.*free account.*csDownload -d .*s4kit data get cityscapes"):
        data.get("cityscapes")
    with pytest.raises(S4Error, match="embedded"):
        data.get("scenes")


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_the_length_of_a_checksum_says_its_kind(server, tmp_path, kind):
    right = hashlib.new(kind, BODY).hexdigest()
    assert fetch(tmp_path / "a", [f"{server.url}/file"], right).read_bytes() == BODY
    with pytest.raises(S4Error, match=rf"wrong checksum \({kind} {right[:12]}"):
        fetch(tmp_path / "b", [f"{server.url}/file"], "0" * len(right))


def test_a_page_instead_of_the_file_is_known_by_its_size(server, tmp_path):
    server.files["/login"] = b"<html>please log in</html>"
    mirrors = [f"{server.url}/login", f"{server.url}/file"]
    path = fetch(tmp_path / "a", mirrors, size=len(BODY), pause=0)
    assert path.read_bytes() == BODY
    with pytest.raises(S4Error, match=r"another file \(26 bytes, expected 1024000\)"):
        fetch(tmp_path / "b", mirrors[:1], size=len(BODY), pause=0)


def test_many_cuts_are_survived_as_long_as_each_attempt_brings_something(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "WORTH", 50_000)
    server.cuts = [60_000] * 12
    told = []
    path = fetch(tmp_path / "a", [f"{server.url}/file"], SHA, pause=0, progress=lambda *t: told.append(t))
    assert path.read_bytes() == BODY and len(server.log) == 13 and told[-1] == (1, 2, "MB of a")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to play a full disk")
def test_a_full_disk(server, tmp_path):
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(S4Error, match=r"The disk is full: .*/a cannot be written. Free space"):
        get(tmp_path / "a", f"{server.url}/file")
    assert len(server.log) == 1  # no other mirror helps


def test_room_is_asked_for_before(tmp_path):
    download.room(tmp_path / "not/yet", 1000, "x.tar")
    with pytest.raises(S4Error, match=r"x.tar needs 1000000000.0 GB below .*not/yet, where .* GB are free"):
        download.room(tmp_path / "not/yet", 10**18, "x.tar")
