"""What commands, explorers, the pytest plugin and other programs call: load, select, run and judge.

Everything here can be called from plain, synchronous code. What a run does is decided in `running`; what a trace
means, in `checks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from chaos.checks.judge import judge as judge_trace
from chaos.checks.verdict import Outcome, Verdict, skipped
from chaos.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INVALID,
    EXIT_PASSED,
    InvalidScenario,
    Mistake,
    UsageError,
    listed,
)
from chaos.running.folder import taken
from chaos.running.job import Job, make_job
from chaos.running.log import folder_name
from chaos.running.pool.suite import Account, Suite, default_slots, run_suite
from chaos.running.result import USAGE
from chaos.scenario.kept import read_scenario
from chaos.scenario.load import load_text, load_with_warnings
from chaos.scenario.model import Expectation, Scenario
from chaos.scenario.read import BYTES_MAX
from chaos.scenario.trace_files import ReadFile
from chaos.subjects.load import load_checks, load_name
from chaos.trace import Trace, parse_trace
from chaos.vocabulary.word import ON_PATHS, Network
from chaos.vocabulary.words import WORDS

SUFFIXES = (".yaml", ".yml")
# What every subject must do while no fault is in force, whatever the scenario is about.
BASELINE_CHECKS = ("no_false_alarm", "never_sends_before_open")


# load


def load(path: str | Path) -> list[Scenario]:
    """Return the scenarios of a file, one per matrix cell.

    Raises:
        InvalidScenario: with every mistake in the file.
        UsageError: it cannot be read.
    """
    return list(load_scenarios(Path(path)))


def load_scenarios(path: Path, *, display: str | None = None) -> tuple[Scenario, ...]:
    """Return the scenarios of a file, one per matrix cell.

    `display` is the path as messages and reports should show it. Raises InvalidScenario with every mistake of
    the file, and UsageError when it cannot be read.
    """
    shown = display if display is not None else str(path)
    return load_text(_text_of(path, shown), shown, read_file=reader_in(path.parent), is_judged=True)


def warnings_of(path: Path) -> tuple[Mistake, ...]:
    """Return what in a valid file cannot work, each with its place. Raises as `load_scenarios` does."""
    shown = str(path)
    return load_with_warnings(_text_of(path, shown), shown, read_file=reader_in(path.parent))[1]


def _text_of(path: Path, shown: str) -> bytes:
    try:
        text = _read_file(path)
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror or error}") from error
    if len(text) > BYTES_MAX:
        mistake = Mistake(shown, 1, 1, "the file is too large", None, "at most 1 MiB")
        raise InvalidScenario((mistake,))
    return text


def reader_in(folder: Path) -> ReadFile:
    """Return what reads the files that a scenario names, counted from this folder; devices are no files."""

    def read(name: str) -> bytes:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(name)
        return _read_file(path)

    return read


def _read_file(path: Path) -> bytes:
    """Return the bytes of a file, at most one more than a scenario may have."""
    with path.open("rb") as file:
        return file.read(BYTES_MAX + 1)


def find_files(paths: Sequence[Path], recursive: bool = False) -> list[Path]:
    """Return the scenario files that these paths stand for.

    A folder stands for the `*.yaml` and `*.yml` files directly in it, sorted by name; with `recursive` also for
    those in its subfolders. Raises UsageError for a path that is not there and for a folder without any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            files = _files_in(path, recursive)
            if not files:
                hint = "" if recursive else "; look into its folders with --recursive"
                raise UsageError(f"no scenario files in {path}, expected *.yaml or *.yml{hint}")
            found.update(dict.fromkeys(files))
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(f"no such file or folder: {path}{_nearest_path(path)}")
    return list(found)


def _files_in(folder: Path, recursive: bool) -> list[Path]:
    try:
        entries = list(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from error
    return sorted(file for file in entries if file.suffix in SUFFIXES and file.is_file())


def _nearest_path(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""


# select


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which scenarios are meant, with which subjects in place of their own, and on which network they run.

    `tags`: only scenarios that have one of them. `toxiproxy`: the URL of a Toxiproxy that is already running.
    `strict`: what is not applicable to the subjects is INCONCLUSIVE; else it is left out.
    """

    paths: tuple[Path, ...]
    recursive: bool = False
    tags: tuple[str, ...] = ()
    client: str | None = None
    server: str | None = None
    network: Network = "embedded"
    toxiproxy: str | None = None
    strict: bool = False

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Return the selection that a command's options make, and take them out of the options."""
        names = [row.name for row in fields(cls)]
        return cls(**{name: options.pop(name) for name in names if name in options})

    def files(self) -> list[Path]:
        """Return the files meant. Raises UsageError as `find_files` does."""
        return find_files(self.paths, self.recursive)

    def why_not(self, scenario: Scenario) -> str | None:
        """Return why a scenario cannot run so, or None."""
        return why_not(scenario, self.network, client=self.client, server=self.server)

    def job(self, scenario: Scenario, seed: int, out: str | Path | None) -> Job:
        """Return a run of a scenario to make; its results go to the folder `out`."""
        return make_job(
            scenario,
            network=self.network,
            seed=seed,
            out=None if out is None else str(out),
            client=self.client,
            server=self.server,
            toxiproxy=self.toxiproxy,
            strict=self.strict,
        )


def why_not(
    scenario: Scenario, network: str, *, client: str | None = None, server: str | None = None
) -> str | None:
    """Return why a scenario cannot run on a network, with these subjects in place of its own, or None."""
    if network not in scenario.networks:
        return f"meant for {', '.join(scenario.networks)}"
    for side, subject, given in (
        ("client", scenario.client, client),
        ("server", scenario.server, server),
    ):
        if given is None and (subject.command or getattr(subject, "url", None)):
            return f"the {side} is not a callable in this process, which is all that can be run yet"
    needed = [(row.word, WORDS[row.kind][row.word].support) for row in scenario.timeline]
    needed += [("paths", ON_PATHS)] if scenario.paths is not None else []
    for word, networks in needed:
        support, reason = networks[network]
        if support == "unsupported":
            return f"{word} on {network}: {reason}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What a selection comes to: the scenarios that run, and those that do not, each with its reason."""

    selection: Selection
    scenarios: tuple[Scenario, ...]
    skipped: tuple[tuple[Scenario, str], ...] = ()

    def skipped_verdicts(self, seed: int = 1) -> list[Verdict]:
        """Return a SKIPPED verdict for each scenario that does not run."""
        network = self.selection.network
        return [
            skipped(scenario=row.title, path=row.path, network=network, seed=seed, reason=reason)
            for row, reason in self.skipped
        ]

    def jobs(
        self, seed: int = 1, *, repeat: int = 1, baseline: bool = False, out: Path | None = None
    ) -> list[Job]:
        """Return the runs to make of each scenario: `repeat` times, each with the next seed.

        With `baseline` each runs without its faults first. `out` is the folder for the results.
        """
        found = []
        known: Counter[str] = Counter()
        for scenario in self.scenarios:
            rows = [(without_faults(scenario), 0)] if baseline else []
            known[scenario.title] += 1
            # scenarios of one name keep their results apart
            twin = f"~{known[scenario.title]}" if known[scenario.title] > 1 else ""
            for row, number in [*rows, *((scenario, turn) for turn in range(repeat))]:
                folder = None if out is None else out / f"{folder_name(row.title)}{twin}"
                if folder is not None and repeat > 1:
                    folder /= f"{number + 1}"
                found.append(self.selection.job(row, seed + number, folder))
        return found


def read_all(files: Sequence[Path]) -> tuple[list[Scenario], tuple[Mistake, ...]]:
    """Return the scenarios of all files, and the mistakes of all of them together."""
    scenarios: list[Scenario] = []
    mistakes: list[Mistake] = []
    for file in files:
        try:
            scenarios += load_scenarios(file)
        except InvalidScenario as error:
            mistakes += error.mistakes
    return scenarios, tuple(mistakes)


def select(selection: Selection) -> Selected:
    """Load what a selection means.

    Raises:
        InvalidScenario: with the mistakes of every file.
        UsageError: a path is not there, or no scenario has one of the tags.
    """
    scenarios, mistakes = read_all(selection.files())
    if mistakes:
        raise InvalidScenario(mistakes)
    if selection.tags:
        scenarios = [row for row in scenarios if set(selection.tags) & set(row.tags)]
        if not scenarios:
            raise UsageError(f"no scenario has the tag {listed(selection.tags)}")
    reasons = [(scenario, selection.why_not(scenario)) for scenario in scenarios]
    return Selected(
        selection=selection,
        scenarios=tuple(row for row, reason in reasons if reason is None),
        skipped=tuple((row, reason) for row, reason in reasons if reason is not None),
    )


def without_faults(scenario: Scenario) -> Scenario:
    """Return a scenario without its faults, its baseline: a subject that fails it is broken, not fragile."""
    kept = tuple(
        row
        for row in scenario.expect
        if row.check in ("delivers", "no_leaks", "availability", "cost")
        and "cycles" not in row.parameters
    )
    known = {row.check for row in kept}
    added = (
        Expectation.model_validate({"check": name}) for name in BASELINE_CHECKS if name not in known
    )
    changes = {
        "name": f"{scenario.name}.baseline",
        "timeline": (),
        "expect": (*added, *kept),
        "steady_state": "default",
    }
    return scenario.model_copy(update=changes)


# run


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of jobs: the verdicts of those that ran, in the order of the jobs.

    `again` counts those that were run a second time, alone, since the machine had been too busy for the first.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    interrupted: bool = False
    again: int = 0


class SilentAccount(Account):
    """An account of runs that nobody reads."""

    def started(self, job: Job) -> None:
        """Ignore that a run has started."""

    def progress(self, job: Job, at_s: float, what: str, opens: int) -> None:
        """Ignore how far a run has come."""

    def postponed(self, job: Job) -> None:
        """Say nothing."""

    def finished(self, job: Job, verdict: Verdict) -> None:
        """Ignore that a run is over."""


def run_jobs(
    jobs: Sequence[Job],
    account: Account | None = None,
    *,
    at_most: int | None = None,
    fail_fast: bool = False,
) -> Done:
    """Run jobs side by side, each in a process of its own.

    At most `at_most` at once, by default as many as this machine carries. Ctrl-C and SIGTERM stop the runs, which
    still hand in what they have.
    """
    suite = Suite(jobs, account or SilentAccount(), at_most or default_slots(), fail_fast=fail_fast)
    verdicts = run_suite(suite)
    return Done(verdicts=verdicts, interrupted=suite.interrupted, again=suite.again)


def run_alone(job: Job) -> Verdict:
    """Run one job and return its verdict. Raises KeyboardInterrupt when it is interrupted."""
    done = run_jobs([job])
    if done.interrupted:
        raise KeyboardInterrupt
    return done.verdicts[0]


def run(
    scenario: Scenario,
    *,
    network: Network = "embedded",
    seed: int = 1,
    client: str | None = None,
    server: str | None = None,
    out: str | Path | None = None,
) -> Verdict:
    """Run a scenario in a process of its own and return the verdict.

    Args:
        scenario: one of those that `load` returns.
        network: `embedded`, `toxiproxy` or `simulated`.
        seed: every random choice derives from it.
        client: a client in place of the scenario's own, such as `my.module:client` or `file.py:client`.
        server: a server in place of the scenario's own.
        out: the folder for `trace.jsonl` and `verdict.json`; by default nothing is written.

    Raises:
        UsageError: the scenario cannot run on this network, or another run writes to that folder.
        KeyboardInterrupt: it was interrupted.
    """
    selection = Selection(paths=(), network=network, client=client, server=server)
    reason = selection.why_not(scenario)
    if reason is not None:
        raise UsageError(f"{scenario.title} cannot run: {reason}")
    with taken(None if out is None else Path(out)):
        return run_alone(selection.job(scenario, seed, out))


# judge


def read_trace(path: str | Path) -> Trace:
    """Return the trace in a run's folder, or in a file; it has what checks and replays rely on.

    Raises:
        UsageError: there is none.
    """
    given = Path(path)
    file = given / "trace.jsonl" if given.is_dir() else given
    try:
        if file.exists() and not file.is_file():
            raise UsageError(f"cannot read {file}: it is no file")
        with file.open(encoding="utf-8") as lines:
            trace = parse_trace(lines)
        read_scenario(trace)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no trace: it is not text in UTF-8") from error
    except ValueError as error:
        raise UsageError(f"{file} is no trace: {error}") from error
    return trace


def judge(trace: Trace, *, checks: Sequence[str] = (), trusted: bool = False) -> Verdict:
    """Return the verdict on a trace; nothing is run again.

    A trace is data: no code that it names is run. A check of the user's own that it expects is judged by a function
    of `checks` (files such as `checks.py`, modules, or single functions as `checks.py:mine`), and is INCONCLUSIVE
    where none of these has it. With `trusted` the checks that the trace names are run.

    Raises:
        SubjectNotFound: one of `checks` cannot be had.
    """
    if trusted:
        path = trace.header.scenario.get("path")
        base = Path(path).parent if path else None
        return judge_trace(trace, check_loader=lambda name: load_name(name, base=base))
    return judge_trace(trace, check_loader=load_checks(checks))


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return the exit code of a run: wrong usage, failed, inconclusive or everything skipped, passed."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if any(finding.check == USAGE for verdict in verdicts for finding in verdict.findings):
        return EXIT_INVALID
    if Outcome.FAIL in outcomes:
        return EXIT_FAILED
    if Outcome.INCONCLUSIVE in outcomes or outcomes <= {Outcome.SKIPPED}:
        return EXIT_INCONCLUSIVE
    return EXIT_PASSED
