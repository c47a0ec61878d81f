"""The shell command `s4kit`, thin: flags in, one function of the kit, a table or one JSON object out.

With `--json` everything meant for people goes to stderr and the last line of stdout is one JSON value. The exit status
is 0, 1 when the answer is "no" (a broken file, a missing package) or something unforeseen failed, 2 for a mistake in
what was asked, 75 after SIGTERM or SIGUSR1 (the same command, or `train --resume`, goes on), 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from .errors import S4Error, S4Warning
from .flags import parser
from .preemption import STATUS, Preempted, preemptible
from .report.text import finite


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's chatter about missing GPUs
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # and about memory from before its time
    as_json = "--json" in argv
    status, answer = _answer(argv, as_json)
    if as_json and answer is not None and _leads():
        print(json.dumps(finite(answer), default=str), flush=True)
    if "torch.distributed" in sys.modules:
        from .engine import distributed

        distributed.leave(status)
    return status


def _leads() -> bool:
    """Whether this process is the one that speaks: the first of those that torchrun has started, or the only one."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1 or os.environ.get("RANK", "0") == "0"


def _which() -> str:
    """Which process speaks, where it is not the first of several."""
    return "" if _leads() else f" (process {os.environ.get('RANK')})"


def _answer(argv: list[str], as_json: bool) -> tuple[int, Any]:
    try:
        arguments = parser().parse_args(argv)
        if "call" not in arguments:
            parser().print_help(sys.stderr)
            raise S4Error("Say what to do: one of the commands above.")
        with open(os.devnull, "w") as nowhere:
            told = nowhere if not _leads() else sys.stderr if as_json else sys.stdout
            with redirect_stdout(told), _plain_warnings(), preemptible():
                answer = arguments.call(arguments)
    except S4Error as error:
        print(f"s4kit{_which()}: {error}", file=sys.stderr)
        return 2, {"error": str(error)}
    except KeyboardInterrupt:
        print("s4kit: interrupted", file=sys.stderr)
        return 130, {"error": "interrupted", "interrupted": True}
    except BrokenPipeError:  # `s4kit ... | head`: who reads has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter closes it)
        return 0, None
    except Preempted as told:
        return STATUS, {"error": told.words, "interrupted": True}
    except SystemExit as leave:  # --help, --version
        return int(leave.code or 0), None
    except Exception as error:
        return 1, _unforeseen(error)
    if isinstance(answer, dict):
        return 130 if answer.get("interrupted") else 1 if answer.get("ok") is False else 0, answer
    return 0, answer


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """The kit's warnings as one line each, from the process that speaks; others as ever."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, S4Warning):
                shown(message, category, *rest, **more)
            elif _leads():
                print(f"s4kit: warning: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _unforeseen(error: Exception) -> dict[str, str]:
    """A mistake of the kit, or the GPU's memory: the latter has a mend."""
    if type(error).__name__ == "OutOfMemoryError":
        mend = "Use a smaller --batch with --accumulate, a smaller --crop, or --precision bf16 / fp16."
        print(f"s4kit{_which()}: the GPU's memory is too small for this training. {mend}", file=sys.stderr)
        return {"error": f"out of GPU memory. {mend}"}
    if "torch.distributed" in sys.modules:
        from .engine import distributed

        if distributed.lost(error):
            words = "another process of this training is gone; what it said before tells why"
            print(f"s4kit{_which()}: {words}.", file=sys.stderr)
            return {"error": words}
    traceback.print_exc()
    return {"error": f"{type(error).__name__}: {error}"}
