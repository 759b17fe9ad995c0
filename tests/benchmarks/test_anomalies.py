"""Episodes on simulated seasonal traffic: the bounded version of `make bench ONLY=anomalies`."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.anomalies import LEARNING_WEEKS, WEEK_US, Traffic, judge, openings_in, seasonal_traffic


def bounded() -> Traffic:
    return seasonal_traffic(seed=3, features=1, weeks=5, per_hour=1200, plants=12)


def test_the_planted_episodes_are_found_and_nothing_else() -> None:
    traffic = bounded()
    openings = openings_in(traffic)
    found = judge(traffic, openings)
    assert (found.planted, found.found, found.raised, found.wrong) == (12, 12, 12, 0), openings


def test_the_judge_sees_what_is_missed_and_what_is_wrong() -> None:
    traffic = bounded()
    first, *others = traffic.planted
    right = [(span.feature_id, span.begin_us + 60_000_000) for span in others]
    elsewhere = [(first.feature_id, first.begin_us - 3_600_000_000), right[0]]
    found = judge(traffic, right + elsewhere)
    assert (found.found, found.raised, found.wrong) == (11, 13, 2)
    assert found.recall == 11 / 12
    assert found.precision == 11 / 13
    assert judge(replace(traffic, planted=[first]), []).precision == 1


def test_what_is_raised_while_the_seasons_are_learnt_is_not_counted() -> None:
    traffic = bounded()
    early = int(traffic.timestamps_us.min()) + LEARNING_WEEKS * WEEK_US - 1
    assert judge(traffic, [("feature-0", early)]).raised == 0
