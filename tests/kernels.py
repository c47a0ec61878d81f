"""Kernels for the tests, forked off a process that has imported what the pages need: none imports it anew."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

NEEDED = (
    "ipykernel.kernelapp", "ipykernel.zmqshell", "IPython.core.completer", "ipywidgets", "matplotlib_inline",
    "matplotlib.pyplot", "seaborn", "torchvision", "torch._dynamo", "torch.fx.experimental.symbolic_shapes",
    "s4kit.methods", "s4kit.walk.lesson", "s4kit.explore.explorer", "s4kit.report.plots", "s4kit.report.doctor",
)  # fmt: skip
INLINE = "module://matplotlib_inline.backend_inline"  # where a kernel would have pictures drawn, before the import
LONGEST = 1 << 17  # bytes of a message: an environment, mostly


class Nursery:
    """The process with the imports, and the way to ask it; it and its kernels end with this one, however that ends."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Kernels that are started within are forks; where the system has none (all but Linux) they start as ever."""
        if sys.platform != "linux":
            yield
            return
        from jupyter_client.provisioning import local_provisioner

        if self.process is None:
            self._start()
        with mock.patch.object(local_provisioner, "launch_kernel", self.launch):
            yield

    def _start(self) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", __file__, str(theirs.fileno())]
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        env = os.environ | {"PYTHONPATH": path, "MPLBACKEND": INLINE}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=env, start_new_session=True
        )
        theirs.close()

    def ask(self, message: dict[str, Any], files: tuple[int, ...] = ()) -> Any:
        socket.send_fds(self.ours, [json.dumps(message).encode()], files)
        answer = self.ours.recv(LONGEST)
        if not answer:
            raise RuntimeError("the process from which kernels are forked has ended")
        return json.loads(answer)

    def launch(
        self,
        cmd: list[str],
        *,
        env: dict[str, str],
        cwd: str | None = None,
        stdout: Any = sys.__stdout__,
        stderr: Any = sys.__stderr__,
        **_: Any,
    ) -> Kernel:
        """In the place of `jupyter_client.launcher.launch_kernel`; `cmd`: python -m ipykernel_launcher ARGUMENTS."""
        message = {"arguments": cmd[cmd.index("ipykernel_launcher") + 1 :], "env": env, "cwd": cwd or os.getcwd()}
        return Kernel(self, self.ask(message, (stdout.fileno(), stderr.fileno())))

    def close(self) -> None:
        if self.process is not None:
            self.ours.close()
            self.process.wait(60)


class Kernel:
    """What is asked of a `subprocess.Popen` of a kernel."""

    stdin = stdout = stderr = None

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.nursery, self.pid, self.returncode = nursery, pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ask({"poll": self.pid})
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


# ---- in the process with the imports ----


def serve(channel: socket.socket) -> None:
    """Fork kernels and look after them until nobody asks any more."""
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # a kernel ends when this process has
    for name in NEEDED:
        import_module(name)
    living: set[int] = set()
    while True:
        message, files, _, _ = socket.recv_fds(channel, LONGEST, 2)
        if not message:
            break
        asked = json.loads(message)
        if "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            living.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                channel.close()
                kernel(files=files, **asked)
            os.setpgid(answer, answer)  # here as well: whoever is told of it may signal its group
            living.add(answer)
            for file in files:
                os.close(file)
        channel.send(json.dumps(answer).encode())
    for pid in living:
        os.killpg(pid, signal.SIGKILL)


def kernel(arguments: list[str], env: dict[str, str], cwd: str, files: list[int]) -> None:
    """This fork is a kernel from now on."""
    from ipykernel.kernelapp import launch_new_instance

    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(cwd)
        for file, number in zip(files, (1, 2)):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(env | {"JPY_PARENT_PID": str(os.getppid())})
        launch_new_instance(arguments)
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
