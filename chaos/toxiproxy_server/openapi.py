"""The OpenAPI description of the API (https://spec.openapis.org/oas/v3.1.0), made from its operations and schemas.

`python -m chaos.toxiproxy_server.openapi [FILE]` writes it as documentation has it: with `--page` and metrics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from chaos.toxiproxy_server.operations import JSON, TEXT, Operation, Table
from chaos.toxiproxy_server.schemas import Schema, components, ref

_REQUEST_ID = {
    "X-Toxiproxy-Request-Id": {"required": True, "schema": {"type": "string", "pattern": "^[0-9a-v]{20}$"}}
}  # fmt: skip
_ABOUT = """\
Toxiproxy's API and this project's additions to it. Bodies are read as Go reads JSON:

* of Toxiproxy's own keys upper and lower case are the same; keys that it does not know are ignored;
* `null` leaves a value as it is or at its default, and a body of `null` is `{}`;
* only the first JSON value of a body counts; Content-Type is not looked at;
* `1.0` is no integer: attributes of toxics are written without a fraction and exponent.

Errors are JSON (`Error`) that is called `text/plain`, but for those of `/populate`. An address that cannot be had
is a 500, not a 400, as in the original: of all 5xx only these and the 503 of `/events` are sent. A path that is not
clean (`//`, `.`, `..`) is redirected with 301, one that does not exist is 404 with a line of text, a method that a
path does not have is 405 without a body and without Allow; HEAD and OPTIONS are such. A name with `/` in it can be
given, and cannot be addressed.
"""
_ERRORS = {
    400: "the body, or a value in it, cannot be taken",
    403: "a browser, or a Host or Origin that is not served",
    404: "there is no such thing",
    409: "there is one already",
    413: "the body is too large",
    500: "the address to listen on cannot be had",
    503: "too many who listen already",
}
_PARAMETERS: dict[str, Schema] = {
    "proxy": {"type": "string", "pattern": "^[^/]+$"},
    "toxic": {"type": "string", "pattern": "^[^/]+$"},
    "id": {"type": "string", "pattern": "^[0-9]+$"},
}
_FIELD = re.compile(r"\{(\w+)\}")


def document(table: Table, version: str) -> dict[str, Any]:
    """Return the description of the operations in a table."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "toxiproxy-server", "version": version, "description": _ABOUT},
        "paths": {path: _path(path, table) for path in table},
        "components": {"schemas": components()},
    }


def _path(path: str, table: Table) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in _FIELD.findall(path)
    ]
    methods = {method.lower(): _operation(path, method, table) for method in table[path]}
    return {**({"parameters": parameters} if parameters else {}), **methods}


def operation_id(path: str, method: str) -> str:
    """Return the name of an operation: `get_proxies_proxy`."""
    words = re.sub(r"[^\w]+", "_", path).strip("_")
    return f"{method.lower()}_{words or 'page'}"


def _operation(path: str, method: str, table: Table) -> dict[str, Any]:
    operation = table[path][method]
    told: dict[str, Any] = {"operationId": operation_id(path, method), "summary": operation.does}
    if operation.deprecated:
        told["deprecated"] = True
    if operation.query:
        told["parameters"] = [
            {"name": name, "in": "query", "schema": {"enum": list(words), "default": words[0]}}
            for name, words in operation.query.items()
        ]
    if operation.takes:
        content = {JSON: {"schema": ref(operation.takes)}}
        told["requestBody"] = {"required": True, "content": content}
    success = _success(operation)
    if method == "POST" and operation.gives in ("Proxy", "Toxic"):
        success["links"] = dict(_links(path, table))
    told["responses"] = {str(operation.status): success} | {
        str(status): _refusal(status, operation) for status in sorted(_statuses(operation))
    }
    return told


def _success(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"description": "done", "headers": _REQUEST_ID}
    if operation.gives:
        told["content"] = {operation.media: {"schema": ref(operation.gives)}}
    elif operation.status != 204:
        told["content"] = {operation.media: {"schema": {"type": "string"}}}
    return told


def _statuses(operation: Operation) -> set[int]:
    return {403, *operation.refuses, *((400, 413) if operation.takes else ())}


def _refusal(status: int, operation: Operation) -> dict[str, Any]:
    if operation.refused_as_json and status != 403:
        content = {JSON: {"schema": ref("PopulateError")}}
    else:
        schema = {"type": "string", "contentMediaType": JSON, "contentSchema": ref("Error")}
        content = {TEXT: {"schema": {"type": "string"} if status == 403 else schema}}
    return {"description": _ERRORS[status], "content": content}


def _links(path: str, table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what can be asked of a thing that an operation has made."""
    known = {name: f"$request.path.{name}" for name in _FIELD.findall(path)}
    for other, methods in table.items():
        rest = other.removeprefix(path)
        if rest == other or not _FIELD.match(rest.lstrip("/")):
            continue
        name = _FIELD.findall(rest)[0]
        if len(_FIELD.findall(other)) > len(known) + 1:
            continue
        for method in methods:
            target = operation_id(other, method)
            yield (
                target,
                {
                    "operationId": target,
                    "parameters": {**known, name: "$response.body#/name"},
                },
            )


def text(told: dict[str, Any]) -> str:
    """Return a description as it stands in its file."""
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"
