"""The live page: one file without anything from elsewhere, under a policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from starlette.responses import Response


def answer() -> Response:
    """Return the page."""
    html, policy = _load()
    return Response(
        html,
        media_type="text/html",
        headers={
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )


@cache
def _load() -> tuple[str, str]:
    """Return the page and its Content-Security-Policy: only its own script, style and origin."""
    html = (resources.files("chaos.toxiproxy_server") / "page.html").read_text(encoding="utf-8")
    script, style = _digest(html, "script"), _digest(html, "style")
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def _digest(html: str, tag: str) -> str:
    match = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    assert match is not None, f"the page has no <{tag}>"
    return "sha256-" + base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
