"""The API does what its OpenAPI description says, whatever is sent to it: Schemathesis on a server of its own."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from chaos.toxiproxy_server.api import described

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis comes with the dev extra")

from schemathesis.checks import not_a_server_error  # noqa: E402 - where there is one
from schemathesis.core.failures import Failure, FailureGroup, ServerError  # noqa: E402
from schemathesis.core.parameters import ParameterLocation  # noqa: E402
from schemathesis.specs.openapi import checks  # noqa: E402

pytestmark = pytest.mark.slow
# how many examples of each operation beside those of boundary values; for long runs
EXAMPLES = int(os.environ.get("TRIO_CHAOS_API_EXAMPLES", "8"))
MANY = 100
BROKEN = Path(__file__).parent / "broken_server.py"
NO_ADDRESS = re.compile(r"(listen tcp|address|lookup)\b.*", re.DOTALL)
# what no schema can say: what holds between values, and that 1.0 is no integer
UNSAID = re.compile(
    r"expected `after` or `preset`|unknown preset|number -?\d+\.0 into|be a valid integer"
)
schema = schemathesis.openapi.from_dict(described())


def only_described_server_errors(ctx: Any, response: Any, case: Any) -> None:
    """An address that cannot be had is a 500 of the original's; every other server error is a mistake."""
    told = case.operation.definition.raw["responses"]
    if response.status_code == 500 and "500" in told:
        error = json.loads(response.text)
        if error["status"] == 500 and NO_ADDRESS.fullmatch(error["error"]):
            return
    not_a_server_error(ctx, response, case)


def valid_data_is_accepted(ctx: Any, response: Any, case: Any) -> None:
    """A timeline is a language with rules of its own, and faults have rules between their attributes."""
    if case.path == "/timeline" or UNSAID.search(response.text):
        return
    checks.positive_data_acceptance(ctx, response, case)


def errors_are_errors(_ctx: Any, response: Any, case: Any) -> None:
    """Errors are JSON, whatever they are called; where no route has matched they are a line of text."""
    if response.status_code < 400 or "x-toxiproxy-request-id" not in response.headers:
        return
    error = json.loads(response.text)
    proxies = {"proxies"} if case.path == "/populate" else set()
    assert set(error) == {"error", "status"} | proxies
    assert (type(error["error"]), error["status"]) == (str, response.status_code)


# `unsupported_method` alone is left out: it asks for Allow, which the original does not send with a 405
CHECKS: list[Callable[..., Any]] = [
    only_described_server_errors,
    valid_data_is_accepted,
    errors_are_errors,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]


@pytest.fixture(scope="module")
def fuzzed(run_paged: Any) -> Iterator[Any]:
    with run_paged(True, "-proxy-metrics", "-seed", "7", "--page") as toxi:
        yield toxi


@pytest.fixture(scope="module")
def sent() -> Counter[tuple[str, str]]:
    """Count examples by operation."""
    return Counter()


@pytest.fixture(scope="module")
def broken(run_script: Any) -> Iterator[Any]:
    with run_script(BROKEN) as toxi:
        yield toxi


def check(case: Any, toxi: Any) -> None:
    case.call_and_validate(base_url=f"http://127.0.0.1:{toxi.port}", checks=CHECKS)


def narrow(case: Any) -> None:
    """Let valid examples speak of what there is, as a rule, and listen on this machine alone."""
    known = {"proxy": "known", "toxic": "known", "id": "1"}
    parts = case.meta.components if case.meta else {}
    negative = {place for place, part in parts.items() if part.mode.is_negative}
    if ParameterLocation.PATH not in negative:
        for name, value in (case.path_parameters or {}).items():
            case.path_parameters[name] = value if len(value) % 4 == 3 else known[name]
    valid = ParameterLocation.BODY not in negative and isinstance(case.body, dict)
    if valid and len(case.body.get("listen") or "") % 2:
        case.body["listen"] = "127.0.0.1:0"


@schema.exclude(path="/events").parametrize()  # it has no end; test_events.py
@settings(max_examples=EXAMPLES)
def test_an_operation_is_as_described(
    case: Any, fuzzed: Any, sent: Counter[tuple[str, str]]
) -> None:
    sent[case.path, case.method] += 1
    number = sent[case.path, case.method]
    if EXAMPLES < MANY and number > MANY and number % 6:
        return  # the boundary values of all toxics and faults are thousands
    narrow(case)
    if "{" in case.path and (case.method == "DELETE" or number % 8 == 1):
        proxy = {"name": "known", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"}
        fuzzed.ask("POST", "/proxies", proxy)
        fuzzed.ask("POST", "/proxies/known/toxics", {"name": "known", "type": "latency"})
    check(case, fuzzed)


@pytest.mark.parametrize(
    ("path", "method", "failure"),
    [
        ("/version", "GET", ServerError),
        ("/reset", "POST", ServerError),
        ("/populate", "POST", checks.AcceptedNegativeData),
        ("/proxies", "GET", checks.UndefinedStatusCode),
        ("/connections", "GET", checks.UndefinedContentType),
        ("/timeline", "GET", checks.JsonSchemaError),
    ],
)
def test_each_kind_of_mistake_is_found(
    path: str, method: str, failure: type[Failure], broken: Any
) -> None:
    modes = schemathesis.GenerationMode
    negative = failure is checks.AcceptedNegativeData
    strategy = schema[path][method].as_strategy(
        generation_mode=modes.NEGATIVE if negative else modes.POSITIVE
    )

    @given(case=strategy)
    @settings(max_examples=20)
    def run(case: Any) -> None:
        check(case, broken)

    with pytest.raises(FailureGroup) as caught:
        run()
    assert failure in {type(each) for each in caught.value.exceptions}
