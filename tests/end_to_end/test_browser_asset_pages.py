"""The pages that a person meets in Dagster's UI, in a real browser: an answer with its chart, a check that
failed, the tick that told the alert.

`make screenshots` runs the same with SCREENSHOT_FOLDER set and keeps the pictures.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from governance_pipeline import warehouse
from governance_pipeline.alerts import read_alerts
from governance_pipeline.demo.run import run_demo
from governance_pipeline.demo.trace import every_nth, load_trace
from governance_pipeline.materialize import materialize_all
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.settings import Settings
from tests.end_to_end.browser import CHROMIUM, FLAGS, keep, needs_chromium
from tests.end_to_end.dagster_services import dagster_dev, wait_until
from tests.end_to_end.test_demo import TOLD

QUESTION = "cost_by_tenant_and_feature"


def falsify_a_bill(settings: Settings) -> None:
    """Change a cost in the warehouse by hand: it no longer says what the logs say."""
    with warehouse.connect(settings.warehouse_path, wait_seconds=60) as con:
        con.execute(
            "UPDATE staging.stg_requests SET cost_usd = cost_usd + 1 "
            "WHERE request_id = (SELECT min(request_id) FROM staging.stg_requests WHERE cost_usd > 0)"
        )


@pytest.mark.browser
@pytest.mark.timeout(240)
@needs_chromium
def test_an_answer_with_its_chart_a_failed_check_and_the_alerts_tick_are_seen(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    quiet = Console(file=io.StringIO())
    rows = every_nth(load_trace(), 9)
    demo = run_demo(tmp_path / "home", story=TOLD, rows=rows, console=quiet, progress_console=quiet)
    settings = Settings.in_home(tmp_path / "home")
    in_demo = replace(settings, policy_path=demo.files.policy, economics_path=demo.files.economics)
    settings.alerts_path.unlink()  # so that the daemon is the one to tell
    with (
        pytest.MonkeyPatch.context() as environment,
        sync_playwright() as playwright,
    ):
        environment.setenv("POLICY_PATH", str(demo.files.policy))
        environment.setenv("ECONOMICS_PATH", str(demo.files.economics))
        with dagster_dev(settings, tmp_path / "dagster.log") as address:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            try:
                page = browser.new_page(viewport={"width": 1500, "height": 1000})
                wait_until(lambda: bool(read_alerts(settings.alerts_path)), 60, lambda: "no alert was told")

                page.goto(f"{address}/assets/{QUESTION}?view=overview", wait_until="domcontentloaded")
                chart = page.get_by_alt_text(QUESTIONS[QUESTION].words)
                row = page.locator("tr").filter(has=page.get_by_text("chart", exact=True))
                row.get_by_text("Show Markdown").click(timeout=60_000)
                expect(chart.first).to_be_visible(timeout=20_000)
                assert chart.first.evaluate("image => image.naturalWidth") == 900
                keep(page, "answer-and-chart", tmp_path)

                page.goto(
                    f"{address}/locations/governance/sensors/cost_anomaly", wait_until="domcontentloaded"
                )
                # Later ticks have nothing new to tell; the first is the last of the list.
                ticks = page.get_by_role("row").filter(has_text="runs requested").filter(has_text="View logs")
                ticks.last.get_by_text("0 runs requested").first.hover(timeout=60_000)
                expect(page.get_by_text("1 alert written").first).to_be_visible(timeout=20_000)
                keep(page, "alert-tick", tmp_path)

                falsify_a_bill(settings)
                outcome = materialize_all(in_demo, say=lambda sentence: None)
                assert not outcome.succeeded
                [failed] = [check for check in outcome.failed_checks if check in outcome.failure]
                page.goto(f"{address}/assets/fct_requests?view=checks", wait_until="domcontentloaded")
                expect(page.get_by_text(failed).first).to_be_visible(timeout=30_000)
                page.get_by_text(failed, exact=True).first.click()
                expect(page.get_by_text("blocking", exact=True).first).to_be_visible(timeout=20_000)
                keep(page, "failed-check", tmp_path)
            finally:
                browser.close()
