"""The command `trio-chaos toxiproxy-server` with the original's flags. Imports nothing that is slow."""

from __future__ import annotations

from typing import Any

import click

from chaos.commands.values import seconds
from chaos.errors import EXIT_PASSED, without_extra

_ORIGINAL_SWITCHES = ("proxy-metrics", "runtime-metrics", "version")


class _GoFlags(click.Command):
    """Takes switches as Go's flag package does: `-proxy-metrics`, `-proxy-metrics=true`, `-proxy-metrics=false`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [plain for arg in args for plain in _plain(arg)])


def _plain(arg: str) -> list[str]:
    name, equals, value = arg.partition("=")
    if arg == "-help":
        return ["--help"]
    if not equals or name.lstrip("-") not in _ORIGINAL_SWITCHES:
        return [arg]
    if value.lower() in ("true", "t", "1"):
        return [name]
    return [] if value.lower() in ("false", "f", "0") else [arg]


@click.command("toxiproxy-server", cls=_GoFlags)
@click.option(
    "-host", "--host", default="localhost", show_default=True, help="Where the API listens."
)
@click.option("-port", "--port", default="8474", show_default=True, help="Port of the API.")
@click.option(
    "-config",
    "--config",
    default="",
    metavar="FILE",
    help="JSON of proxies to start with, as POST /populate takes it.",
)
@click.option(
    "-seed",
    "--seed",
    type=int,
    help="Every random draw of toxics derives from it; default another each time.",
)
@click.option(
    "-proxy-metrics", "--proxy-metrics", is_flag=True, help="Bytes of each proxy in GET /metrics."
)
@click.option(
    "-runtime-metrics",
    "--runtime-metrics",
    is_flag=True,
    help="What the process uses, in GET /metrics.",
)
@click.option("-version", "--version", is_flag=True, help="Print the version and exit.")
@click.option(
    "--api-version",
    default="2.12.0",
    show_default=True,
    metavar="TEXT",
    help="What GET /version answers.",
)
@click.option(
    "--faithful",
    is_flag=True,
    help="Pass half-closes and RSTs on as they are; Toxiproxy closes both ways.",
)
@click.option(
    "--dial-timeout",
    "dial_s",
    default="30s",
    show_default=True,
    callback=seconds,
    metavar="TIME",
    help="How long an upstream may take to accept.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Serve requests for this host name too; may be repeated.",
)
@click.option(
    "--page",
    is_flag=True,
    help="Serve a live page at / and let browsers that have loaded it call the API.",
)
def toxiproxy_server(version: bool, faithful: bool, **options: Any) -> int:
    """Serve Toxiproxy's API: a drop-in for toxiproxy-server 2.12.0."""
    if version:
        click.echo(f"toxiproxy-server version {options['api_version']}")
        return EXIT_PASSED
    from chaos.link.endings import EndPolicy

    try:
        from chaos.toxiproxy_server.api import ServerOptions
        from chaos.toxiproxy_server.serve import serve_command
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "hypercorn", "h11"):
            raise
        raise without_extra("the server", package, "server") from error

    ends_are: EndPolicy = "faithful" if faithful else "toxiproxy"
    return serve_command(
        ServerOptions(ends_are=ends_are, **options), lambda text: click.echo(text, err=True)
    )
