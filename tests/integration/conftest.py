from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dashboards.synthetic import write_study
from trainer.base_model import ensure_base_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.integration.browsing import Served


@pytest.fixture(scope="session")
def base() -> str:
    """The embedded base model, named by its directory and made before any test's own time begins."""
    return str(ensure_base_model())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    from tests.integration.browsing import ARGUMENTS, CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Callable[..., Served]:
    from tests.integration.browsing import Served

    def start(directory: Path, *options: str) -> Served:
        served = Served(directory, *options)
        request.addfinalizer(served.stop)
        return served

    return start


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard of a finished study."""
    from tests.integration.browsing import Served

    served = Served(write_study(tmp_path_factory.mktemp("studies") / "finished"))
    yield served
    served.stop()
