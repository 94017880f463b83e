"""The emitter: what it writes is read again as the same scenario, and reads as a person would have written it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.api import load_scenarios
from chaos.explore.draw import schedules
from chaos.explore.emit import scalar, to_yaml
from chaos.explore.promises import compose
from chaos.explore.schedules import SearchSpace
from chaos.reference.client import client
from chaos.reference.server import serve
from chaos.scenario.load import load_text
from chaos.subject import abilities_of
from chaos.vocabulary.policies import Policy

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "scenarios").rglob("*.yaml"))
BASE = """\
version: 1
name: base
duration: 20s
server: {heartbeat: {interval: 1s, timeout: 2s}}
client: {heartbeat: {interval: 1s, timeout: 2s}, backoff: {initial: 500ms, factor: 1.5, max: 2s}}
workload: [{from: server, every: 500ms}, {from: client, every: 500ms, delivery: resume}]
expect: [{backoff: {initial: 500ms, factor: 1.5, max: 2s}}, no_leaks]
"""
base = load_text(BASE, "base.yaml")[0]
space = SearchSpace(
    scenario=base,
    client=abilities_of(client),
    server=abilities_of(serve),
    policy=Policy.parse(base.client.policy),
)


def plain(scenario):
    """Return a scenario without what depends on its file: path, cell, and lines."""
    rows = tuple(row.model_copy(update={"line": 0}) for row in scenario.expect)
    return scenario.model_copy(update={"path": "", "cell": "", "expect": rows})


def again(scenario):
    text = to_yaml(scenario)
    (loaded,) = load_text(text, "again.yaml")
    return loaded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_of_the_project_comes_back_the_same(path):
    for scenario in load_scenarios(path):
        assert plain(again(scenario)) == plain(scenario)


@settings(max_examples=100, deadline=None)
@given(schedules(space))
def test_every_schedule_makes_a_valid_scenario_that_comes_back_the_same(schedule):
    scenario = compose(space, schedule)
    assert plain(again(scenario)) == plain(scenario)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KEYS = WORDS.filter(lambda key: key and key != "<<" and not key.startswith("x-"))
VALUES = st.recursive(
    WORDS | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(WORDS, st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_text_and_any_options_come_back_the_same(text, options):
    client = base.client.model_copy(update={"options": options, "headers": {"X-Text": text}})
    scenario = base.model_copy(update={"description": text, "client": client})
    assert plain(again(scenario)) == plain(scenario)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain words", "plain words"),
        ("250ms", "250ms"),
        ("true", '"true"'),
        ("12", '"12"'),
        ("a: b", '"a: b"'),
        ("${x}", '"$${x}"'),
        ("line\nline", '"line\\nline"'),
        (2.5, "2.5"),
        (None, "null"),
    ],
)
def test_text_is_quoted_only_where_it_must_be(value, written):
    assert scalar(value) == written


def test_a_file_reads_as_a_person_would_have_written_it():
    text = """\
# Why it is here.
version: 1
name: example
description: A path dies.
tags: [hunt]
duration: 30s
networks: [simulated]
x-fails: [reconnects]

server: {heartbeat: {interval: 1s, timeout: 4s}}
client:
  use: "blind.py:client"
  heartbeat: {interval: 1s, timeout: 4s}
  backoff: {initial: 300ms, max: 2s}
workload:
  - {from: server, every: 250ms}

timeline:
  - {at: 4s, for: 1500ms, toxic: latency, stream: upstream, attributes: {latency: 400}, name: slow}
  - {at: 8s, for: 6s, fault: blackhole, name: outage}
  - {at: 20s, action: close, by: server, code: 4000}

expect:
  - reconnects: {after: outage, within: 8s}
  - no_leaks
"""
    (scenario,) = load_text(text, "example.yaml")
    written = to_yaml(scenario, comment=["Why it is here."], extra={"x-fails": ["reconnects"]})
    assert written == text.replace("1500ms", "1.5s")
