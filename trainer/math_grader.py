"""math-verify behind a hard wall: it runs in a worker process that is killed when an expression takes too long.

math-verify's own time limit uses SIGALRM, which works only on the main thread and cannot interrupt C code; without one
`9^{9^{9^9}}` hangs. The worker also has a memory limit, so that a hostile expression cannot take the machine down.
Run as `python -m trainer.math_grader`: one JSON pair per line in, one JSON bool per line out.
"""

from __future__ import annotations

import atexit
import json
import resource
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

TIME_LIMIT = 5.0
"""Seconds for one expression, after the worker is up."""
START_LIMIT = 60.0
"""Seconds for a worker to import math-verify."""
MEMORY_LIMIT = 4 * 2**30
"""Bytes of address space of a worker."""


class MathWorker:
    """One worker process; started on first use and again after it had to be killed. Safe to share between threads."""

    def __init__(self, *, time_limit: float = TIME_LIMIT) -> None:
        self.time_limit = time_limit
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        atexit.register(self.close)

    def equivalent(self, prediction: str, answer: str) -> bool:
        """Does math-verify call the two equal? Too slow, too large or unreadable is False."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "trainer.math_grader"],
                    cwd=Path(__file__).parents[1],  # from where `-m` imports, whatever lies in the one of the user
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                if self._read_line(START_LIMIT) != b"ready\n":
                    self.close()
                    raise RuntimeError("the math-verify worker did not start; is math-verify installed?")
            requests, _ = self._pipes()
            try:
                requests.write(json.dumps([prediction, answer]).encode() + b"\n")
                requests.flush()
            except BrokenPipeError:
                self.close()
                return False
            line = self._read_line(self.time_limit)
            if line is None:
                self.close()
            return line == b"true\n"

    def _read_line(self, seconds: float) -> bytes | None:
        """A line of the worker, None when it is late or dead. The worker writes whole lines at once."""
        _, replies = self._pipes()
        ready, _, _ = select.select([replies], [], [], seconds)
        return (replies.readline() or None) if ready else None

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Standard input and output of the worker."""
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def close(self) -> None:
        """Kill the worker, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in self._pipes():
                pipe.close()
            self.process = None


_worker = MathWorker()


def equivalent(prediction: str, answer: str) -> bool:
    """`MathWorker.equivalent` with this process's own worker."""
    return _worker.equivalent(prediction, answer)


def _serve() -> None:
    from math_verify import parse, verify  # only here: it brings sympy

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            sides = [parse(f"${side}$", parsing_timeout=None) for side in json.loads(line)]
            same = verify(sides[1], sides[0], timeout_seconds=None)
        except Exception:  # whatever an expression does to the parser, it is not a right answer
            same = False
        print(json.dumps(bool(same)), flush=True)


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    _serve()
