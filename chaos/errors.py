"""The exception tree. Everything a user can cause ends in one of these, with a message and no traceback.

    ChaosError
    ├── InvalidScenario     the mistakes of scenario files, all of them at once      (exit 254)
    ├── UsageError          a wrong option, a path that is not there                 (exit 254)
    ├── SubjectNotFound     `my.module:client` cannot be imported or called          (exit 254)
    ├── UnsupportedFault    this network cannot apply that fault                     (skipped)
    └── NetworkUnavailable  a Toxiproxy that does not answer, a port that is taken   (inconclusive)

A bug of ours is an AssertionError or any other exception, and shows its traceback (exit 255).

What messages show is often text of others: of a scenario, a trace, a subject, a command line. `escaped`, `shortened`,
`listed` and `bounded` make it fit for a terminal and for reports; everything that is printed goes through them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_INCONCLUSIVE = 2
EXIT_INVALID = 254
EXIT_INTERNAL = 255
EXIT_INTERRUPTED = 130

# how much of a value, of a list and of a whole message is shown
VALUE_MAX = 80
NAMES_MAX = 10
WORD_MAX = 300
TEXT_MAX = 2_000
# a value in quotes, as `repr` and messages write it: the quotes stand at the ends of words
_OPENS, _CLOSES = r"""(?<![^\s(\[={,:])(['"`])(?=\S)""", r"\1(?![^\s)\]},:;.?!])"
_QUOTED = re.compile(rf"{_OPENS}((?:(?!{_CLOSES}).){{{VALUE_MAX + 1},}}){_CLOSES}", re.DOTALL)
_WORD = re.compile(rf"[^\s'\"`]{{{WORD_MAX + 1},}}")


class ChaosError(Exception):
    """The root: something outside this program is not as it should be."""


def one_line(text: str) -> str:
    """Return the text with every line break and unprintable character written as an escape.

    Scenario files hold any text, in keys too: shown as it stands it would tear a message apart, steer a terminal, or
    stand in another order than it is read in (bidirectional overrides).
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def escaped(text: str) -> str:
    """Return the text with every unprintable character but line feeds written as an escape."""
    if text.isprintable():
        return text
    return "\n".join(map(one_line, text.split("\n")))


def shortened(text: str, most: int = VALUE_MAX) -> str:
    """Return the text cut to so many characters, with how many were left out."""
    left_out = len(text) - most
    return f"{text[:most]}… ({left_out:,} more)" if left_out > 0 else text


def listed(names: Iterable[object], most: int = VALUE_MAX) -> str:
    """Return names with commas between them: ten at most, each shortened, and how many were left out."""
    rows = [shortened(str(name), most) for name in names]
    left_out = len(rows) - NAMES_MAX
    return ", ".join(rows[:NAMES_MAX]) + (f" and {left_out:,} more" if left_out > 0 else "")


def bounded(text: str) -> str:
    """Return a message whose quoted values, single words and whole length are cut to what a reader can bear."""
    if len(text) <= VALUE_MAX:
        return text
    text = _WORD.sub(lambda found: shortened(found[0]), text)
    if len(text) <= 2 * TEXT_MAX:
        text = _QUOTED.sub(lambda found: f"{found[1]}{shortened(found[2])}{found[1]}", text)
    elif (first := re.search(_OPENS, text)) is not None:
        # to look for the end of each value takes too long here: the first quote and the last are those of one
        start, end = first.end(), text.rfind(first[1])
        if end > start:
            text = f"{text[:start]}{shortened(text[start:end])}{text[end:]}"
    return shortened(text, TEXT_MAX)


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in one scenario file.

    Line and column count from 1, as editors show them. `value` is what stands in the file, shortened;
    `expected` what may stand there; `nearest` the known word closest to it, if one is close.
    """

    path: str
    line: int
    column: int
    message: str
    value: str | None = None
    expected: str | None = None
    nearest: str | None = None

    def __str__(self) -> str:
        details = []
        if self.value is not None:
            details.append(f"got {self.value}")
        if self.expected is not None:
            details.append(f"expected {self.expected}")
        if self.nearest is not None:
            details.append(f"did you mean {self.nearest}?")
        tail = f" ({'; '.join(details)})" if details else ""
        where = f"{self.path}:{self.line}:{self.column}"
        return one_line(f"{where}: {bounded(f'{self.message}{tail}')}")


def without_extra(what: str, package: str, extra: str) -> UsageError:
    """Return what is raised where a part of this program needs a package that comes with one of its extras."""
    return UsageError(
        f"{what} needs the package `{package}`: expected an installation with the extra `{extra}`, "
        f"as in `pip install 'trio-chaos[{extra}]'`"
    )


class InvalidScenario(ChaosError):
    """One or more scenario files are wrong; `mistakes` has every mistake, in file order."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        assert mistakes, "an invalid scenario has at least one mistake"
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class UsageError(ChaosError):
    """A wrong option or a path that is not there."""


class NotApplicable(UsageError):
    """A subject cannot do what a scenario needs of it: the scenario says nothing about this subject."""


class SubjectNotFound(ChaosError):
    """A subject's name cannot be imported, or what it names cannot be called."""


class UnsupportedFault(ChaosError):
    """The chosen network cannot apply a fault of the scenario."""


class NetworkUnavailable(ChaosError):
    """The network cannot be set up or broke down: says nothing about the subject."""


def first_message(error: BaseException) -> str:
    """Return what the first error of a group says, however deep it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
