"""The asset graph in a real browser: a stranger finds the five questions there.

`make screenshots` runs the same with SCREENSHOT_PATH set and keeps the picture.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from governance_pipeline.materialize import materialize_all
from governance_pipeline.questions import QUESTIONS
from tests.end_to_end.dagster_services import dagster_dev
from tests.governance_pipeline.refresh_logs import settings_in, write_ordinary_logs

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
GROUPS = ("raw", "staging", "marts", "questions", "published")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")
def test_the_five_questions_stand_in_the_asset_graph(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    settings = settings_in(tmp_path / "home")
    write_ordinary_logs(settings)
    assert materialize_all(settings, say=lambda sentence: None).succeeded
    with dagster_dev(settings, tmp_path / "dagster.log") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 2000, "height": 1640})
            expanded = ",".join(f"global@global:{group}" for group in GROUPS)
            page.goto(f"{address}/asset-groups?expanded={expanded}", wait_until="domcontentloaded")
            for name in [*QUESTIONS, "raw_telemetry", "fct_requests", "published_answers"]:
                expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=60_000)
            expect(page.get_by_text("2 / 2 Passed").first).to_be_visible(
                timeout=60_000
            )  # the checks of fct_requests
            page.wait_for_timeout(2_000)  # the graph is laid out by a worker and drawn as it settles
            page.screenshot(path=os.environ.get("SCREENSHOT_PATH") or str(tmp_path / "graph.png"))
        finally:
            browser.close()
