"""Take rights away from this process, as far as the system can: memory, time, files, processes, network.

Each step is tried alone; what could not be done is reported, never assumed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
DIES_WITH_PARENT, NO_NEW_RIGHTS = 1, 38  # of prctl


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        seconds: for all cells of a notebook together. call: for one call of an answer.
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
    if _separate():
        done.append("network")
    if _own_processes():
        done.append("other processes")
    _resources(limits)
    done.append("memory, time and file size beyond the limits")
    if os.name == "posix" and os.getuid() == 0 and _become_nobody(folder):
        done.append("the rights of the administrator")
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


def _become_nobody(folder: Path) -> bool:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    packages = Path(__file__).parents[2]
    child = os.fork()  # can nobody read the packages? asked in a process that is thrown away
    if child == 0:
        with contextlib.suppress(OSError):
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(0 if os.access(packages, os.R_OK | os.X_OK) and os.access(sys.prefix, os.R_OK | os.X_OK) else 1)
        os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        return False
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return True


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
    """Threads that the user runs now; the limit counts them all. A new user (`nobody`) has none."""
    if os.getuid() == 0:
        return 0
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


def _allowed(folder: Path) -> Iterator[tuple[Path, int]]:
    system = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/sys", "/proc/cpuinfo", "/proc/meminfo", "/proc/self")
    packages = {
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).parents[1]),
        *(p for p in sys.path if "site-packages" in p),
    }
    for name in (*system, *packages):
        yield Path(name), READ
    for name in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/shm"):
        yield Path(name), READ_FILE | WRITE_FILE if name != "/dev/shm" else READ
    yield folder, FIRST_VERSION
