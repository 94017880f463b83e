"""The surface of `timeline` and `expect`: nodes to entries and expectations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chaos.scenario.describe import keys_of
from chaos.scenario.model import Entry, Expectation
from chaos.scenario.nodes import Mapping, Mark, Mistakes, Node, Scalar, nearest_word, to_plain
from chaos.scenario.settings import note_value, parse_settings, unknown_key
from chaos.vocabulary.actions import Action
from chaos.vocabulary.base import Parameters
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import Kind
from chaos.vocabulary.words import KINDS, WORDS

_ARTICLES = {"toxic": "a toxic", "fault": "a fault", "action": "an action"}
_COMMON = ("at", "on", "then", "for", "every", "times", "name", "clients", "allow_unfelt")
_ENTRY_HINTS = {"then": "`then` beside `on`, not inside it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One timeline entry or expectation with its place; `value` is None when something is wrong in it."""

    node: Node
    # where its parameters stand: the node itself, `attributes`, or what a check's name holds
    parameters: Node
    value: Entry | Expectation | None
    name: str | None = None


def entry_keys(kind: Kind, word: str) -> list[str]:
    """Return the keys that a timeline entry of this word may have beside `toxic`, `fault` or `action`."""
    model = WORDS[kind][word]
    keys = list(_COMMON)
    if model.instant:
        keys.remove("for")
    if kind == "toxic":
        return [*keys, "stream", "toxicity", "attributes"]
    if kind == "action":
        return [*keys, "by", *keys_of(model)]
    directed = ["stream"] if model.directed else []
    shared = [] if model.on_path else ["toxicity"]
    return [*keys, *directed, *shared, *keys_of(model)]


def parse_entry(node: Node, mistakes: Mistakes) -> Parsed:
    """Return one entry of the timeline; its mistakes are noted."""
    before = len(mistakes)
    if not isinstance(node, Mapping):
        expected = "a mapping such as {at: 20s, for: 40s, fault: stall}"
        mistakes.add(node.mark, "a timeline entry must be a mapping", value=node, expected=expected)
        return Parsed(node=node, parameters=node, value=None)
    name_node = node.values.get("name")
    name = name_node.text if isinstance(name_node, Scalar) else None
    kind = _kind(node, mistakes)
    word = _word(kind, node, mistakes) if kind is not None else None
    if kind is None or word is None:
        _check_when(node, mistakes)
        return Parsed(node=node, parameters=node, value=None, name=name)
    _check_keys(node, kind, word, mistakes)
    _check_when(node, mistakes)
    place, parameters = _parameters(node, kind, word, mistakes)
    entry = _entry(node, kind, word, parameters, mistakes)
    good = entry if len(mistakes) == before else None
    return Parsed(node=node, parameters=place, value=good, name=name)


def _kind(node: Mapping, mistakes: Mistakes) -> Kind | None:
    present: list[Kind] = [kind for kind in KINDS if kind in node.values]
    if "fault" in present and "action" in present:
        word = node.values["fault"]
        model = FAULTS.get(word.text) if isinstance(word, Scalar) else None
        if model is not None and "action" in keys_of(model):
            present.remove("action")  # a parameter of that fault: what a middlebox does
    if len(present) == 1:
        return present[0]
    if present:
        mark = sorted(node.keys[kind] for kind in present)[1]
        both = " and ".join(f"`{kind}`" for kind in present)
        mistakes.add(mark, f"a timeline entry has {both}", expected="just one; write two entries")
        return None
    message = "a timeline entry says nothing to do"
    meant = (f"`{kind}: {key}`" for key in node.keys for kind in KINDS if key in WORDS[kind])
    nearest = next(meant, None)
    mistakes.add(node.mark, message, expected="`toxic`, `fault` or `action`", nearest=nearest)
    return None


def _word(kind: Kind, node: Mapping, mistakes: Mistakes) -> str | None:
    value = node.values[kind]
    table = WORDS[kind]
    if not isinstance(value, Scalar):
        expected = f"the word alone, such as `{kind}: {next(iter(table))}`"
        mistakes.add(value.mark, f"`{kind}` must name one word", value=value, expected=expected)
        return None
    word = value.text
    if word in table and isinstance(value.value, str):
        return word
    for other in KINDS:
        if other != kind and word in WORDS[other]:
            mistakes.add(
                value.mark,
                f"`{word}` is {_ARTICLES[other]}, not {_ARTICLES[kind]}",
                expected=f"`{other}: {word}`",
            )
            return None
    nearest = _nearest_anywhere(kind, word)
    known = None if nearest else f"one of {', '.join(table)}"
    mistakes.add(value.mark, f"unknown {kind}", value=value, expected=known, nearest=nearest)
    return None


def _nearest_anywhere(kind: Kind, word: str) -> str | None:
    tables: list[Kind] = [kind, *(other for other in KINDS if other != kind)]
    for table in tables:
        found = nearest_word(word, WORDS[table])
        if found:
            return f"`{table}: {found}`"
    return None


def _check_keys(node: Mapping, kind: Kind, word: str, mistakes: Mistakes) -> None:
    """Note keys that this word does not take, each with the reason where there is one."""
    known = entry_keys(kind, word)
    for key, mark, _ in node.modelled():
        if key == kind or key in known:
            continue
        hint = _key_hint(key, kind, word)
        unknown_key(mistakes, mark, key, f"`{kind}: {word}`", known, hint=hint)


def _key_hint(key: str, kind: Kind, word: str) -> str | None:
    if kind == "toxic" and key in keys_of(TOXICS[word]):
        return f"it nested, as in Toxiproxy: `attributes: {{{key}: …}}`"
    if key == "attributes":
        return f"parameters of {_ARTICLES[kind]} beside `{kind}`, not nested"
    if key == "for":
        return f"no window: `{word}` acts at one moment"
    if key == "stream" and kind == "fault":
        return f"no stream: `{word}` acts on whole connections"
    if key == "by":
        return f"no `by`: it is for actions, and `{word}` is {_ARTICLES[kind]}"
    return None


def _check_when(node: Mapping, mistakes: Mistakes) -> None:
    keys = node.keys
    if "at" in keys and "on" in keys:
        mark = max(keys["at"], keys["on"])
        mistakes.add(mark, "a timeline entry has both `at` and `on`", expected="just one of them")
    elif "at" not in keys and "on" not in keys:
        mistakes.add(
            node.mark,
            "a timeline entry does not say when",
            expected="`at: 20s`, or `on: {event: open, number: 2}`",
        )
    if "then" in keys and "on" not in keys:
        mistakes.add(
            keys["then"], "`then` without `on`", expected="`at` alone, or `on` with `then`"
        )
    times = node.values.get("times")
    once = times is None or (isinstance(times, Scalar) and times.value == 1)
    if "every" in keys and once:
        mistakes.add(keys["every"], "`every` without `times`", expected="`times: 2` or more")
    if "every" not in keys and not once:
        mistakes.add(keys["times"], "`times` without `every`", expected="`every: 10s`")


def _parameters(
    node: Mapping, kind: Kind, word: str, mistakes: Mistakes
) -> tuple[Node, dict[str, Any]]:
    """Return where the parameters stand, and their values as they are kept."""
    model = WORDS[kind][word]
    known = keys_of(model)
    place: Node = node
    if kind == "toxic":
        empty = Mapping(mark=node.mark, keys={}, values={})
        place = node.values.get("attributes", empty)
        if isinstance(place, Scalar) and place.value is None:
            place = empty
    elif isinstance(node, Mapping):
        keys = {key: mark for key, mark in node.keys.items() if key in known}
        place = Mapping(mark=node.mark, keys=keys, values={key: node.values[key] for key in keys})
        if "attributes" in node.keys:
            return (
                place,
                {},
            )  # what stands there is noted already; do not call its keys missing as well
    what = f"the attributes of `{word}`" if kind == "toxic" else f"`{kind}: {word}`"
    settings = parse_settings(place, model, mistakes, what=what)
    return place, plain_settings(settings)


def plain_settings(settings: Parameters | None) -> dict[str, Any]:
    """Return what was given, as plain data with the keys of the file."""
    if settings is None:
        return {}
    return settings.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _entry(
    node: Mapping, kind: Kind, word: str, parameters: dict[str, Any], mistakes: Mistakes
) -> Entry | None:
    model = WORDS[kind][word]
    own = [key for key in entry_keys(kind, word) if key not in keys_of(model) or kind == "toxic"]
    keys = {key: mark for key, mark in node.keys.items() if key in own and key != "attributes"}
    values = {key: node.values[key] for key in keys}
    surface = Mapping(mark=node.mark, keys=keys, values=values)
    entry = parse_settings(
        surface,
        Entry,
        mistakes,
        what="the timeline entry",
        hints=_ENTRY_HINTS,
        given={"kind": kind, "word": word, "parameters": parameters},
    )
    if entry is None:
        return None
    changes: dict[str, Any] = {}
    if kind == "toxic" and "stream" not in keys:
        changes["stream"] = "downstream"
    peers = model.peers if issubclass(model, Action) else ()
    if len(peers) == 1 and entry.by is None:
        changes["by"] = peers[0]
    return entry.model_copy(update=changes)


def parse_expectation(node: Node, mistakes: Mistakes) -> Parsed:
    """Return one expectation; its mistakes are noted."""
    before = len(mistakes)
    empty = Mapping(mark=node.mark, keys={}, values={})
    place: Node = empty
    value: Expectation | None = None
    if isinstance(node, Scalar) and isinstance(node.value, str):
        value = _check(node.text, node.mark, empty, node, mistakes)
    elif isinstance(node, Mapping) and "use" in node.keys:
        place = node
        value = _own_check(node, mistakes)
    elif isinstance(node, Mapping) and (keys := list(node.modelled())):
        word, mark, inner = keys[0]
        place = empty if isinstance(inner, Scalar) and inner.value is None else inner
        if len(keys) > 1:
            _several(word, keys[1][0], keys[1][1], mistakes)
        value = _check(word, mark, place, node, mistakes)
    else:
        expected = "a check, such as `no_leaks` or `reconnects: {within: 20s}`"
        mistakes.add(node.mark, "an expectation must name a check", value=node, expected=expected)
    good = value if len(mistakes) == before else None
    return Parsed(node=node, parameters=place, value=good)


def _several(word: str, key: str, mark: Mark, mistakes: Mistakes) -> None:
    message = f"an expectation holds one check, and `{key[:60]}` stands beside `{word[:60]}`"
    if key in CHECKS:
        mistakes.add(mark, message, expected=f"a list item of its own: `- {key}`")
    else:
        expected = f"it indented below `{word[:60]}`, or in braces"
        mistakes.add(mark, message, expected=expected)


def _check(
    word: str, mark: Mark, place: Node, node: Node, mistakes: Mistakes
) -> Expectation | None:
    if word not in CHECKS:
        nearest = nearest_word(word, CHECKS)
        expected = None if nearest else f"one of {', '.join(CHECKS)}, or `use: my.module:check`"
        mistakes.add(mark, "unknown check", value=word[:60], expected=expected, nearest=nearest)
        return None
    if not isinstance(place, Mapping):
        expected = f"its parameters: `{word}: {{key: value}}`"
        mistakes.add(place.mark, f"`{word}` must hold a mapping", value=place, expected=expected)
        return None
    inner, tolerance = _split(place, "tolerance")
    settings = parse_settings(inner, CHECKS[word], mistakes, what=f"`{word}`", also=("tolerance",))
    surface = {"check": word, "parameters": plain_settings(settings), "line": node.mark.line}
    return _expectation(tolerance, surface, mistakes)


def _own_check(node: Mapping, mistakes: Mistakes) -> Expectation | None:
    use = node.values["use"]
    if not isinstance(use, Scalar) or not isinstance(use.value, str) or ":" not in use.text:
        note_value(mistakes, "use", use, "`my.module:check` or `path/to/file.py:check`")
    rest, tolerance = _split(node, "tolerance")
    parameters = {key: to_plain(value) for key, _, value in rest.modelled() if key != "use"}
    surface = {
        "check": "use",
        "use": to_plain(use),
        "parameters": parameters,
        "line": node.mark.line,
    }
    return _expectation(tolerance, surface, mistakes)


def _split(node: Mapping, key: str) -> tuple[Mapping, Mapping]:
    """Return the mapping without a key, and the mapping of that key alone."""
    parts = []
    for wanted in (False, True):
        keys = {name: mark for name, mark in node.keys.items() if (name == key) is wanted}
        values = {name: node.values[name] for name in keys}
        parts.append(Mapping(mark=node.mark, keys=keys, values=values))
    return parts[0], parts[1]


def _expectation(
    tolerance: Mapping, surface: dict[str, Any], mistakes: Mistakes
) -> Expectation | None:
    return parse_settings(tolerance, Expectation, mistakes, what="the expectation", given=surface)
