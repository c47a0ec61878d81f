"""Take rights away from this process, as far as the system can: memory, time, files, processes, network.

Each step is tried alone; what could not be done is reported, never assumed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

STRANGERS = range(60000, 65000)  # user numbers that no system gives away by itself
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
DIES_WITH_PARENT, KEEP_CAPABILITIES, NO_NEW_RIGHTS = 1, 8, 38  # of prctl


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        seconds: for all cells of a notebook together. call: for one call of an answer. Waiting for a busy machine
            does not count.
        memory: bytes beyond what the kit itself needs. file: bytes of the largest file it may write.
        processes: threads included.
    """

    seconds: float = 60.0
    call: float = 10.0
    memory: int = 2 << 30
    file: int = 32 << 20
    processes: int = 64


def confine(folder: Path, limits: Limits) -> list[str]:
    """Confine this process to `folder` and `limits`; returns what is denied, in words. There is no way back."""
    done = []
    user = STRANGERS[os.getpid() % len(STRANGERS)]
    if _separate():
        done.append("network")
    if _own_processes():
        done.append("other processes")
    if sys.platform == "linux" and os.getuid() == 0 and _become(user, folder):
        done.append("the rights of the administrator")
    _resources(limits)
    done.append("memory, time and file size beyond the limits")
    if _only_files_of(folder):
        done.append("files outside its folder")
    return done


# ---- processes and network ----


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _separate() -> bool:
    """A network of its own, without any device."""
    libc = _libc()
    if libc is None:
        return False
    user, group = os.getuid(), os.getgid()
    if user == 0:
        return libc.unshare(NEW_NETWORK | NEW_PROCESSES) == 0
    if libc.unshare(NEW_USER | NEW_NETWORK | NEW_PROCESSES) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _own_processes() -> bool:
    """Go on as the first process of a new process space: whatever it starts dies with it."""
    libc = _libc()
    if libc is None:
        return False
    child = os.fork()
    if child:  # the outer one only waits; killed, it takes the inner one along
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    libc.prctl(DIES_WITH_PARENT, 9, 0, 0, 0)
    return os.getpid() == 1


def _become(user: int, folder: Path) -> bool:
    """Go on as a user that owns nothing but the folder. Only such a user's processes can be counted and limited.

    Where it could not read the packages, because they lie in the administrator's home, it keeps the right to read all
    files; Landlock then decides which.
    """
    sight = _sight(user, [place for place in _packages() if os.path.exists(place)])
    if sight == "none":
        return False
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)
    if sight == "some":
        _libc().prctl(KEEP_CAPABILITIES, 1, 0, 0, 0)
    _change_user(user)
    if sight == "some":
        _keep_only(READ_ALL_FILES)
    return True


def _change_user(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _sight(user: int, places: Iterable[str]) -> str:
    """What a user can read, asked in a process that is thrown away: "all" of the places, "some", or "none", because
    this process may not become another user.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            _change_user(user)
            os._exit(0 if all(os.access(place, os.R_OK | os.X_OK) for place in places) else 1)
        os._exit(2)
    return {0: "all", 1: "some"}.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "none")


READ_ALL_FILES = 2  # a Linux capability, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("process", ctypes.c_int)]


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def _keep_only(capability: int) -> None:
    kept = (_Capabilities * 2)(_Capabilities(1 << capability, 1 << capability, 0))
    if _libc().capset(ctypes.byref(_Header(0x20080522, 0)), kept) != 0:
        raise OSError("the administrator's capabilities could not be given up")


# ---- resources ----


def _resources(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds = int(limits.seconds * 2 + 60)
    wanted = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": limits.file,
        "RLIMIT_NOFILE": 128,
        "RLIMIT_CORE": 0,
        "RLIMIT_AS": _virtual_memory() + limits.memory if _virtual_memory() else None,
        "RLIMIT_NPROC": _tasks_of_user() + limits.processes if sys.platform == "linux" else None,
    }
    for name, value in wanted.items():
        if value is not None and hasattr(resource, name):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (value, value))


def _virtual_memory() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _tasks_of_user() -> int:
    """Threads that the user runs now; the limit counts them all."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid():
                total += len(os.listdir(entry / "task"))
    return total


# ---- files: Landlock (Linux 5.13 and later), which any user may use on himself ----

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
READ = EXECUTE | READ_FILE | READ_DIR
FIRST_VERSION = (1 << 13) - 1  # all rights that its first version knows: read, write, make, remove


class _Ruleset(ctypes.Structure):
    _fields_ = [("handled", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def _only_files_of(folder: Path) -> bool:
    """Read the system, the packages and the folder; write the folder; nothing else exists."""
    libc = _libc()
    if libc is None:
        return False
    handled = _Ruleset(FIRST_VERSION)
    rules = libc.syscall(444, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if rules < 0:
        return False
    for path, rights in _allowed(folder):
        with contextlib.suppress(OSError):
            at = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = _Beneath(rights if path.is_dir() else rights & (WRITE_FILE | READ_FILE | EXECUTE), at)
            libc.syscall(445, rules, 1, ctypes.byref(rule), 0)
            os.close(at)
    libc.prctl(NO_NEW_RIGHTS, 1, 0, 0, 0)
    done = libc.syscall(446, rules, 0) == 0
    os.close(rules)
    return done


def _packages() -> set[str]:
    """Where Python and all that it can import lie."""
    return {sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), *(p for p in sys.path if "site-packages" in p)}


def _allowed(folder: Path) -> Iterator[tuple[Path, int]]:
    system = ("/usr", "/lib", "/lib64", "/bin", "/sys", "/proc/cpuinfo", "/proc/meminfo", "/proc/self")
    settings = "ld.so.cache localtime timezone passwd group nsswitch.conf mime.types os-release fonts ssl"
    for name in (*system, *(f"/etc/{one}" for one in settings.split()), *_packages()):
        yield Path(name), READ
    for name in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/shm"):
        yield Path(name), READ_FILE | WRITE_FILE if name != "/dev/shm" else READ
    yield folder, FIRST_VERSION
