"""Find a subject by its name, and see what it takes and can do.

A name is `reference`, `my.module:name` or `path/to/file.py:name`. What a subject takes are the options that it names;
what it can do is what it declares with `chaos.subject`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from chaos.errors import NotApplicable, SubjectNotFound
from chaos.scenario.model import Scenario
from chaos.scenario.plan import Plan
from chaos.subject import Abilities, abilities_of
from chaos.trace import Side
from chaos.vocabulary.actions import Action

REFERENCE: Mapping[Side, str] = {
    "client": "chaos.reference.client:client",
    "server": "chaos.reference.server:serve",
}


def load(use: str, side: Side, *, base: Path | None = None) -> Callable[..., Any]:
    """Return the callable that a subject's name stands for. Imports the module, so it runs its code.

    Args:
        use: `reference`, `my.module:name`, or `path/to/file.py:name`.
        side: which reference peer `reference` means.
        base: folder that relative file paths count from: the scenario file's, then the working directory.

    Raises:
        SubjectNotFound: with the name, what is wrong with it, and the nearest name that is there.
    """
    return load_name(REFERENCE[side] if use == "reference" else use, base=base)


def load_name(name: str, *, base: Path | None = None) -> Callable[..., Any]:
    """Return the callable that `my.module:name` or `path/to/file.py:name` stands for. See `load`."""
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise SubjectNotFound(
            f"{name!r} names no subject; expected reference, my.module:name or path/to/file.py:name"
        )
    module = _load_place(place, base)
    value = getattr(module, attribute, None)
    if value is None:
        close = difflib.get_close_matches(attribute, dir(module), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SubjectNotFound(f"{place} has no {attribute!r}{hint}")
    if not callable(value):
        raise SubjectNotFound(f"{name} is not callable; expected an async function")
    return value  # type: ignore[no-any-return]


def load_checks(given: Sequence[str]) -> Callable[[str], Callable[..., Any] | None]:
    """Return what finds a check of the user's own by the name that a scenario has for it, among those given only.

    Given are files and modules, of which each function counts that is written there, and single functions of these
    (`checks.py:mine`). A scenario's `somewhere/checks.py:mine` and `my.checks:mine` both mean `mine` of a given
    `checks`: where that is, only the caller says.

    Raises:
        SubjectNotFound: one of them cannot be had.
    """
    known: dict[tuple[str, str], Callable[..., Any]] = {}
    for name in given:
        place, _, attribute = name.rpartition(":")
        if place and not name.endswith(".py"):
            known[_last_part(place), attribute] = load_name(name)
            continue
        module = _load_place(name, None)
        for key, value in vars(module).items():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                known[_last_part(name), key] = value

    def find(name: str) -> Callable[..., Any] | None:
        place, _, attribute = name.rpartition(":")
        return known.get((_last_part(place), attribute))

    return find


def _last_part(place: str) -> str:
    """Return the last part of a module's or a file's name, without its suffix."""
    if place.endswith(".py"):
        return place[:-3].replace("\\", "/").rpartition("/")[2]
    return place.rpartition(".")[2]


def code_of(scenario: Scenario, *, base: Path | None = None) -> list[str]:
    """Return what a run of a scenario runs that is not shipped: each file, module and command, with who it is.

    A file has its whole path, and a module the folder from which it is looked for, so that equal answers mean the
    same code.
    """
    subjects = (("client", scenario.client), ("server", scenario.server))
    found = [
        f"{who}: {_where(one.use, base)}"
        for who, one in subjects
        if one.use not in (None, "reference")
    ]
    found += [f"{who}: {shlex.join(one.command)}" for who, one in subjects if one.command]
    found += [f"check: {_where(row.use, base)}" for row in scenario.expect if row.use is not None]
    return found


def _where(name: str | None, base: Path | None) -> str:
    place, _, attribute = (name or "").rpartition(":")
    if not place.endswith(".py"):
        return f"{name} (a module, looked for from {Path.cwd()})"
    return f"{find_file(place, base) or Path(place).resolve()}:{attribute}"


def find_file(place: str, base: Path | None) -> Path | None:
    """Return the file that a scenario in the folder `base` means by this name, or None."""
    found = (path for path in _candidates(place, base) if path.is_file())
    return next((path.resolve() for path in found), None)


def _load_place(place: str, base: Path | None) -> Any:
    return _load_file(place, base) if place.endswith(".py") else _load_module(place)


def _candidates(place: str, base: Path | None) -> list[Path]:
    """Return where a file may be that a scenario in the folder `base` names."""
    return [folder / place for folder in (base, Path.cwd()) if folder is not None]


def _load_module(place: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does, so that a module beside the scenario is found
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise SubjectNotFound(f"cannot import {place}: {error}") from error
    except Exception as error:
        raise _import_failed(place, error) from error


def _load_file(place: str, base: Path | None) -> Any:
    path = find_file(place, base)
    if path is None:
        candidates = _candidates(place, base)
        raise SubjectNotFound(
            f"no file {place}; looked in {', '.join(str(c.parent) for c in candidates)}"
        )
    if str(path.parent) not in sys.path:
        # last, so that a file beside the subject is found and hides nothing that is installed
        sys.path.append(str(path.parent))
    name = f"chaos_subject_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _import_failed(place, error) from error
    return module


def _import_failed(place: str, error: Exception) -> SubjectNotFound:
    return SubjectNotFound(f"importing {place} failed: {type(error).__name__}: {error}")


def accepted_options(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that a callable names, or all of them if it takes `**options`."""
    plain = isinstance(function, FunctionType) and not hasattr(function, "__wrapped__")
    if plain and function.__code__.co_flags & inspect.CO_VARKEYWORDS:
        return dict(options)  # most do; a signature takes long to make
    parameters = inspect.signature(function).parameters
    if any(row.kind is inspect.Parameter.VAR_KEYWORD for row in parameters.values()):
        return dict(options)
    return {name: value for name, value in options.items() if name in parameters}


def fit_workload(
    scenario: Scenario, server: Callable[..., Any], client: Callable[..., Any]
) -> tuple[Scenario, tuple[str, ...]]:
    """Return the scenario with the workload that these subjects can send, and what was left out of it.

    Lines of a subject that does not declare that it sends are left out. Where none is left, the server's messages
    stand in for the client's, if the server can send.
    """
    able: dict[Side, bool] = {
        "server": abilities_of(server).sends,
        "client": abilities_of(client).sends,
    }
    kept = tuple(line for line in scenario.workload if able[line.sender])
    left = tuple(line for line in scenario.workload if not able[line.sender])
    if not left:
        return scenario, ()
    notes = [
        f"the {side} does not declare that it sends: its part of the workload is left out"
        for side in dict.fromkeys(line.sender for line in left)
    ]
    if not kept and able["server"]:
        kept = tuple(line.model_copy(update={"sender": "server"}) for line in left)
        notes.append("the server's messages stand in for it")
    return scenario.model_copy(update={"workload": kept}), tuple(notes)


def check_abilities(plan: Plan, server: Callable[..., Any], client: Callable[..., Any]) -> None:
    """Raise NotApplicable if the timeline asks a subject for what it does not declare."""
    subjects: tuple[tuple[Side, Callable[..., Any]], ...] = (("server", server), ("client", client))
    declared: dict[Side, Abilities] = {side: abilities_of(one) for side, one in subjects}
    wrong = [
        f"the {side} does not declare the action {word!r}"
        for side, abilities in declared.items()
        for word in plan.actions_of(side)
        if word not in abilities.actions
    ]
    wrong += [
        f"the server does not declare that it tells clients apart, which `clients` of {entry.word!r} needs"
        for entry, words in zip(plan.scenario.timeline, plan.settings, strict=True)
        if isinstance(words, Action)
        and not words.by_runner
        and (entry.by or words.peers[0]) == "server"
        and entry.clients is not None
        and not declared["server"].tells_clients
    ]
    if wrong:
        hint = "; see `chaos.subject` for how a subject declares what it can do"
        raise NotApplicable("; ".join(dict.fromkeys(wrong)) + hint)
