"""The asset graph in a real browser: a stranger finds the five questions there.

`make screenshots` runs the same with SCREENSHOT_FOLDER set and keeps the picture.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from governance_pipeline.definitions import build_defs
from governance_pipeline.materialize import materialize_all
from governance_pipeline.questions import QUESTIONS
from tests.end_to_end.browser import CHROMIUM, FLAGS, keep, needs_chromium
from tests.end_to_end.dagster_services import dagster_dev
from tests.governance_pipeline.refresh_logs import settings_in, write_ordinary_logs


@pytest.mark.browser
@pytest.mark.timeout(180)
@needs_chromium
def test_the_five_questions_stand_in_the_asset_graph(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    settings = settings_in(tmp_path / "home")
    write_ordinary_logs(settings)
    assert materialize_all(settings, say=lambda sentence: None).succeeded
    with dagster_dev(settings, tmp_path / "dagster.log") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 2400, "height": 2100})
            groups = {spec.group_name for spec in build_defs(settings).resolve_all_asset_specs()}
            expanded = ",".join(f"global@global:{group}" for group in sorted(filter(None, groups)))
            page.goto(f"{address}/asset-groups?expanded={expanded}", wait_until="domcontentloaded")
            for name in [
                *QUESTIONS,
                "raw_telemetry",
                "fct_requests",
                "published_answers",
                "archived_segments",
                "alerts",
            ]:
                expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=60_000)
            expect(page.get_by_text("2 / 2 Passed").first).to_be_visible(
                timeout=60_000
            )  # the checks of fct_requests
            expect(page.get_by_text(re.compile("^Loading"))).to_have_count(0, timeout=60_000)
            keep(page, "asset-graph", tmp_path, colours=32)  # laid out by a worker, drawn as it settles
        finally:
            browser.close()
