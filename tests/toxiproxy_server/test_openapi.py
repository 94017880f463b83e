"""The OpenAPI description: valid, up to date, and of just the operations that a server has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.toxiproxy_server.api import described
from chaos.toxiproxy_server.go.wire import served_faults
from chaos.vocabulary.toxics import TOXICS

ROOT = Path(__file__).parents[2]
MOZILLA = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"
METHODS = ("get", "post", "patch", "delete")


def test_it_is_valid() -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="comes with the dev extra")
    told = described()
    validator.validate(told)
    told["paths"]["/version"]["get"]["responses"] = {"200": {}}
    with pytest.raises(validator.validation.exceptions.OpenAPIValidationError):
        validator.validate(told)


def test_it_knows_every_toxic_and_every_range() -> None:
    schemas = described()["components"]["schemas"]
    mapping = schemas["ToxicInput"]["discriminator"]["mapping"]
    assert set(mapping) == {*TOXICS, *served_faults()}
    latency = schemas["Toxic_latencyInput"]["properties"]["attributes"]["properties"]["latency"]
    lowest, highest = TOXICS["latency"].survived()["latency"]
    assert (latency["minimum"], latency["maximum"]) == (lowest, highest)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    told = described()
    names = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    used = set(references(told))
    assert used == names


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [name for item in value.values() for name in references(item)]
    if isinstance(value, list):
        return [name for item in value for name in references(item)]
    return []


@pytest.mark.slow
def test_a_server_describes_itself_and_nothing_that_it_has_not(run_server: Any) -> None:
    with run_server(True, "--api-version", "git") as toxi:
        told = toxi.get("/openapi.json")
        assert told["info"]["version"] == "git"
        assert set(described()["paths"]) - set(told["paths"]) == {"/", "/metrics"}
        assert toxi.ask("GET", "/openapi.json", User_Agent=MOZILLA).status == 403
    with run_server(True, "--page", "-runtime-metrics") as toxi:
        told = toxi.get("/openapi.json")
        assert told == described()
        assert toxi.ask("GET", "/openapi.json", User_Agent=MOZILLA).status == 200
        every_route_is_there(told, toxi)


def every_route_is_there(told: Any, toxi: Any) -> None:
    for path, operations in told["paths"].items():
        if path == "/events":
            continue  # it has no end
        place = path.replace("{proxy}", "a").replace("{toxic}", "b").replace("{id}", "1")
        for method in METHODS:
            answer = toxi.ask(method.upper(), place, "null")
            described_here = method in operations or path == "/metrics"
            assert (answer.status != 405) is described_here, (method, path, answer)
            assert ("x-toxiproxy-request-id" in answer.headers) is described_here


@pytest.mark.slow
def test_what_links_promise_can_be_asked(ours: Any) -> None:
    paths = ours.get("/openapi.json")["paths"]
    made = paths["/proxies"]["post"]["responses"]["201"]["links"]
    assert "get_proxies_proxy" in made
    known = {
        operation["operationId"]
        for operations in paths.values()
        for method, operation in operations.items()
        if method in METHODS
    }
    toxics = paths["/proxies/{proxy}/toxics"]["post"]["responses"]["200"]["links"]
    assert {*made, *toxics} < known
    assert all(link["parameters"]["proxy"] for link in (*made.values(), *toxics.values()))
