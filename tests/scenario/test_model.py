"""The model: what goes out comes back, and secrets do not go out."""

from __future__ import annotations

from chaos.scenario.model import Scenario

SCENARIO = Scenario.model_validate(
    {
        "version": 1,
        "name": "secret",
        "duration": "10s",
        "client": {"use": "reference", "headers": {"Authorization": "Bearer hush", "X-Trace": "1"}},
    }
)


def test_a_scenario_survives_json() -> None:
    assert Scenario.from_json(SCENARIO.to_json()) == SCENARIO


def test_secret_headers_are_redacted_and_others_kept() -> None:
    assert dict(SCENARIO.redacted().client.headers) == {"Authorization": "REDACTED", "X-Trace": "1"}
    assert SCENARIO.client.headers["Authorization"] == "Bearer hush"


def test_a_scenario_without_secrets_is_equal_to_its_redacted_self() -> None:
    plain = SCENARIO.model_copy(
        update={"client": SCENARIO.client.model_copy(update={"headers": {}})}
    )
    assert plain.redacted() == plain
