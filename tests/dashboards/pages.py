"""A page of the dashboard in Streamlit's own test runner."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from dashboards import frames
from dashboards.source import Study
from study.results import StudyResults


def page(results: StudyResults, view: str, **query: str | list[str]) -> AppTest:
    """One view of the study alone: AppTest opens no page of st.navigation but the first."""

    def script(view: str, study: object) -> None:
        import importlib

        importlib.import_module(f"dashboards.views.{view}").render(study)

    study = Study(results, frames.trials(results), frames.evaluations(results))
    app = AppTest.from_function(script, default_timeout=300, args=(view, study))
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception[0].value
    return app


def drawn(coordinates: Any) -> list[float]:
    """Of a trace in a chart's JSON, in which an array is base 64."""
    if isinstance(coordinates, dict):
        return np.frombuffer(base64.b64decode(coordinates["bdata"]), coordinates["dtype"]).tolist()
    return list(coordinates)
