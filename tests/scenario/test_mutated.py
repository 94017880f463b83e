"""Shipped files with random damage: each is a scenario, or has mistakes that are told; nothing else may come out."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from chaos.errors import InvalidScenario
from chaos.scenario.load import load_with_warnings

FOLDER = Path(__file__).parents[2] / "scenarios"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.yaml"))]
ROUNDS, PER_ROUND = 10, 60
SCRAPS = (
    "${A B}", "${beat}", "${}", "$", "[", "]", "{", "}", "null", "~", "1e999", "-1s", "0s", "\0", "*a", "&a",
    "!!int x", "5", "true", "''", "{a: b}", "- x", "99999999999999999999", "1h", "nan", ".inf", "\t", "#", "|", ">",
    "on", "at", "for", "every: 1ms", "times: 10000", "clients: [1]", "clients: []", "name: 5", "by: server",
)  # fmt: skip
WORD = re.compile(r"[\w.]+")


def damaged(text: str, random: Random) -> str:
    """Return a text with a scrap put in or in place of a word, a line doubled or left out, or a few letters gone."""
    lines = text.split("\n")
    at, line = random.randrange(len(text) + 1), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            return text[:at] + random.choice(SCRAPS) + text[at:]
        case 1:
            return "\n".join(lines[:line] + lines[line + 1 :])
        case 2:
            return "\n".join([*lines[:line], random.choice(lines), *lines[line:]])
        case 3:
            return text[:at] + text[at + random.randint(1, 6) :]
    words = list(WORD.finditer(text)) or [re.match("", text)]
    word = random.choice(words)
    assert word is not None
    return text[: word.start()] + random.choice(SCRAPS) + text[word.end() :]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_damage_is_told_and_never_raised(seed: int) -> None:
    random = Random(seed)
    invalid = 0
    for _ in range(PER_ROUND):
        text = random.choice(TEXTS)
        for _ in range(random.randint(1, 4)):
            text = damaged(text, random)
        try:
            load_with_warnings(text, "damaged.yaml")
        except InvalidScenario as error:
            assert all(mistake.line >= 1 and mistake.column >= 1 for mistake in error.mistakes), (
                text
            )
            invalid += 1
    assert 0 < invalid < PER_ROUND
