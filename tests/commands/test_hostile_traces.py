"""Traces with random damage, or made to run code: `recheck` and `replay` say one sentence, and run nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.api import load
from chaos.commands.main import cli, run_cli
from chaos.errors import EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_PASSED
from chaos.running.job import make_job
from chaos.running.process import run_trace
from chaos.trace import dump_trace

SCENARIOS = Path(__file__).parents[2] / "scenarios"
# each has kinds of events and of settings that the others have not
FILES = (
    *(
        "01-first-connection",
        "05-final-code-4000",
        "10-no-duplicate-handlers",
        "11-half-open",
        "13-slow-link",
    ),
    *(
        "22-too-many-requests",
        "30-drain",
        "broken/07-hammer",
        "broken/28-subscribes-once",
        "broken/10-herd",
    ),
    *("broken/12-handlers-pile-up", "broken/15-ignores-retry-after", "60-asymmetric-satellite"),
)
ROUNDS, PER_ROUND = 6, 500
CANARY = "canary.py"
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 10**6, 2**70, 10**400, 0.5, -1e300, 1e308),
    *("", "x", "NaN", "client", "server", "5s", "0s", "-1s", "1e9h", "é\x1b[31m\u202e\x00", "../../x", "a" * 70_000),
    *([], [1], [[]], {}, {"": {}}, {"use": "x"}, [None] * 20, {"trace": 2}),
    *(f"{CANARY}:run", f"/{CANARY}:run", "subprocess:Popen", "os:system", f"{CANARY}", "${nope}"),
    *(["sh", "-c", "touch ran"], {"check": "use", "use": f"{CANARY}:run", "parameters": {"args": "touch ran"}}),
)  # fmt: skip
LINES = (
    *("", "null", "[]", "{}", "1e999", '{"at_s":NaN,"kind":"end"}', '{"at_s":Infinity,"kind":"end"}'),
    *("[" * 100_000, '{"a":' * 50_000, '{"at_s":1,"kind":"felt","data":{}}', '{"at_s":1e999,"kind":"lag"}'),
    *('{"at_s":"1","kind":"end"}', '{"at_s":1,"kind":["end"]}', '{"at_s":1,"kind":"frame","data":[]}', "\ud800"),
    '{"at_s":1,"kind":"felt","client":1,"connection":1,"data":{"entry":' + "9" * 4000 + "}}",
)  # fmt: skip


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


@cache
def lines_of(name: str) -> list[str]:
    """Return the lines of a real trace of a shipped scenario."""
    scenario = load(SCENARIOS / f"{name}.yaml")[0]
    _, trace = run_trace(make_job(scenario, network="simulated", seed=1))
    return dump_trace(trace).splitlines()


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module that leaves a file when it is imported or called; nothing else may appear."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / CANARY).write_text(
        "open('ran', 'w').close()\ndef run(*a, **k): open('ran', 'w').close()\n"
    )
    before = {CANARY, "hurt.jsonl"}
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= before | {"__pycache__"} - {"ran"}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside a value of JSON."""
    rows = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in rows:
        yield (*path, key)
        yield from places(inner, (*path, key))


def hurt_row(line: str, random: Random) -> str:
    """Return a line with one value replaced, taken away, or put under another key."""
    row = json.loads(line)
    *path, key = random.choice(list(places(row)))
    inner = row
    for part in path:
        inner = inner[part]
    match random.randrange(4):
        case 0:
            del inner[key]
        case 1 if isinstance(inner, dict):
            inner[random.choice(("x", "use", "command", "entry", "client"))] = inner.pop(key)
        case _:
            inner[key] = random.choice(HOSTILE)
    return json.dumps(row)


def hurt(lines: list[str], random: Random) -> str:
    """Return a trace with one to three mutations."""
    lines = list(lines)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(lines))
        match random.randrange(8):
            case 0 | 1 | 2:
                at = 0
            case 3:
                lines[at] = random.choice(LINES)
                continue
            case 4:
                lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
                continue
            case 5:
                lines.insert(at, random.choice(lines))
                continue
        try:
            lines[at] = hurt_row(lines[at], random)
        except (ValueError, RecursionError, IndexError):
            lines[at] += "}"
    return "\n".join(lines) + random.choice(("\n", ""))


def told(capsys: pytest.CaptureFixture[str], code: int, context: object) -> None:
    """Assert that a command said what is wrong in one line, or judged, and had no accident."""
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err, (context, said)
    assert all(c.isprintable() or c == "\n" for c in said.out + said.err), context
    if code == EXIT_INVALID:
        assert said.out == "", context
        assert said.err.count("\n") == 1, (context, said.err)
        assert len(said.err) < 1000, context
    else:
        assert code in (0, 1, 2), (context, said)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_damage_is_told_in_a_sentence_and_runs_nothing(
    seed: int, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = Random(seed)
    file = canary / "hurt.jsonl"
    invalid = 0
    for number in range(PER_ROUND):
        text = hurt(lines_of(random.choice(FILES)), random)
        content = text.encode("utf-8", "surrogatepass")
        if random.random() < 0.05:
            at = random.randrange(len(content))
            content = content[:at] + random.randbytes(4) + content[at:]
        file.write_bytes(content)
        code = call("recheck", file)
        told(capsys, code, (seed, number))
        invalid += code == EXIT_INVALID
        assert call("replay", file) == EXIT_INVALID
        told(capsys, EXIT_INVALID, (seed, number))
    assert 0 < invalid < PER_ROUND


def test_a_trace_that_names_code_runs_none_of_it(
    canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = json.loads(lines_of(FILES[0])[0])
    file = canary / "hurt.jsonl"
    shell = {"args": ["touch", "ran"]}
    for use, parameters in (
        (f"{CANARY}:run", {}),
        (f"{canary / CANARY}:run", {}),
        ("subprocess:Popen", shell),
        ("os:system", {}),
    ):
        rows = [{"check": "use", "use": use, "parameters": parameters, "line": 0}]
        for key, value in (
            ("expect", rows),
            ("client", {**header["scenario"]["client"], "use": use}),
        ):
            hurt = {**header, "scenario": {**header["scenario"], key: value}}
            file.write_text("\n".join((json.dumps(hurt), *lines_of(FILES[0])[1:], "")))
            assert call("recheck", file) == (EXIT_INCONCLUSIVE if key == "expect" else EXIT_PASSED)
            assert call("replay", file) == EXIT_INVALID
            said = capsys.readouterr().err
            assert "--trust" in said
            assert use.rpartition(":")[0] in said


def test_a_replay_never_runs_a_command(canary: Path) -> None:
    header = json.loads(lines_of(FILES[0])[0])
    client = {**header["scenario"]["client"], "use": None, "command": ["touch", "ran"]}
    header["scenario"]["client"] = client
    (canary / "hurt.jsonl").write_text("\n".join((json.dumps(header), *lines_of(FILES[0])[1:], "")))
    assert call("replay", "hurt.jsonl", "--trust") == EXIT_INVALID
