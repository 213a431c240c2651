"""The ASGI application that `streamlit run` serves: the app, behind a token where `serve` demands one."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboards import source
from dashboards.catalogue import entries
from dashboards.gate import TokenGate
from dashboards.states import failed
from dashboards.views import compare, length_accuracy, overview, parameters, pruning, training  # noqa: F401
from trainer.errors import UserError

TOKEN = os.environ.get("FIPO_DASHBOARD_TOKEN", "")

# The study that opens first is read while the server starts and the first browser opens.
with contextlib.suppress(UserError):
    for entry in entries(sys.argv[1:])[:1]:
        source.reader(entry).refresh()

app = st.App(
    Path(__file__).with_name("app.py"),
    middleware=[Middleware(TokenGate, token=TOKEN)] if TOKEN else [],
    on_script_error=failed,
)
