"""The ASGI application that `streamlit run` serves: the app, behind a token where `serve` demands one."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboards.gate import TokenGate
from dashboards.states import failed

TOKEN = os.environ.get("FIPO_DASHBOARD_TOKEN", "")

app = st.App(
    Path(__file__).with_name("app.py"),
    middleware=[Middleware(TokenGate, token=TOKEN)] if TOKEN else [],
    on_script_error=failed,
)
