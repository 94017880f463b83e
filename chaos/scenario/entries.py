"""Turns the nodes of `timeline` and `expect` into entries and expectations.

Every mistake in a node is noted; an entry or expectation with a mistake has no value, so that no rule judges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chaos.scenario.describe import keys_of
from chaos.scenario.model import Entry, Expectation
from chaos.scenario.nodes import (
    Mapping,
    Mark,
    Mistakes,
    Node,
    Scalar,
    drop_empty,
    nearest_word,
    to_plain,
)
from chaos.scenario.settings import note_value, parse_settings, unknown_key
from chaos.vocabulary.base import Parameters
from chaos.vocabulary.checks import CHECKS
from chaos.vocabulary.faults import FAULTS
from chaos.vocabulary.toxics import TOXICS
from chaos.vocabulary.word import Kind, Peer
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
    value: Entry | Expectation | None = None
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
    keys += ["stream"] if model.directed else []
    # a port that refuses does so to whoever comes
    keys += [] if model.on_path or model.refuses else ["toxicity"]
    return [*keys, *keys_of(model)]


def parse_entry(node: Node, mistakes: Mistakes) -> Parsed:
    """Return one entry of the timeline; its mistakes are noted."""
    before = len(mistakes)
    if not isinstance(node, Mapping):
        mistakes.add(
            node.mark,
            "a timeline entry must be a mapping",
            value=node,
            expected="a mapping such as {at: 20s, for: 40s, fault: stall}",
        )
        return Parsed(node=node, parameters=node)
    name_node = node.values.get("name")
    name = name_node.text if isinstance(name_node, Scalar) else None
    kind = _find_kind(node, mistakes)
    word = _find_word(kind, node, mistakes) if kind is not None else None
    _validate_start(node, mistakes)
    if kind is None or word is None:
        return Parsed(node=node, parameters=node, name=name)
    _note_unknown_keys(node, kind, word, mistakes)
    place, parameters = _parse_parameters(node, kind, word, mistakes)
    entry = _make_entry(node, kind, word, parameters, mistakes)
    good = entry if len(mistakes) == before else None
    return Parsed(node=node, parameters=place, value=good, name=name)


def _find_kind(node: Mapping, mistakes: Mistakes) -> Kind | None:
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
    else:
        meant = (f"`{kind}: {key}`" for key in node.keys for kind in KINDS if key in WORDS[kind])
        mistakes.add(
            node.mark,
            "a timeline entry says nothing to do",
            expected="`toxic`, `fault` or `action`",
            nearest=next(meant, None),
        )
    return None


def _find_word(kind: Kind, node: Mapping, mistakes: Mistakes) -> str | None:
    value = node.values[kind]
    if not isinstance(value, Scalar):
        mistakes.add(
            value.mark,
            f"`{kind}` must name one word",
            value=value,
            expected=f"the word alone, such as `{kind}: {next(iter(WORDS[kind]))}`",
        )
        return None
    word = value.text
    if word in WORDS[kind] and isinstance(value.value, str):
        return word
    own_first = sorted(KINDS, key=lambda other: other != kind)
    other = next((other for other in own_first[1:] if word in WORDS[other]), None)
    if other is not None:
        mistakes.add(
            value.mark,
            f"`{word}` is {_ARTICLES[other]}, not {_ARTICLES[kind]}",
            expected=f"`{other}: {word}`",
        )
        return None
    alike = ((other, nearest_word(word, WORDS[other])) for other in own_first)
    nearest = next((f"`{other}: {found}`" for other, found in alike if found), None)
    known = None if nearest else f"one of {', '.join(WORDS[kind])}"
    mistakes.add(value.mark, f"unknown {kind}", value=value, expected=known, nearest=nearest)
    return None


def _note_unknown_keys(node: Mapping, kind: Kind, word: str, mistakes: Mistakes) -> None:
    """Note keys that this word does not take, each with the reason where there is one."""
    known = entry_keys(kind, word)
    for key, mark, _ in node.modelled():
        if key == kind or key in known:
            continue
        unknown_key(
            mistakes, mark, key, f"`{kind}: {word}`", known, hint=_key_hint(key, kind, word)
        )


def _key_hint(key: str, kind: Kind, word: str) -> str | None:
    if kind == "toxic" and key in keys_of(TOXICS[word]):
        return f"it nested, as in Toxiproxy: `attributes: {{{key}: …}}`"
    hints = {
        "attributes": f"parameters of {_ARTICLES[kind]} beside `{kind}`, not nested",
        "for": f"no window: `{word}` acts at one moment",
        "stream": f"no stream: `{word}` acts on whole connections" if kind == "fault" else None,
        "toxicity": f"no `toxicity`: `{word}` cannot be limited to a share of the connections",
        "by": f"no `by`: it is for actions, and `{word}` is {_ARTICLES[kind]}",
    }
    return hints.get(key)


_TIMES = ("at", "on", "for", "every")


def _validate_start(node: Mapping, mistakes: Mistakes) -> None:
    """Note keys that say when an entry acts and do not go together, each at the last of those that are there."""
    at, on, then, every = (key in node.keys for key in ("at", "on", "then", "every"))
    times = node.values.get("times")
    once = times is None or (isinstance(times, Scalar) and times.value == 1)
    rows: tuple[tuple[bool, tuple[str, ...], str, str], ...] = (
        (at and on, ("at", "on"), "a timeline entry has both `at` and `on`", "just one of them"),
        (
            not (at or on),
            (),
            "a timeline entry does not say when",
            "`at: 20s`, or `on: {event: open, number: 2}`",
        ),
        (then and not on, ("then",), "`then` without `on`", "`at` alone, or `on` with `then`"),
        (every and once, ("every",), "`every` without `times`", "`times: 2` or more"),
        (not (every or once), ("times",), "`times` without `every`", "`every: 10s`"),
    )
    for key in _TIMES:
        if key in node.keys and drop_empty(node.values[key]) is None:
            # it would mean the start, once, or to the end: what nobody has written
            mistakes.add(node.keys[key], f"`{key}` is empty", expected="a value, or no such key")
    for is_wrong, keys, message, expected in rows:
        if is_wrong:
            mark = max((node.keys[key] for key in keys), default=node.mark)
            mistakes.add(mark, message, expected=expected)


def _parse_parameters(
    node: Mapping, kind: Kind, word: str, mistakes: Mistakes
) -> tuple[Node, dict[str, Any]]:
    """Return where the parameters stand, and their values as they are kept."""
    model = WORDS[kind][word]
    if kind == "toxic":
        place = drop_empty(node.values.get("attributes")) or Mapping(mark=node.mark)
        what = f"the attributes of `{word}`"
    else:
        place, what = node.only(keys_of(model)), f"`{kind}: {word}`"
        if "attributes" in node.keys:
            # what stands there is noted already; do not call its keys missing as well
            return place, {}
    return place, plain_settings(parse_settings(place, model, mistakes, what=what))


def plain_settings(settings: Parameters | None) -> dict[str, Any]:
    """Return what was given, as plain data with the keys of the file."""
    if settings is None:
        return {}
    return settings.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _make_entry(
    node: Mapping, kind: Kind, word: str, parameters: dict[str, Any], mistakes: Mistakes
) -> Entry | None:
    model = WORDS[kind][word]
    own = {key for key in entry_keys(kind, word) if key not in keys_of(model) or kind == "toxic"}
    known: dict[str, Any] = {"kind": kind, "word": word, "parameters": parameters}
    if kind == "toxic" and "stream" not in node.keys:
        known["stream"] = "downstream"
    peers: tuple[Peer, ...] = getattr(model, "peers", ())
    if len(peers) == 1 and drop_empty(node.values.get("by")) is None:
        known["by"] = peers[0]
    return parse_settings(
        node.only(own - {"attributes"}),
        Entry,
        mistakes,
        what="the timeline entry",
        hints=_ENTRY_HINTS,
        given=known,
    )


def parse_expectation(node: Node, mistakes: Mistakes) -> Parsed:
    """Return one expectation; its mistakes are noted."""
    before = len(mistakes)
    place: Node = Mapping(mark=node.mark)
    value: Expectation | None = None
    if isinstance(node, Scalar) and isinstance(node.value, str):
        value = _parse_check(node.text, node.mark, place, node, mistakes)
    elif isinstance(node, Mapping) and "use" in node.keys:
        place = node
        value = _parse_own_check(node, mistakes)
    elif isinstance(node, Mapping) and (keys := list(node.modelled())):
        word, mark, inner = keys[0]
        place = drop_empty(inner) or place
        if len(keys) > 1:
            _note_another(word, keys[1][0], keys[1][1], mistakes)
        value = _parse_check(word, mark, place, node, mistakes)
    else:
        mistakes.add(
            node.mark,
            "an expectation must name a check",
            value=node,
            expected="a check, such as `no_leaks` or `reconnects: {within: 20s}`",
        )
    good = value if len(mistakes) == before else None
    return Parsed(node=node, parameters=place, value=good)


def _note_another(word: str, key: str, mark: Mark, mistakes: Mistakes) -> None:
    """Note a key beside the check of an expectation, which holds just one."""
    expected = f"it indented below `{word[:60]}`, or in braces"
    if key in CHECKS:
        expected = f"a list item of its own: `- {key}`"
    mistakes.add(
        mark,
        f"an expectation holds one check, and `{key[:60]}` stands beside `{word[:60]}`",
        expected=expected,
    )


def _parse_check(
    word: str, mark: Mark, place: Node, node: Node, mistakes: Mistakes
) -> Expectation | None:
    if word not in CHECKS:
        nearest = nearest_word(word, CHECKS)
        mistakes.add(
            mark,
            "unknown check",
            value=word[:60],
            expected=None if nearest else f"one of {', '.join(CHECKS)}, or `use: my.module:check`",
            nearest=nearest,
        )
        return None
    if not isinstance(place, Mapping):
        mistakes.add(
            place.mark,
            f"`{word}` must hold a mapping",
            value=place,
            expected=f"its parameters: `{word}: {{key: value}}`",
        )
        return None
    inner = place.only(place.keys.keys() - {"tolerance"})
    settings = parse_settings(inner, CHECKS[word], mistakes, what=f"`{word}`", also=("tolerance",))
    known = {"check": word, "parameters": plain_settings(settings), "line": node.mark.line}
    return _make_expectation(place, known, mistakes)


def _parse_own_check(node: Mapping, mistakes: Mistakes) -> Expectation | None:
    use = node.values["use"]
    if not isinstance(use, Scalar) or not isinstance(use.value, str) or ":" not in use.text:
        note_value(mistakes, "use", use, "`my.module:check` or `path/to/file.py:check`")
    parameters = {
        key: to_plain(value) for key, _, value in node.modelled() if key not in ("use", "tolerance")
    }
    known = {"check": "use", "use": to_plain(use), "parameters": parameters}
    return _make_expectation(node, {**known, "line": node.mark.line}, mistakes)


def _make_expectation(
    place: Mapping, known: dict[str, Any], mistakes: Mistakes
) -> Expectation | None:
    """Return the expectation of what is known and of the `tolerance` that stands here."""
    surface = place.only({"tolerance"})
    return parse_settings(surface, Expectation, mistakes, what="the expectation", given=known)
