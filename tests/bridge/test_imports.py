"""The modules of the bridge stand in layers: none is, over others, imported by one that it imports itself."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import bridge

ROOT = Path(bridge.__file__).parent


def imports(root: Path) -> dict[str, set[str]]:
    """The modules of the package that each of its modules names in an import, wherever that stands."""
    paths = {name_of(path, root): path for path in root.rglob("*.py")}
    return {
        module: {name for name in named(module, path) if name in paths and name != module}
        | {name.rpartition(".")[0] for name in named(module, path) if name not in paths}
        & paths.keys() - {module}
        for module, path in paths.items()
    }


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def named(module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle, its first module twice; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_imports_form_no_circle() -> None:
    graph = imports(ROOT)
    assert "bridge.opcua.sessions" in graph["bridge.opcua.requests"]  # what is looked at is there
    assert circle(graph) == []


@pytest.mark.parametrize(
    "first",
    [
        "from .second import that",
        "from . import second",
        "import package.second",
        "if TYPE_CHECKING:\n    from .second import that",
        "def later():\n    from package.second import that",
    ],
)
def test_a_circle_is_found(tmp_path: Path, first: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for name, text in {"__init__": "", "first": first, "second": "from .first import this"}.items():
        (package / f"{name}.py").write_text(text)
    assert sorted(set(circle(imports(package)))) == ["package.first", "package.second"]
