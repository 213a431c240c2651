"""Start the dashboard as a process of its own: `python -m dashboards.serve [PLACE ...] [--host] [--port]`.

This checks places and address, makes the token and stays the parent: `server` is what it starts, `app` what one sees.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from dashboards import optuna_study
from dashboards.catalogue import checked
from trainer.errors import UserError

TOKEN, SHORTEST = "FIPO_DASHBOARD_TOKEN", 20
EVERYWHERE = ("0.0.0.0", "::")
"""What is listened on where any name of this machine leads."""
OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "runner.magicEnabled": "false",  # or a bare string in a page would be written onto it
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "global.disableWidgetStateDuplicationWarning": "true",  # see widgets.anew
    "client.showErrorDetails": "none",
    "client.showSidebarNavigation": "true",
    "logger.level": "error",
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#56B4E9",
}


def serve(places: Sequence[str] = (), *, host: str = "127.0.0.1", port: int = 8501, open_browser: bool = False) -> int:
    """Serve the studies at `places` (see `catalogue.entries`) until interrupted; returns the exit code.

    Anything but a loopback `host` is served only to who brings the token that is printed in the address: a random one,
    or FIPO_DASHBOARD_TOKEN of the environment, so that an address lasts beyond a restart. That one is demanded on
    loopback too, where every account of the machine can connect.

    Raises:
        UserError: a place has no study, the address cannot be listened on, or the given token is short.
    """
    places = checked(places)
    _check_address(host, port)
    token = "" if is_loopback(host) and TOKEN not in os.environ else _token()
    shown = socket.gethostname() if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    # -P: a click.py in the directory where the user stands must not be taken for the library.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(Path(__file__).with_name("server.py"))]
    command += [f"--{name}={value}" for name, value in OPTIONS.items()]
    command += [f"--server.address={host}", f"--server.port={port}", "--", *places]
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, TOKEN: token, "PYTHONPATH": os.pathsep.join(paths)}
    signal.signal(signal.SIGTERM, _interrupt)  # the server must not outlive this process
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        if _wait_until_answering(process, host, port):
            print(f"Dashboard of {optuna_study.listed(places)}: {address}\nCtrl-C stops it.", flush=True)
            if open_browser:
                webbrowser.open(address)
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        process.wait()


def _token() -> str:
    given = os.environ.get(TOKEN)
    if given is None:
        return secrets.token_urlsafe(24)
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{{SHORTEST},}}", given):
        raise UserError(
            f"{TOKEN}: allowed are {SHORTEST} or more letters, digits, - and _; make one with: openssl rand -hex 24"
        )
    return given


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_address(host: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); choose another --port") from None


def _wait_until_answering(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """It listens a while before it answers; a browser that came then would wait without a word."""
    while process.poll() is None:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request("GET", "/_stcore/health")
            connection.getresponse()
            return True
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    return False


def main() -> int:
    """Command line of `python -m dashboards.serve`."""
    purpose = "Start the dashboard as a process of its own."
    parser = argparse.ArgumentParser(prog="python -m dashboards.serve", description=purpose,
                                     epilog="example: python -m dashboards.serve studies/tiny --port 8502")  # fmt: skip
    places = "study directory, directory of studies, or URL of an Optuna storage; several of them; default: ./studies"
    parser.add_argument("places", nargs="*", metavar="PLACE", help=places)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; others than loopback get a token (%(default)s)"
    )
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (%(default)s)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    arguments = parser.parse_intermixed_args()
    try:
        return serve(arguments.places, host=arguments.host, port=arguments.port, open_browser=arguments.open)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
