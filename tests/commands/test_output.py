"""What is printed is safe and short, whatever is in it; a full disk costs a sentence, a reader that goes none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.commands.main import EXIT_BROKEN_PIPE, cli, run_cli
from chaos.errors import (
    EXIT_INVALID,
    NAMES_MAX,
    TEXT_MAX,
    VALUE_MAX,
    bounded,
    escaped,
    listed,
    one_line,
    shortened,
)

EVIL = "\x1b[31m\u202e\x9b\x07"
LONG = "x" * 70_000
SCENARIO = """\
version: 1
name: short
duration: 3s
settle: 1s
steady_state: none
matrix: {a: ["\\e[31m\\u202e\\x9b\\x07"]}
expect: [never_sends_before_open]
"""


def call(*arguments: object) -> int:
    return run_cli(
        lambda: cli.main([str(a) for a in arguments], "trio-chaos", standalone_mode=False)
    )


def is_safe(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


def test_text_of_others_is_escaped_cut_and_counted() -> None:
    assert one_line(f"a\n{EVIL}") == r"a\n\x1b[31m\u202e\x9b\x07"
    assert escaped(f"a\n{EVIL}") == "a\n" + r"\x1b[31m\u202e\x9b\x07"
    assert shortened("y" * VALUE_MAX) == "y" * VALUE_MAX
    assert shortened(LONG).startswith("x" * VALUE_MAX + "…")
    assert "69,920" in shortened(LONG)
    assert listed(range(NAMES_MAX)).count(",") == NAMES_MAX - 1
    assert listed(range(1_000)).endswith("9 and 990 more")


@pytest.mark.parametrize("quote", ["'", '"', "`", ""])
@pytest.mark.parametrize("inside", ["x", "x y ", "9"])
def test_a_value_in_a_message_is_cut_and_what_stands_around_it_is_not(
    quote: str, inside: str
) -> None:
    value = (inside * 70_000)[:70_000].strip()
    said = bounded(f"the client's value is {quote}{value}{quote}; expected another")
    assert said.startswith(f"the client's value is {quote}{value[:60]}")
    assert len(said) <= TEXT_MAX + 20
    if quote or inside != "x y ":
        assert said.endswith("expected another")
        assert len(said) < 200


def test_prose_is_not_cut() -> None:
    prose = "the subjects' files are read, and it's no client's business: " * 10
    assert bounded(prose) == prose
    words = "`one` is not `another`, whatever 'they' say; expected `a` or `b`, such as `c`. " * 4
    assert bounded(words) == words


@pytest.mark.parametrize(
    "arguments",
    [
        *(("run", LONG), (LONG,), ("run", "s.yaml", f"--{LONG}"), ("run", "s.yaml", "--seed", "9" * 99_999)),
        *(("sweep", "s.yaml", "--shard", LONG), ("run", "s.yaml", "--compare", "q," * 999), ("recheck", LONG)),
        *(("replay", EVIL), ("run", EVIL), ("list", EVIL), ("recheck", "s.yaml", "--use", LONG), ("new", LONG)),
        *(("sweep", "s.yaml", "--out", LONG), ("run", "s.yaml", "--junit", LONG), ("hunt", LONG)),
    ],
)  # fmt: skip
def test_a_long_or_evil_argument_is_told_in_a_few_words(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    assert call(*arguments) == EXIT_INVALID
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len(said) < 600
    assert is_safe(said)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--json",), ("-v",)])
@pytest.mark.parametrize("command", ["run", "sweep", "validate"])
def test_a_title_never_steers_a_terminal(
    command: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO + "client: {use: 's.py:nothing'}\n")
    (tmp_path / "s.py").write_text("")
    options = {"run": ("--network", "simulated"), "sweep": ("--seeds", "2"), "validate": ()}[
        command
    ]
    if command == "run" or "-v" not in more:
        for client in ("reference", "s.py:nothing"):
            extra = () if command == "validate" else ("--client", client, *more)
            call(command, tmp_path / "s.yaml", *options, *extra)
    said = capsys.readouterr()
    assert is_safe(said.out + said.err)


def start(arguments: str, **settings: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    words = [sys.executable, "-m", "chaos", *arguments.split()]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **settings)  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        *("list faults", "schema", "sweep s.yaml --seeds 9"),
        *("run s.yaml --network simulated", "run s.yaml --network simulated --json"),
    ],
)
def test_a_reader_that_goes_and_a_full_disk_cost_no_traceback(
    arguments: str, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    with start(arguments, stdout=subprocess.PIPE, cwd=tmp_path) as gone:
        assert gone.stdout is not None
        gone.stdout.close()
        assert gone.stderr is not None
        assert gone.stderr.read() == ""
    assert gone.returncode == EXIT_BROKEN_PIPE
    with Path("/dev/full").open("w") as full:
        stuck = start(arguments, stdout=full, cwd=tmp_path)
    _, said = stuck.communicate(timeout=30)
    assert stuck.returncode == EXIT_INVALID
    assert said.count("\n") == 1
    assert "No space left" in said
