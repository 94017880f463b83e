"""The starter is a valid scenario that is over soon."""

from __future__ import annotations

import pytest

from chaos.errors import UsageError
from chaos.scenario.load import load_text
from chaos.scenario.starter import starter


def test_the_starter_is_valid_short_and_has_its_name() -> None:
    (scenario,) = load_text(starter("my-first.test"), "new.yaml")
    assert scenario.name == "my-first.test"
    assert scenario.duration_s <= 20
    assert scenario.server.use == scenario.client.use == "reference"
    assert scenario.timeline
    assert scenario.expect


@pytest.mark.parametrize("name", ["", "Half Open", "a/b", "a\nversion: 2", "-x", "a" * 81])
def test_a_name_that_no_scenario_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        starter(name)
