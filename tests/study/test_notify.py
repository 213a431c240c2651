"""Events of a study sent to a real program and a real server."""

from __future__ import annotations

import json
import sys
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from study.assignment import Report
from study.notify import Notifier
from study.spec import Notify

GOOD = [0.2, 0.3, 0.4, 0.5, 0.6]
SAVE = [sys.executable, "-c", "import sys; open('events', 'a').write(sys.stdin.read())"]


@pytest.fixture
def server():
    """A server on loopback that keeps what is posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.posted = posted
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(bridge, values):
    number = bridge.ask().number
    for index, value in enumerate(values):
        if bridge.report(number, Report(5 * index, value)):
            break
    bridge.finish(number)


def test_a_program_is_told_of_each_new_best_and_each_failure_on_standard_input(make_bridge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bridge = make_bridge(notify={"command": SAVE}, pruner={"name": "none"})
    run(bridge, GOOD)
    run(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])  # as good is no better
    run(bridge, [0.2])
    run(bridge, [0.2, 0.3, 0.4, 0.5, 0.7])
    bridge.notifier.close()
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [(each["event"], each["trial"]) for each in events] == [("best", 0), ("failed", 2), ("best", 3)]
    assert events[0]["study"] == "unit" and events[0]["value"] == 0.6
    assert "optimizer.learning_rate" in events[0]["params"]
    assert "ended after step 0 of 20" in events[1]["text"]


def test_who_is_told_can_change_while_the_study_runs(make_bridge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bridge = make_bridge(pruner={"name": "none"})
    run(bridge, GOOD)
    bridge.change(bridge.spec.model_copy(update={"notify": Notify(command=tuple(SAVE))}))
    run(bridge, [0.2, 0.3, 0.4, 0.5, 0.7])
    bridge.notifier.close()
    assert [json.loads(line)["trial"] for line in (tmp_path / "events").read_text().splitlines()] == [1]


def test_a_seed_that_confirms_is_no_new_best(make_bridge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replicas = {"seeds": 2, "top": 1}
    bridge = make_bridge(notify={"command": SAVE}, pruner={"name": "none"}, trials=1, replicas=replicas)
    for end in (0.6, 0.7, 0.8):
        run(bridge, [0.2, 0.3, 0.4, 0.5, end])
    bridge.notifier.close()
    assert [json.loads(line)["trial"] for line in (tmp_path / "events").read_text().splitlines()] == [0]


def test_a_lost_process_is_told_with_its_time_in_the_log(make_bridge, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bridge = make_bridge(notify={"command": SAVE})
    bridge.report(bridge.ask().number, Report(5, 0.3))
    bridge.died(0)
    bridge.died(0)
    bridge.notifier.close()
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [each["text"] for each in events] == [f"trial 0 lost a process after step 5 ({n} so far)" for n in (1, 2)]
    assert all(each["event"] == "lost" for each in events)
    assert datetime.fromisoformat(capsys.readouterr().out.split(" trial 0")[0]).tzinfo is not None


def test_a_webhook_gets_the_json_and_its_secret_stays_in_the_environment(make_bridge, server, monkeypatch):
    monkeypatch.setenv("FIPO_TEST_HOOK", f"http://127.0.0.1:{server.server_port}/secret")
    bridge = make_bridge(notify={"webhook": "$FIPO_TEST_HOOK", "on": ["best"]})
    run(bridge, GOOD)
    run(bridge, [0.2])
    bridge.notifier.close()
    assert [each["event"] for each in server.posted] == ["best"]
    assert "secret" not in (bridge.directory / "study.yaml").read_text()


@pytest.mark.parametrize(
    "settings",
    [
        {"command": ("/nowhere/program",)},
        {"command": ("false",)},
        {"webhook": "http://127.0.0.1:9/$FIPO_TEST_HOOK"},
        {"webhook": "$FIPO_TEST_HOOK"},
        {"webhook": "http://127.0.0.1:9/$FIPO_TEST_HOOK with a space"},
        {"webhook": "http://[$FIPO_TEST_HOOK"},
    ],
)
def test_what_cannot_be_sent_is_a_line_in_the_log_without_its_secret_and_nothing_else(
    settings, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("FIPO_TEST_HOOK", "4711-secret")
    notifier = Notifier(Notify(**settings), "unit", tmp_path)
    notifier.tell("failed", "trial 1 failed")
    notifier.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("notify: not sent (") and "trial 1 failed" in line
    assert "4711-secret" not in line
