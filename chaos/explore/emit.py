"""Scenarios to YAML as a person would have written it: defaults left out, one line per entry, times with units.

The one promise: `load_text(to_yaml(scenario), path)` gives the same scenario again, but for its path, its cell and
the lines of its expectations.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from chaos.scenario.model import Entry, Expectation, Scenario, Server, Subject
from chaos.scenario.read import plain_value
from chaos.vocabulary.base import Settings, format_duration

WIDTH = 110
# kept in the order in which the shipped scenarios have them
_TOP = ("duration_s", "settle_s", "tolerance_s", "networks", "steady_state", "sometimes", "paths")
_REFERENCE = re.compile(r"\$(\$?)\{([^{}]*)\}")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./() ;+=%-]*")
_PLAIN_BLOCK = re.compile(r"[A-Za-z_/][A-Za-z0-9_./() ;+=%,'-]*")
_URL = re.compile(r"https?://[A-Za-z0-9_./#?=&~+%-]+")
_SHORT = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def to_yaml(
    scenario: Scenario, *, comment: Iterable[str] = (), extra: Mapping[str, Any] | None = None
) -> str:
    """Return a scenario as the text of a file.

    Args:
        comment: lines that stand above it, without their `#`.
        extra: further keys for the top, which must begin with `x-`.
    """
    lines = [f"# {line}".rstrip() for line in comment]
    lines += ["version: 1", f"name: {scalar(scenario.name)}"]
    if scenario.description:
        lines += _described(scenario.description)
    if scenario.tags:
        lines.append(f"tags: {flow(scenario.tags)}")
    if scenario.references:
        lines += ["references:", *(f"  - {scalar(row)}" for row in scenario.references)]
    lines += [f"{key}: {flow(value)}" for key, value in _given(scenario, _TOP).items()]
    lines += [f"{key}: {flow(value)}" for key, value in (extra or {}).items()]
    lines += ["", *_subject("server", scenario.server), *_subject("client", scenario.client)]
    for key, rows in (
        ("workload", [_given(row) for row in scenario.workload]),
        ("timeline", [_entry(row) for row in scenario.timeline]),
        ("expect", [_expectation(row) for row in scenario.expect]),
    ):
        if rows:
            gap = [""] if key != "workload" else []
            lines += [*gap, f"{key}:", *(f"  - {_item(row)}" for row in rows)]
    return "\n".join(lines) + "\n"


def _described(text: str) -> list[str]:
    line = f"description: {scalar(text, block=True)}"
    foldable = not line.endswith('"') and "  " not in text
    if len(line) <= WIDTH or not foldable:
        return [line]
    return textwrap.wrap(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _subject(side: str, subject: Subject) -> list[str]:
    """Return the lines of `server` or `client`; one line where that is readable."""
    values = _given(subject)
    if subject.use == "reference" and (len(values) > 1 or isinstance(subject, Server)):
        del values["use"]
    if not values:
        return []
    line = f"{side}: {flow(values)}"
    if len(values) <= 2 and len(line) <= WIDTH:
        return [line]
    return [f"{side}:", *(f"  {key}: {flow(value)}" for key, value in values.items())]


def _given(settings: Settings, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return what differs from the defaults, with the keys of the file and durations with their units."""
    plain = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    fields = type(settings).model_fields
    keys = [fields[name].alias or name for name in (fields if names is None else names)]
    return _whole(
        {
            key: _whole(plain[key]) if key == "backoff" else plain[key]
            for key in keys
            if key in plain
        }
    )


def _entry(entry: Entry) -> dict[str, Any]:
    """Return an entry with its keys in the order in which they read best: when, how long, what, how."""
    given = _given(entry)
    times = ("at", "on", "then", "every", "times", "for")
    row: dict[str, Any] = {key: given[key] for key in times if key in given}
    row[entry.kind] = entry.word
    if entry.stream != ("downstream" if entry.kind == "toxic" else "both"):
        row["stream"] = entry.stream
    row |= {key: given[key] for key in ("toxicity", "by") if key in given}
    if entry.kind == "toxic":
        row |= {"attributes": dict(entry.parameters)} if entry.parameters else {}
    else:
        row |= entry.parameters
    return row | {key: given[key] for key in ("clients", "allow_unfelt", "name") if key in given}


def _expectation(row: Expectation) -> Any:
    inner: dict[str, Any] = dict(row.parameters)
    if row.tolerance_s is not None:
        inner["tolerance"] = format_duration(row.tolerance_s)
    if row.use is not None:
        return {"use": row.use, **inner}
    return {row.check: _whole(inner)} if inner else row.check


def _whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of settings with 2 for 2.0: a setting that is a fraction takes whole numbers too."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in values.items()
    }


def _item(row: Any) -> str:
    """Return a list item: a mapping of one key without braces around it, as people write expectations."""
    if isinstance(row, Mapping) and len(row) == 1:
        ((key, value),) = row.items()
        return f"{_key(key)}: {flow(value)}"
    return flow(row)


def flow(value: Any) -> str:
    """Return a value in YAML's flow style, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {flow(row)}" for key, row in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(row) for row in value) + "]"
    return scalar(value)


def _key(key: Any) -> str:
    text = str(key)
    return text if re.fullmatch(r"[0-9]{1,18}", text) else scalar(text, key=True)


def scalar(value: Any, *, block: bool = False, key: bool = False) -> str:
    """Return a single value so that the reader gives it back; text is quoted only where it must be."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    # variables are filled in everywhere but in keys
    text = str(value) if key else _REFERENCE.sub(lambda match: "$" + match[0], str(value))
    if re.fullmatch(r"[0-9.]+(ms|s|m|h)", text) or _URL.fullmatch(text):
        return text
    pattern = _PLAIN_BLOCK if block else _PLAIN
    if pattern.fullmatch(text) and text == text.strip() and plain_value(text) == text:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    if letter.isprintable():
        return letter
    number = ord(letter)
    for width, form in ((0xFF, "\\x{:02x}"), (0xFFFF, "\\u{:04x}")):
        if number <= width:
            return form.format(number)
    return f"\\U{number:08x}"
