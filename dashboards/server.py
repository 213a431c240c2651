"""The ASGI application that `streamlit run` serves: the app, behind a token where `serve` demands one.

It is loaded once, in the process that `serve` starts, and reads the first study; `app` runs anew for every view.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import pandas  # noqa: F401  Streamlit would import it with the first table, while someone waits
import streamlit as st
from starlette.middleware import Middleware

from dashboards import source
from dashboards.catalogue import entries
from dashboards.gate import TokenGate
from dashboards.serve import TOKEN
from dashboards.states import failed
from dashboards.views import compare, length_accuracy, overview, parameters, pruning, ranking, training  # noqa: F401
from trainer.errors import UserError

token = os.environ.get(TOKEN, "")

READ_FIRST = 5.0
"""Seconds for which the reading of a study, and what its charts are coloured by, go before answering: at once, each
would take longer in one process."""

with contextlib.suppress(UserError):
    for entry in entries(sys.argv[1:])[:1]:  # the study that opens first
        first = threading.Thread(target=ranking.warm, args=(source.reader(entry),), name="reading first", daemon=True)
        first.start()
        first.join(READ_FIRST)

app = st.App(
    Path(__file__).with_name("app.py"),
    middleware=[Middleware(TokenGate, token=token)] if token else [],
    on_script_error=failed,
)
