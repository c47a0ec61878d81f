"""What `s4kit data get` shows while it works."""

import sys

from s4kit.report import listing


def test_the_counter_off_a_terminal_is_one_line_for_each_kind(capsys):
    counter = listing._Counter("voc")
    for done in (0, 500, 2000):
        counter(done, 2000, "MB of VOC.tar")
    counter(500, 0, "files of VOC.tar")
    counter.end()
    counter.end()
    assert capsys.readouterr().err == "voc: 2000 of 2000 MB of VOC.tar\nvoc: 500 files of VOC.tar\n"


def test_the_counter_on_a_terminal_rewrites_its_line_and_says_how_long(capsys, monkeypatch):
    now = iter([50.0, 50.0, 60.0])
    monkeypatch.setattr(listing.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    counter = listing._Counter("coco")
    counter(0, 19337, "MB of train2017.zip")
    counter(200, 19337, "MB of train2017.zip")
    counter.end()
    last = capsys.readouterr().err.split("\r")[-1]
    assert last == "\033[Kcoco: 200 of 19337 MB of train2017.zip, 20.0 a second, 16 min left\n"
