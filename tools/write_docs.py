"""Writes every page of `docs/` that is generated: the reference pages, the JSON Schema and the OpenAPI description.

    python tools/write_docs.py [FOLDER]

`tests/tools/test_write_docs.py` fails while one of them is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from reference_pages import PAGES

from chaos.scenario.schema import schema_text
from chaos.toxiproxy_server.api import described


def openapi_text() -> str:
    """Return the description of the server's API as it stands in its file."""
    return json.dumps(described(), indent=1, ensure_ascii=False) + "\n"


FILES: Mapping[str, Callable[[], str]] = {
    **{f"reference/{name}": page for name, page in PAGES.items()},
    "schema/scenario-1.json": schema_text,
    "schema/toxiproxy-server-openapi.json": openapi_text,
}


def write(folder: Path) -> None:
    """Write every generated file below a folder."""
    for name, make in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
