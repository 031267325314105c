"""Modules of the bridge know each other in one direction only."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import bridge

ROOT = Path(bridge.__file__).parent


def module_name(path: Path) -> str:
    parts = ("bridge", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, name: str, known: set[str]) -> Iterator[str]:
    """The bridge's own modules that a file imports anywhere, also for type checkers alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(found, ast.Import):
            yield from (one.name for one in found.names if one.name in known)
        elif isinstance(found, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - found.level + 1]
            base = (
                ".".join([*above, *([found.module] if found.module else [])]) if found.level else found.module
            )
            for one in found.names:
                inner = f"{base}.{one.name}"
                if inner in known:
                    yield inner
                elif base in known and base is not None:
                    yield base


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that can all be reached from each other."""
    reached = {name: reach(graph, name) for name in graph}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }
    return [sorted(group) for group in groups]


def reach(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for following in graph[waiting.pop()] - found:
            found.add(following)
            waiting.append(following)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {module_name(path): path for path in ROOT.rglob("*.py")}
    graph = {name: set(imported(path, name, set(files))) - {name} for name, path in files.items()}
    assert graph["bridge.opcua.internal"] > {"bridge.opcua.sessions", "bridge.opcua.views"}  # it does look
    # A package imports its modules to offer them; they name each other, never the package.
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(graph) == [["a", "b", "c"]]
