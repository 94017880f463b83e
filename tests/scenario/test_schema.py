"""The JSON Schema is up to date, lets through what the loader takes, and stops what it can stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from chaos.scenario.schema import json_schema
from chaos.scenario.starter import starter

ROOT = Path(__file__).parents[2]
VALID = sorted((Path(__file__).parent / "valid").glob("*.yaml"))
SHIPPED = sorted((ROOT / "scenarios").rglob("*.yaml"))
# these are wrong in a way that a schema can see
SEEN = [
    "unknown-key-top", "unknown-key-heartbeat", "unknown-key-entry", "unknown-attribute", "bare-number-at",
    "wrong-unit", "flat-toxic", "nested-fault", "unknown-fault", "fault-as-toxic", "count-zero", "two-kinds",
    "for-on-reset", "unknown-check", "check-parameter-missing", "neither-at-nor-on", "at-and-on",
    "version-two", "name-upper-case", "toxicity-range", "stream-on-down", "command-as-text",
]  # fmt: skip


def plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def problems(data: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(json_schema()).iter_errors(data)]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", [*VALID, *SHIPPED], ids=lambda path: path.stem)
def test_a_valid_file_passes_the_schema(path: Path) -> None:
    assert problems(plain(path.read_text(encoding="utf-8"))) == []


def test_the_starter_passes_the_schema() -> None:
    assert problems(plain(starter("first"))) == []


@pytest.mark.parametrize("name", SEEN)
def test_a_malformed_file_fails_the_schema(name: str) -> None:
    path = Path(__file__).parent / "malformed" / f"{name}.yaml"
    assert problems(plain(path.read_text(encoding="utf-8")))
