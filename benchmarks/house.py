"""uv run python benchmarks/house.py [FOLDER]: how the code is kept, in numbers.

Files and lines a package, the longest functions and files, how much of `tuning/` never reaches Ray,
who reads raw records, names that two files define, import aliases, and names that say nothing. The
last line is one JSON object.
"""

import ast
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Names that say that something is there, and not what it is.
VAGUE = {"found", "told", "own", "known", "each", "mine", "one", "there"}
Module = tuple[Path, ast.Module]


def parsed(root: Path) -> list[Module]:
    return [(path, ast.parse(path.read_text())) for path in sorted(root.rglob("*.py"))]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def packages(modules: list[Module], root: Path) -> dict[str, list[int]]:
    """Files and lines by package; modules beside the packages are "."."""
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, _ in modules:
        parts = path.relative_to(root).parts
        size = sizes[parts[0] if len(parts) > 1 else "."]
        size[0], size[1] = size[0] + 1, size[1] + lines_of(path)
    return dict(sorted(sizes.items()))


def functions(modules: list[Module]) -> Iterator[tuple[int, str]]:
    for path, tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or 0) - node.lineno + 1, f"{path.name}:{node.name}"


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_ray(modules: list[Module], root: Path) -> tuple[int, int]:
    """Lines of `tuning/` in modules that reach no Ray within the package, and all its lines."""
    names = {
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)): (path, tree)
        for path, tree in modules
        if path.relative_to(root).parts[0] == "tuning"
    }
    reach = {
        name
        for name, (_, tree) in names.items()
        if any(module.split(".")[0] == "ray" for module in imports(tree))
    }
    while True:
        more = {
            name
            for name, (_, tree) in names.items()
            if name not in reach and any(module in reach for module in imports(tree))
        }
        if not more:
            break
        reach |= more
    total = sum(lines_of(path) for path, _ in names.values())
    return sum(lines_of(path) for name, (path, _) in names.items() if name not in reach), total


def raw_readers(modules: list[Module], root: Path) -> list[str]:
    """Modules outside `journal/` that look into records by the names of their fields."""
    readers = []
    for path, tree in modules:
        if path.relative_to(root).parts[0] == "journal":
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.slice, ast.Constant)
                and node.slice.value == "kind"
                and isinstance(node.value, ast.Name)
                and node.value.id in ("record", "r", "before")
            ):
                readers.append(path.relative_to(root).as_posix())
                break
    return readers


def defined_twice(modules: list[Module]) -> list[str]:
    """Public functions and classes at the top of a module that another module defines, too."""
    counts = Counter(
        node.name
        for _, tree in modules
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )
    return sorted(name for name, count in counts.items() if count > 1)


def aliases(modules: list[Module]) -> int:
    """Names of the package itself that are imported as something else."""
    return sum(
        alias.asname is not None and alias.asname != alias.name
        for _, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raygen")
        for alias in node.names
    )


def vague(modules: list[Module]) -> int:
    return sum(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE
        for _, tree in modules
        for node in ast.walk(tree)
    )


def measure(folder: Path) -> dict[str, Any]:
    root = folder / "raygen"
    modules = parsed(root)
    lengths = sorted(functions(modules), reverse=True)
    longest = max((lines_of(path), path.relative_to(root).as_posix()) for path, _ in modules)
    unreached, total = without_ray(modules, root)
    twice = defined_twice(modules)
    return {
        "packages": packages(modules, root),
        "functions_over_40_lines": sum(length > 40 for length, _ in lengths),
        "longest_functions": lengths[:5],
        "longest_file": longest,
        "tune_lines_without_ray": unreached,
        "tune_lines": total,
        "raw_record_readers": raw_readers(modules, root),
        "public_names_defined_twice": len(twice),
        "their_names": twice,
        "import_aliases": aliases(modules),
        "vague_assignments": vague(modules),
        "readme_lines": lines_of(folder / "README.md"),
    }


def main() -> None:
    figures = measure(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
