"""Telling others of a study's events: a command or a webhook, in the background, never in the way of a trial."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

from study.spec import Notify
from trainer.errors import root_line

_SECONDS = 30.0


class Notifier:
    """Sends events of the study in `directory` as `settings` say; one that cannot be sent is a line in driver.log."""

    def __init__(self, settings: Notify | None, name: str, directory: Path) -> None:
        self.settings, self._study = settings, {"study": name, "directory": str(directory)}
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="notify")

    def tell(self, event: str, text: str, **numbers: Any) -> None:
        """Send `event` (best, lost, failed or finished) unless it is not asked for. Returns at once."""
        if self.settings is not None and event in self.settings.on:
            message = {"event": event, "text": text, **self._study, **numbers}
            self._pool.submit(self._send, self.settings, json.dumps(message))

    def close(self) -> None:
        """Wait for what is being sent."""
        self._pool.shutdown(wait=True)

    @staticmethod
    def _send(settings: Notify, message: str) -> None:
        try:
            if settings.command is not None:
                subprocess.run(settings.command, input=f"{message}\n", text=True, timeout=_SECONDS, check=True)
            if settings.webhook is not None:
                url = os.path.expandvars(settings.webhook)
                request = urllib.request.Request(url, message.encode(), {"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=_SECONDS).close()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"notify: not sent ({root_line(error)}): {message}", flush=True)
        except (ValueError, HTTPException):  # whose text holds the URL, and with it the secret
            print(f"notify: not sent (the webhook is not a URL; is its variable set?): {message}", flush=True)
