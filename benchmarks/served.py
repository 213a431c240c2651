"""A server process under measurement: when it answers first, and the peak of its memory."""

from __future__ import annotations

import atexit
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import psutil


class Server:
    """A process that serves a page, and the peak of its memory."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port, self.began, self.peak = port, time.perf_counter(), 0.0
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.process.terminate)  # also when a page is not drawn in time
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()
        while not _answers(port):
            if self.process.poll() is not None:
                raise SystemExit(f"{' '.join(command)}: ended with code {self.process.returncode}")
            time.sleep(0.05)
        self.started = time.perf_counter() - self.began

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def _watch(self) -> None:
        while self.process.poll() is None:
            try:
                own = psutil.Process(self.process.pid)
                size = sum(each.memory_info().rss for each in [own, *own.children(recursive=True)])
                self.peak = max(self.peak, size / 1e6)
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.2)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60):
            return True
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port of this machine that no one listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
