"""Retry-After in its four forms, and in all others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.wire.observer import Observer
from chaos.wire.retry import SECONDS_MAX, parse_http_date, read_retry_after

NOW_S = datetime(1994, 11, 6, 8, 49, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_a_date_in_each_format_counts_from_the_wall_clock(text: str) -> None:
    assert parse_http_date(text, NOW_S) == NOW_S + 7
    assert read_retry_after([text], [], NOW_S) == (7, 7)
    assert read_retry_after([text], [], NOW_S + 60) == (0, 0)


@pytest.mark.parametrize(
    ("year", "now", "full"),
    [
        ("94", 2026, 1994),
        ("26", 2026, 2026),
        ("76", 2026, 2076),
        ("77", 2026, 1977),
        ("05", 2098, 2105),
    ],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(year: str, now: int, full: int) -> None:
    now_s = datetime(now, 6, 1, tzinfo=UTC).timestamp()
    date_s = parse_http_date(f"Sunday, 06-Nov-{year} 08:49:37 GMT", now_s)
    assert date_s == datetime(full, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "told_s"),
    [
        ("0", 0),
        ("120", 120),
        ("0000000000120", 120),
        ("9" * 5000, SECONDS_MAX),
        ("999999999", 999_999_999),
        ("Fri, 31 Dec 9999 23:59:59 GMT", SECONDS_MAX),
        ("²", None),
        ("٣", None),
        ("-1", None),
        ("1.5", None),
        ("1, 2", None),
        ("", None),
        ("soon", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 29),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
    ],
)
def test_a_retry_after_is_right_or_not_told(value: str, told_s: float | None) -> None:
    assert read_retry_after([value], [], NOW_S) == (None if told_s is None else (told_s, told_s))


def test_of_several_values_that_differ_none_is_told() -> None:
    assert read_retry_after(["7", "7"], [], NOW_S) == (7, 7)
    assert read_retry_after(["7", "8"], [], NOW_S) is None
    assert read_retry_after([], [], NOW_S) is None


def test_where_the_servers_clock_differs_the_shorter_time_is_asked() -> None:
    until = "Sun, 06 Nov 1994 09:49:37 GMT"
    ahead = "Sun, 06 Nov 1994 09:49:30 GMT"
    behind = "Sun, 06 Nov 1994 08:00:00 GMT"
    assert read_retry_after([until], [ahead], NOW_S) == (7, 3607)
    assert read_retry_after([until], [behind], NOW_S) == (3607, 6577)


@given(st.text(max_size=40))
def test_any_text_can_be_read(text: str) -> None:
    read_retry_after([text], [text], NOW_S)


def test_the_observer_counts_from_the_clock_that_it_is_given() -> None:
    observer = Observer("downstream", wall_clock=lambda: NOW_S)
    head = b"HTTP/1.1 503 x\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    ((_, fields, _),) = observer.feed(head)
    assert fields == {"status": 503, "retry_after_s": 7}
