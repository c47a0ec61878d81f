"""Hostile code gets nothing, and who comes after it is served."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from s4kit.classroom import Exercise, find, sandbox
from s4kit.classroom.confine import Limits
from s4kit.classroom.judge import calls, verdict
from s4kit.classroom.sandbox import Sandbox, Stopped, _Clock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the confinement of other systems is weaker")

QUICK = Limits(seconds=3, call=2, memory=1 << 30, file=1 << 20)
ANSWER = """
def confidence(teacher_logits, tau):
    print("score: 100 of 100")
    return (teacher_logits.softmax(1).max(1).values >= tau).to(teacher_logits.dtype).mean().detach()
"""


@pytest.fixture
def box():
    with Sandbox(QUICK) as made:
        yield made


def marks(box, name="confidence", key="cutmix.confidence"):
    exercise = find(key)
    assert isinstance(exercise, Exercise)
    cases = calls(exercise, seed=5)
    return verdict(
        exercise, cases, [box.call(name, c, exercise.learns, exercise.stops, i == 0) for i, c in enumerate(cases)]
    )


def test_an_honest_answer_is_right(box):
    assert box.cell(ANSWER) == ""
    assert marks(box).passed
    assert "score: 100" in box.output()


def test_every_exercise_travels(box):
    """Inputs of all kinds, generators included, reach the other process as they are."""
    box.cell(
        "from s4kit.classroom import find\nasked = find('cutmix.box').reference\nother = find('u2pl.percent').reference"
    )
    found = marks(box, "asked", "cutmix.box")
    assert found.passed
    assert marks(box, "other", "u2pl.percent").passed


def test_an_error_is_told_with_its_line(box):
    box.cell("def confidence(teacher_logits, tau):\n    return teacher_logits @ tau.T")
    words = marks(box).findings[0].words
    assert "AttributeError" in words and "return teacher_logits @ tau.T" in words


def test_a_missing_function(box):
    assert "not defined" in marks(box).findings[0].words


def denied(box, what):
    if what not in box.denied:
        pytest.skip(f"this system does not deny {what}")


def test_no_network(box):
    denied(box, "network")
    said = box.cell("import socket\ns = socket.socket()\ns.settimeout(2)\ns.connect(('198.51.100.1', 80))")
    assert "unreachable" in said


def test_no_foreign_files(box, tmp_path):
    denied(box, "files outside its folder")
    secret = tmp_path / "answers.txt"
    secret.write_text("42")
    os.chmod(secret, 0o666)
    os.chmod(tmp_path, 0o777)
    for source in (
        f"open({str(secret)!r}).read()",
        f"open({str(secret)!r}, 'w')",
        f"import os; os.remove({str(secret)!r})",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        "open('/proc/1/environ').read()",
    ):
        assert box.cell(source) != ""
    assert secret.read_text() == "42"
    assert box.cell("open('mine.txt', 'w').write('fine')") == ""


def test_endless_loops_end(box):
    with pytest.raises(Stopped, match="longer than 3 s"):
        box.cell("while True: pass")


def test_a_call_that_hangs_ends(box):
    box.cell("import time\ndef confidence(teacher_logits, tau): time.sleep(1000)")
    with pytest.raises(Stopped, match="longer than 2 s"):
        marks(box)


STRANGER = """
import os, sys
from pathlib import Path
from s4kit.classroom import confine
home, folder = Path(sys.argv[1]), Path(sys.argv[2])
confine._packages = lambda: {str(home)}
assert confine._become(60001, folder) and os.getresuid() == (60001,) * 3 and os.getgroups() == []
assert (home / "module.py").read_text() == "1" and (folder / "mine.txt").write_text("fine") == 4
for forbidden in (lambda: (home / "module.py").write_text("2"), lambda: os.setuid(0), lambda: os.kill(os.getppid(), 0)):
    try:
        forbidden()
    except PermissionError:
        continue
    raise SystemExit("allowed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_the_administrator_becomes_a_stranger_that_can_read_the_packages(mode):
    """In an administrator's home too, where nobody else may look: else forks could not be counted."""
    if os.getuid():
        pytest.skip("needs the administrator")
    home = Path(tempfile.mkdtemp())
    try:
        (home / "module.py").write_text("1")
        home.chmod(mode)
        folder = Path(tempfile.mkdtemp(dir=home.parent))
        ran = subprocess.run([sys.executable, "-c", STRANGER, home, folder], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    finally:
        shutil.rmtree(home)
        shutil.rmtree(folder)


ALONE = """
import ctypes, sys
from pathlib import Path
if ctypes.CDLL(None).unshare(0x10000000) != 0:  # before there are threads
    raise SystemExit(77)
for name, words in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
    Path("/proc/self", name).write_text(words)
from s4kit.classroom import confine
assert confine._become(60001, Path(sys.argv[1])) is False
"""


def test_an_administrator_who_may_not_change_users_stays_one(tmp_path):
    """As in a container whose only user is its administrator."""
    if os.getuid():
        pytest.skip("needs the administrator")
    ran = subprocess.run([sys.executable, "-c", ALONE, tmp_path], capture_output=True, text=True)
    if ran.returncode == 77:
        pytest.skip("this system makes no user namespaces")
    assert ran.returncode == 0, ran.stderr


def test_the_whole_standard_library_and_the_kit_can_be_imported(box):
    for name in ("shlex", "secrets", "modulefinder", "s4kit.views"):
        assert box.cell(f"import {name}") == ""


def test_waiting_for_the_machine_does_not_count():
    """Stopped for twice its limit, as if no core were free, it still gives its answer."""
    with Sandbox(Limits(seconds=4, call=1)) as box:
        box.cell(ANSWER)
        pid = _Clock(box._process.pid).pid
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(2.5, os.kill, (pid, signal.SIGCONT)).start()
        assert marks(box).passed


def test_waiting_without_an_end_ends(monkeypatch):
    monkeypatch.setattr(sandbox, "PATIENCE", 2)
    with Sandbox(Limits(seconds=1, call=1)) as box:
        os.kill(_Clock(box._process.pid).pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(Stopped, match="longer than 1 s"):
            box.cell("1 + 1")
        assert time.monotonic() - began > 1.9


def test_too_much_memory(box):
    assert "allocate" in box.cell("import torch\nheld = torch.ones(1 << 30)")
    assert box.cell("held = bytearray(3 << 30)").startswith("MemoryError")


def test_a_large_file(box):
    assert "OSError" in box.cell("open('big', 'wb').write(bytes(8 << 20))")


def test_forks_are_few_and_die_with_it(box):
    denied(box, "other processes")
    if os.getuid() == 0:
        denied(box, "the rights of the administrator")  # whose processes are not counted
    said = box.cell(
        "import os, time\nfor _ in range(500):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(1000)"
    )
    assert "BlockingIOError" in said
    inner = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _cwd(pid) == str(box.folder)]
    assert inner
    box.kill()
    for _ in range(100):
        if not (alive := [pid for pid in inner if _cwd(pid) == str(box.folder)]):
            break
        time.sleep(0.1)
    assert not alive


def test_too_many_processes_are_seen_from_outside(box):
    box.limits = replace(box.limits, processes=8)
    with pytest.raises(Stopped, match="too many processes"):
        box.cell(
            "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        time.sleep(1000)\ntime.sleep(1000)"
        )


@pytest.mark.parametrize("child", ["time.sleep(1000)", "os._exit(0)"])
def test_forks_that_are_left_take_no_room_from_the_next(box, child):
    denied(box, "other processes")
    if os.getuid() == 0:
        denied(box, "the rights of the administrator")
    forks = "import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        "
    assert "BlockingIOError" in box.cell(forks + child)
    said = box.cell(
        "import threading\nmany = [threading.Thread(target=time.sleep, args=(0.1,)) for _ in range(4)]\n"
        "for one in many: one.start()"
    )
    assert said == ""


def _cwd(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


@pytest.mark.parametrize("source", ["import os; os._exit(0)", "import ctypes; ctypes.string_at(0)"])
def test_a_process_that_ends_itself(box, source):
    with pytest.raises(Stopped):
        box.cell(source)
        box.cell("1 + 1")


def test_sys_exit_is_only_an_error(box):
    assert "SystemExit" in box.cell("import sys; sys.exit(0)")
    assert box.cell("x = 1") == ""


def test_patching_the_checker_changes_nothing(box):
    box.cell(
        "import s4kit.classroom.judge as judge, s4kit.classroom.check as check, torch\n"
        "judge.verdict = lambda *a: judge.Verdict()\ncheck.check = lambda *a, **k: True\n"
        "torch.allclose = torch.equal = lambda *a, **k: True\n"
        "def confidence(teacher_logits, tau): return torch.tensor(0.5)"
    )
    assert not marks(box).passed


def test_a_forged_message_is_no_answer(box):
    box.cell(
        "import gc\nfrom multiprocessing.connection import Connection\n"
        "def confidence(teacher_logits, tau):\n"
        "    for one in gc.get_objects():\n"
        "        if isinstance(one, Connection): one.send_bytes(b'full points')\n"
        "    raise SystemExit"
    )
    with pytest.raises(Stopped, match="no answer"):
        marks(box)


def test_borrowed_answers_are_noticed(box):
    box.cell("from s4kit.classroom import find\nconfidence = find('cutmix.confidence').reference")
    assert marks(box).calls
