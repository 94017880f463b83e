"""The tables hold every word of the vocabulary, whole."""

from __future__ import annotations

import pytest

from chaos.reports.tables import TABLES, parameters_of
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.checks import CHECKS, Backoff
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.policies import POLICIES
from chaos.vocabulary.presets import PRESETS
from chaos.vocabulary.sometimes import STATES
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import NETWORKS
from chaos.vocabulary.words import WORDS

NAMES = {
    "faults": {f"toxic: {word}" for word in TOXICS} | {f"fault: {word}" for word in FAULTS},
    "actions": {f"action: {word}" for word in ACTIONS},
    "checks": set(CHECKS),
    "presets": set(PRESETS),
    "policies": set(POLICIES),
    "states": set(STATES),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_has_a_row_for_each_word(what: str) -> None:
    table = TABLES[what]()
    assert {row[0] for row in table.rows} == NAMES[what]
    assert len(table.rows) == len(NAMES[what])
    assert {len(row) for row in table.rows} == {len(table.headers)}


def test_every_fault_says_how_well_each_network_applies_it() -> None:
    table = TABLES["faults"]()
    assert table.headers[-3:] == NETWORKS
    for row in table.rows:
        kind, _, word = row[0].partition(": ")
        support = WORDS[kind][word].support
        for network, cell in zip(NETWORKS, row[-3:], strict=True):
            assert cell.startswith(support[network][0])
            assert support[network][1] in cell


def test_parameters_show_values_defaults_and_meaning() -> None:
    rows = {row[0]: row[1:] for row in parameters_of(Backoff).rows}
    assert rows["initial"][:2] == ("a duration such as 250ms, 20s, 15m or 2h", "required")
    assert rows["factor"][:2] == ("a number from 1 to 10", "2")
    assert rows["jitter"][:2] == ("none, full, equal or decorrelated", "full")
    assert all(meaning for _, _, meaning in rows.values())


def test_every_parameter_of_every_word_has_a_meaning() -> None:
    for table in (TOXICS, FAULTS, ACTIONS, CHECKS):
        for model in table.values():
            assert all(row[3] for row in parameters_of(model).rows), model


def test_every_preset_has_a_source() -> None:
    assert all(row[-1].startswith("https://") for row in TABLES["presets"]().rows)


def test_a_policy_sorts_every_close_code_once() -> None:
    for row in TABLES["policies"]().rows:
        count = 0
        for cell in row[2:]:
            for run in filter(None, cell.split(", ")):
                first, _, last = run.partition("–")
                count += int(last or first) - int(first) + 1
        assert count == 4000
