"""Burn rates over windows of time, against a recount from all calls, and when they mean something."""

from __future__ import annotations

import random

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing import DEFAULT_WINDOWS, QUICK_WINDOW, WORKBOOK_WINDOWS, BurnWindow
from llmscope.gateway.routing import burn_rate as burn_rate_module
from llmscope.gateway.routing.burn_rate import BurnMeter

HOUR, DAY = 3600.0, 86400.0


def meter(allowed_share: float = 0.01, windows: tuple[BurnWindow, ...] = DEFAULT_WINDOWS) -> BurnMeter:
    return BurnMeter(allowed_share, windows, minimum_sample=20)


def feed(
    burn: BurnMeter, *, calls: int, bad_every: int | None, since: float, per_second: float = 1.0
) -> float:
    """Feed evenly spread calls, every so many of them bad; the time of the next one."""
    for number in range(calls):
        burn.observe(
            bad_every is not None and number % bad_every == bad_every - 1, since + number / per_second
        )
    return since + calls / per_second


def test_the_pairs_are_the_workbooks() -> None:
    assert [(w.long_seconds, w.short_seconds, w.threshold) for w in WORKBOOK_WINDOWS] == [
        (HOUR, 300, 14.4), (6 * HOUR, 1800, 6.0), (3 * DAY, 6 * HOUR, 1.0)
    ]  # fmt: skip
    assert [str(window) for window in WORKBOOK_WINDOWS] == [
        "1 h/5 min above 14.4", "6 h/30 min above 6", "3 d/6 h above 1"
    ]  # fmt: skip
    assert QUICK_WINDOW.long_seconds / QUICK_WINDOW.short_seconds == 12


def test_rates_equal_a_recount_of_all_calls() -> None:
    burn, draw = meter(), random.Random(5)
    calls: list[tuple[float, bool]] = []
    now = 0.0
    for _ in range(4000):
        now += draw.expovariate(0.2)
        calls.append((now, draw.random() < 0.004))
        burn.observe(calls[-1][1], now)
    assert burn.burning is None  # otherwise it would have begun a clean sheet
    for window_seconds in (60.0, 300.0, 1800.0, HOUR, 6 * HOUR):
        # The window moves by a sixtieth of itself.
        part = window_seconds / 60
        within = [bad for at, bad in calls if at >= (now // part - 59) * part]
        expected = sum(within) / len(within) / 0.01 if within else 0.0
        assert burn.rate(window_seconds, now) == pytest.approx(expected)


def test_windows_are_of_time_at_any_rate_of_calls() -> None:
    """The forerunner's "1 h" was the last 100 attempts."""
    burn = meter()
    feed(burn, calls=20_000, bad_every=200, since=0.0, per_second=100)
    assert burn.rate(HOUR, 200.0) == burn.rate(300.0, 200.0) == pytest.approx(0.5)
    assert burn.rate(60.0, 320.0) == 0


def test_both_windows_must_burn() -> None:
    """An outage that is over burns in the long window only; a moment's trouble in the short one only."""
    pair = BurnWindow(HOUR, 300.0, 14.4)
    both = meter(windows=(pair,))
    now = feed(both, calls=3000, bad_every=None, since=0.0)
    feed(both, calls=700, bad_every=1, since=now)
    assert both.burning == pair
    brief = meter(windows=(pair,))
    now = feed(brief, calls=3300, bad_every=None, since=0.0)
    feed(brief, calls=100, bad_every=1, since=now)
    assert brief.rate(300.0, now + 99) > 14.4 > brief.rate(HOUR, now + 99)
    assert brief.burning is None
    over = BurnMeter(0.01, (pair,), minimum_sample=501)
    now = feed(over, calls=500, bad_every=2, since=0.0)
    now = feed(over, calls=600, bad_every=200, since=now + 300)
    assert over.rate(HOUR, now) > 14.4 > over.rate(300.0, now)
    assert over.burning is None


@pytest.mark.parametrize("good_before", [0, 25, 50, 99])
def test_one_error_is_no_burning_target(good_before: int) -> None:
    """The forerunner: 1 error in 51 calls is a burn rate of 1.96, and 1,000 calls went elsewhere."""
    burn = meter()
    feed(burn, calls=good_before, bad_every=None, since=0.0)
    burn.observe(True, 1000.0)
    assert burn.burning is None


def test_without_the_test_of_evidence_one_error_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the above."""
    monkeypatch.setattr(burn_rate_module.ShareTest, "is_above", lambda *_: True)
    burn = meter(windows=(BurnWindow(HOUR, 300.0, 1.0),))
    feed(burn, calls=50, bad_every=None, since=0.0)
    burn.observe(True, 50.0)
    assert burn.burning is not None


def test_a_total_outage_is_seen_in_seconds_where_the_workbooks_quickest_pair_takes_nine_minutes() -> None:
    """After two hours of health. 14.4 % of an hour are 8 min 38 s."""
    seconds = {}
    for name, windows in (("with the quick pair", DEFAULT_WINDOWS), ("1 h/5 min", WORKBOOK_WINDOWS[:1])):
        burn = meter(windows=windows)
        now = feed(burn, calls=14_400, bad_every=None, since=0.0, per_second=2)
        outage = 0
        while burn.burning is None:
            burn.observe(True, now + outage / 2)
            outage += 1
        seconds[name] = outage / 2
    print(f"seconds until a total outage is seen: {seconds}")
    assert seconds["with the quick pair"] < 20
    assert 518 <= seconds["1 h/5 min"] < 600


def test_a_slow_burn_is_seen_by_the_slow_pair() -> None:
    """3 % of errors against 1 % allowed: neither of the quick pairs may ever say so."""
    burn = meter()
    feed(burn, calls=30_000, bad_every=33, since=0.0)
    assert burn.burning == WORKBOOK_WINDOWS[2]


def test_a_target_that_keeps_its_objective_is_seldom_taken_to_burn() -> None:
    """Half of what is allowed, a call every 10 s for four days, 20 targets; and the same at 1 a second."""
    taken = 0
    for seed in range(20):
        burn, draw = meter(), random.Random(seed)
        for number in range(15_000):
            per_second = 0.1 if seed % 2 else 1.0
            if burn.observe(draw.random() < 0.005, number / per_second) and burn.burning:
                taken += 1
    print(f"{taken} of 20 healthy targets were taken to burn in 15,000 calls")
    assert taken == 0


@pytest.mark.parametrize(("threshold", "run"), [(14.4, 20), (6.0, 49), (1.0, 299)])
def test_recovery_takes_a_run_of_good_calls_that_a_burning_target_would_hardly_manage(
    threshold: float, run: int
) -> None:
    burn = meter(windows=(BurnWindow(60.0, 5.0, threshold),))
    now = feed(burn, calls=30, bad_every=1, since=0.0, per_second=10)
    assert burn.burning is not None
    now = feed(burn, calls=run - 1, bad_every=None, since=now)
    burn.observe(True, now)
    assert burn.burning is not None
    now = feed(burn, calls=run - 1, bad_every=None, since=now + 1)
    assert burn.burning is not None
    assert burn.observe(False, now) is True
    assert burn.burning is None
    assert burn.rate(60.0, now) == 0  # a clean sheet


def test_a_pair_says_nothing_of_a_target_watched_for_less_than_its_short_window() -> None:
    """Of 2,000 calls within 200 s 4 % failed: the pair of 3 d/6 h would take those seconds for days, and
    hold a recovering target back for 299 good calls. The same again after a recovery."""
    burn = meter()
    now = feed(burn, calls=2000, bad_every=25, since=0.0, per_second=10)
    assert burn.burning is None
    now = feed(burn, calls=130, bad_every=1, since=now, per_second=10)
    assert burn.burning == QUICK_WINDOW
    now = feed(burn, calls=20, bad_every=None, since=now + 7 * HOUR)
    assert burn.burning is None
    now = feed(burn, calls=2000, bad_every=25, since=now, per_second=10)
    assert burn.burning is None
    # Watched for long enough, it does.
    burn = meter()
    feed(burn, calls=2000, bad_every=25, since=0.0, per_second=0.05)
    assert burn.burning == WORKBOOK_WINDOWS[2]


def test_a_short_pair_takes_over_what_a_long_one_found() -> None:
    """Recovery is measured by the highest threshold: a total outage that the slow pair noticed first is
    not held against the target for the 299 calls of a slow burn."""
    burn = meter(windows=(BurnWindow(HOUR, 300.0, 14.4), BurnWindow(DAY, 300.0, 1.0)))
    now = feed(burn, calls=4000, bad_every=None, since=0.0)
    now = feed(burn, calls=300, bad_every=1, since=now)
    assert burn.burning is not None
    assert burn.burning.threshold == 1.0
    feed(burn, calls=400, bad_every=1, since=now)
    assert burn.burning.threshold == 14.4


def test_memory_is_bounded() -> None:
    burn = meter()
    for number in range(20_000):
        burn.observe(number % 300 == 0, number * 40.0)
    assert all(len(counts._parts) <= 60 for counts in burn._counts.values())


@pytest.mark.parametrize(
    ("share", "windows", "fragment"),
    [
        (0.0, DEFAULT_WINDOWS, "within 0 and 1"),
        (0.1, DEFAULT_WINDOWS, "burn rate is at most 10; give burn_windows with lower thresholds"),
        (0.01, (), "burn_windows is empty"),
        (0.01, (BurnWindow(60, 300, 2),), "the short window is the longer one"),
        (0.01, (BurnWindow(60, 5, 0),), "threshold is 0"),
    ],
)
def test_an_objective_that_can_never_be_missed_or_met_is_refused(
    share: float, windows: tuple[BurnWindow, ...], fragment: str
) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        meter(share, windows)
