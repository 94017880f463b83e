"""What a Retry-After asks for (RFC 9110 §10.2.3): whole seconds, or a date in one of three formats (§5.6.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

# thirty years: more is a mistake, and no run lasts as long
SECONDS_MAX = 10**9
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        rf"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
)


def parse_http_date(text: str, now_s: float) -> float | None:
    """Return the seconds since the epoch of an HTTP date, or None if it is none.

    `now_s`, in the same seconds, tells which century a year of two digits is of.
    """
    match = next((found for form in _FORMATS if (found := form.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year, now_s)
    try:
        date = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            min(int(match["second"]), 59),  # a leap second
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return date.timestamp()


def _full_year(digits: int, now_s: float) -> int:
    """Return the year of these last two digits that is at most 50 years ahead (RFC 9110 §5.6.7)."""
    latest = datetime.fromtimestamp(now_s, UTC).year + 50
    return latest - (latest - digits) % 100


def read_retry_after(
    values: Sequence[str], dates: Sequence[str], now_s: float
) -> tuple[int | float, int | float] | None:
    """Return for how many seconds a refusal asks to be left alone, at least and at most; None if it does not say so.

    `values` and `dates` are those of all its Retry-After and Date headers. A date counts from the wall clock, or
    from the server's own Date, whose clock may be wrong: clients do either, so the shorter time is what is asked.
    """
    if len(set(values)) != 1:
        return None
    text = values[0]
    if re.fullmatch("[0-9]+", text):
        digits = text.lstrip("0") or "0"
        told_s = int(digits) if len(digits) < 10 else SECONDS_MAX
        return told_s, told_s
    until_s = parse_http_date(text, now_s)
    if until_s is None:
        return None
    clocks = [now_s, *(date for row in dates if (date := parse_http_date(row, now_s)) is not None)]
    waits_s = [round(min(max(0.0, until_s - clock_s), SECONDS_MAX), 6) for clock_s in clocks]
    return min(waits_s), max(waits_s)
