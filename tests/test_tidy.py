"""Style that a machine can check: the import law, sizes, what may not be said, and that tables and pages agree."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chaos"

# A file imports only from rooms that stand above its own here.
ROOMS = (
    "errors",
    "trace",
    "recorder",
    "subject",
    "vocabulary",
    "wire",
    "faults",
    "scenario",
    "checks",
    "reports",
    # pure above, I/O below
    "link",
    "networks",
    "reference",
    "subjects",
    "running",
    "api",
    "explore",
    "toxiproxy_server",
    "commands",
    "__main__",
    "__init__",  # the public names: imports anything, and nobody imports it
)
PURE = ROOMS[: ROOMS.index("link")]
# below the bar, and pure all the same
PURE_FILES = {
    "link/endings.py",
    "networks/simulated/states.py",
    "networks/toxiproxy/touched.py",
    "running/watch.py",
    "toxiproxy_server/go/gojson.py",
    "toxiproxy_server/go/wire.py",
}
IMPURE_MODULES = {
    "pathlib",
    "io",
    "os",
    "trio",
    "socket",
    "time",
    "select",
    "threading",
    "asyncio",
    "subprocess",
    "signal",
}
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 600
BANNED = {
    r"(^|[^\w.])/(work|farm|root|home)/": "no path of a machine",
    r"(?i)\bpypi\.org|proxy\.golang\.org|registry\.npmjs": "no host name of a registry",
    r"\b(TODO|FIXME|XXX)\b": "finish it, or write it down in the docs as a limit",
}
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ""}

sources = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def opens_files(tree: ast.AST) -> bool:
    """Tell whether a module calls the built-in `open`."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(isinstance(name, ast.Name) and name.id == "open" for name in calls)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def edges_of(path: Path, modules: set[str]) -> set[str]:
    """Return the project's modules that a file imports, those imported for types or inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= (inner & modules) or {node.module}
    return (found & modules) - {module_of(path)}


def circle_in(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports; empty when there is none."""
    left = {name: set(others) for name, others in edges.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    if not left:
        return []
    path = [next(iter(left))]
    while (following := next(iter(left[path[-1]] & left.keys()))) not in path:
        path.append(following)
    return path[path.index(following) :]


def functions_of(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Give (name, line, lines of body without its docstring)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            body = node.body[1:] if documented else node.body
            last = body[-1].end_lineno or 0
            yield node.name, node.lineno, last - body[0].lineno + 1


@pytest.mark.parametrize("path", sources, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_stands_above_it(path: Path) -> None:
    room = room_of(path)
    assert room in ROOMS, f"{path.name}: give the room {room!r} a place in ROOMS"
    for name in imports_of(ast.parse(path.read_text())):
        if not name.startswith("chaos."):
            continue
        other = name.split(".")[1]
        assert ROOMS.index(other) <= ROOMS.index(room), f"{path} imports {name} from below"


@pytest.mark.parametrize("path", sources, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_pure_touches_io(path: Path) -> None:
    if room_of(path) in PURE or str(path.relative_to(PACKAGE)) in PURE_FILES:
        touched = {name.split(".")[0] for name in imports_of(ast.parse(path.read_text()))}
        assert not touched & IMPURE_MODULES, f"{path} imports {touched & IMPURE_MODULES}"
        assert not opens_files(ast.parse(path.read_text())), f"{path} opens a file"


def test_no_file_imports_itself_through_others() -> None:
    modules = {module_of(path) for path in sources}
    edges = {module_of(path): edges_of(path, modules) for path in sources}
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"], "a circle is found"
    assert circle_in(edges) == []


@pytest.mark.parametrize("path", sources, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_are_small_and_documented(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path}: say in a sentence what lives here"
    assert text.count("\n") <= FILE_LINES_MAX, f"{path}: split it by subject"
    for name, line, lines in functions_of(tree):
        assert lines <= FUNCTION_LINES_MAX, f"{path}:{line}: {name} has {lines} lines; split it"


def test_most_functions_fit_in_the_head() -> None:
    sizes = sorted(
        lines for path in sources for _, _, lines in functions_of(ast.parse(path.read_text()))
    )
    assert sizes[len(sizes) // 2] <= 15


def test_nothing_that_is_said_names_a_machine_or_is_left_to_do() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    wrong = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix not in TEXT or path == Path(__file__) or not path.is_file():
            continue
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        ):
            wrong += [
                f"{name}:{number}: {why}" for rule, why in BANNED.items() if re.search(rule, line)
            ]
    assert not wrong, "\n".join(wrong)


def test_tests_mirror_the_tree() -> None:
    """Each folder of tests is a room of the package, and each room with code has one; others are named here."""
    apart = {"scenarios", "support", "tools"}
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    rooms = {path.parent.relative_to(PACKAGE) for path in sources if path.name != "__init__.py"}
    assert {str(folder) for folder in folders - rooms} <= apart
    assert {str(room) for room in rooms - folders} == set()
