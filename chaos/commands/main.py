"""The command `trio-chaos`. Imports are kept inside the commands: `--help` must answer at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from chaos.commands.hunt_cli import hunt
from chaos.commands.play_command import play
from chaos.commands.toxiproxy_server import toxiproxy_server
from chaos.commands.values import seconds
from chaos.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_PASSED,
    ChaosError,
    InvalidScenario,
)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
TABLES = ("faults", "checks", "actions", "presets", "policies", "states")
_PATHS = click.Path(path_type=Path)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="trio-chaos", prog_name="trio-chaos")
def cli() -> None:
    """Put long-lived connections through network faults, and prove that they survive.

    Exit codes: 0 all passed, 1 some failed, 2 some inconclusive and none failed, 254 invalid scenario or
    usage, 255 internal error, 130 interrupted.
    """


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=_PATHS)
@click.option(
    "--network",
    type=click.Choice(["embedded", "toxiproxy", "simulated"]),
    default="embedded",
    show_default=True,
    help="What stands between the subjects and applies the toxics.",
)
@click.option(
    "--client",
    metavar="USE",
    help="Client in place of every scenario's own: my.module:client or file.py:client.",
)
@click.option(
    "--server",
    metavar="USE",
    help="Server in place of every scenario's own: my.module:serve or file.py:serve.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Every random choice derives from it."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Only scenarios with this tag; may be repeated.",
)
@click.option("--recursive", is_flag=True, help="Also the scenario files in subfolders.")
@click.option(
    "--out",
    type=_PATHS,
    metavar="DIR",
    help="Keep trace.jsonl and verdict.json of each scenario here.",
)
@click.option("--junit", type=_PATHS, metavar="FILE", help="Write JUnit XML.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the verdicts as JSON and nothing else."
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 10_000),
    default=1,
    metavar="N",
    help="Run each scenario N times, each with the next seed.",
)
@click.option("--baseline", is_flag=True, help="First run each scenario without its faults.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option("--quiet", "-q", is_flag=True, help="Show only what did not pass.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Show every check with its figures, and warnings."
)
@click.option(
    "--jobs", type=click.IntRange(1, 10_000), metavar="N", help="At most N scenarios side by side."
)
@click.option(
    "--toxiproxy",
    metavar="URL",
    help="A Toxiproxy that is already running, such as http://127.0.0.1:8474.",
)
@click.option(
    "--compare",
    metavar="NETWORKS",
    help="Run on each of these, such as embedded,simulated, and show where they differ.",
)
@click.option(
    "--verify-determinism",
    is_flag=True,
    help="Run twice, in two processes, and compare the traces; needs --network simulated.",
)
def run(as_json: bool, compare: str | None, verify_determinism: bool, **options: Any) -> int:
    """Run scenario files; a folder stands for the scenario files directly in it."""
    from chaos.commands.run import Options, run_command

    chosen = Options(json=as_json, **options)
    if compare is not None:
        from chaos.commands.compare import compare_command

        return compare_command(chosen, compare.split(","))
    if verify_determinism:
        from chaos.commands.verify import verify_command

        return verify_command(chosen)
    return run_command(chosen)


@cli.command()
@click.argument("folder", type=_PATHS)
@click.option(
    "--anyway", is_flag=True, help="Also with other versions than those it was recorded with."
)
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="Show every check with its figures, and the trace's digest.",
)
def replay(folder: Path, anyway: bool, verbose: bool) -> int:
    """Run again what a folder with a trace.jsonl holds, and compare."""
    from chaos.commands.replay import replay_command

    return replay_command(folder, anyway=anyway, verbose=verbose)


class _Share(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from click 8.3 on
    """A share such as `20%` or `0.2`."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        try:
            return float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            self.fail(f"expected a share such as 20%, got {value!r}", param, ctx)


class _Shard(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from click 8.3 on
    """A part of the whole, such as `3/8`."""

    name = "shard"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, slash, count = value.partition("/")
        if slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count):
            return int(number), int(count)
        return self.fail(f"expected a part such as 3/8, got {value!r}", param, ctx)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=_PATHS)
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many seeds of each scenario.",
)
@click.option("--first-seed", type=int, default=1, show_default=True, metavar="SEED")
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Processes; default one per processor.",
)
@click.option(
    "--shard",
    type=_Shard(),
    default="1/1",
    metavar="K/N",
    help="Only every Nth seed, from the Kth on: for N machines.",
)
@click.option(
    "--out",
    type=_PATHS,
    metavar="DIR",
    help="Keep results.jsonl, and the trace of each run that does not pass.",
)
@click.option("--resume", is_flag=True, help="Go on with the results in --out.")
@click.option(
    "--stop-after-failures",
    type=click.IntRange(1),
    metavar="N",
    help="Stop once so many runs have failed.",
)
@click.option(
    "--budget",
    "budget_s",
    callback=seconds,
    metavar="TIME",
    help="Stop after this much real time, such as 60s.",
)
@click.option("--client", metavar="USE", help="Client in place of every scenario's own.")
@click.option("--server", metavar="USE", help="Server in place of every scenario's own.")
@click.option(
    "--time-jitter",
    type=_Share(),
    default="20%",
    show_default=True,
    metavar="SHARE",
    help="Move faults by up to this share of the gap to their neighbours.",
)
@click.option(
    "--duration-jitter",
    type=_Share(),
    default="20%",
    show_default=True,
    metavar="SHARE",
    help="Lengthen and shorten windows by up to this share, where that is fair.",
)
@click.option(
    "--no-swarm",
    "swarm",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Leave no kind of fault out.",
)
@click.option(
    "--verify-determinism", is_flag=True, help="Run each seed twice and compare the traces."
)
@click.option(
    "--dask", metavar="ADDRESS", help="Workers of a Dask cluster, such as tcp://scheduler:8786."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Only scenarios with this tag; may be repeated.",
)
@click.option("--recursive", is_flag=True, help="Also the scenario files in subfolders.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
def sweep(as_json: bool, **options: Any) -> int:
    """Run scenarios over many seeds on the simulated network, with fault times varied by each seed."""
    from chaos.commands.sweep import Options, sweep_command

    return sweep_command(Options(json=as_json, **options))


@cli.command()
@click.argument("traces", nargs=-1, required=True, type=_PATHS)
@click.option("--verbose", "-v", is_flag=True, help="Show every check with its figures.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the verdicts as JSON and nothing else."
)
def recheck(traces: tuple[Path, ...], verbose: bool, as_json: bool) -> int:
    """Judge runs again from their trace.jsonl alone."""
    from chaos.commands.recheck import recheck_command

    return recheck_command(traces, verbose=verbose, as_json=as_json)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=_PATHS)
@click.option("--recursive", is_flag=True, help="Also the scenario files in subfolders.")
def validate(paths: tuple[Path, ...], recursive: bool) -> int:
    """Judge scenario files without running anything of them."""
    from chaos.api import find_files
    from chaos.commands.run import load_all

    files = find_files(paths, recursive)
    scenarios, mistakes = load_all(files)
    for mistake in mistakes:
        click.echo(str(mistake))
    wrong = len({mistake.path for mistake in mistakes})
    click.echo(
        f"{len(files) - wrong} valid, {wrong} invalid; {len(scenarios)} scenarios", err=bool(wrong)
    )
    return EXIT_INVALID if mistakes else EXIT_PASSED


@cli.command()
def schema() -> int:
    """Print the JSON Schema of scenario files, for editors."""
    import json

    from chaos.scenario.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return EXIT_PASSED


@cli.command("list")
@click.argument("table", type=click.Choice(TABLES))
def list_(table: str) -> int:
    """Print a table of the vocabulary."""
    from chaos.commands.tables import print_table

    print_table(table)
    return EXIT_PASSED


@cli.command()
@click.argument("name")
@click.option("--folder", type=_PATHS, default=Path(), help="Where to write it; default here.")
def new(name: str, folder: Path) -> int:
    """Write NAME.yaml: a commented scenario that runs, to start from."""
    from chaos.errors import UsageError
    from chaos.scenario.starter import starter

    path = folder / f"{name}.yaml"
    if path.exists():
        raise UsageError(f"{path} is already there")
    text = starter(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"wrote {path}; run it with: trio-chaos run {path}")
    return EXIT_PASSED


cli.add_command(hunt)
cli.add_command(play)
cli.add_command(toxiproxy_server)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code; the entry point of `trio-chaos`."""
    sys.exit(run_cli(lambda: cli.main(arguments, "trio-chaos", standalone_mode=False)))


def run_cli(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code. A user's mistake gives a message, a bug of ours a traceback."""
    if sys.platform == "win32":
        click.echo("trio-chaos: Windows is not supported: expected Linux or macOS", err=True)
        return EXIT_INVALID
    try:
        return int(command() or EXIT_PASSED)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_INVALID
    except InvalidScenario as error:
        click.echo(str(error), err=True)
        return EXIT_INVALID
    except ChaosError as error:
        click.echo(f"trio-chaos: {error}", err=True)
        return EXIT_INVALID
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # who read our output has gone; nothing more can be said to them
        sys.stderr.close()
        return EXIT_PASSED
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("trio-chaos: this is a bug of trio-chaos; please report it", err=True)
        return EXIT_INTERNAL
