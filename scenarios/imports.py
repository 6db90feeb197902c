"""The user's own Python: found and hashed without running it, imported only by a run's worker."""

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from ..formats.errors import InputError, hint
from .storage import file_digest

#: "my_pkg.mod:build", or "model.py:build" for a file beside the scenario.
Target = Annotated[str, Field(strict=True, pattern=r"^[^:\s]+:[A-Za-z_][A-Za-z0-9_]*$")]


def find_source(target: str, folder: Path) -> Path:
    """The file that holds `target`, without importing anything, its packages included.

    Modules are looked for in `folder` first, then where Python looks.

    Raises:
        InputError: no such file or module.
    """
    module, _, _ = target.partition(":")
    if module.endswith(".py"):
        path = folder / module
        if not path.is_file():
            raise InputError(f"{target}: {path}: no such file")
        return path
    places: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    for depth, _ in enumerate(names := module.split("."), start=1):
        name = ".".join(names[:depth])
        spec = _find_spec(name, places, folder)
        if spec is None or (depth < len(names) and not spec.submodule_search_locations):
            raise InputError(f"{target}: there is no module {name} in {folder} or on Python's path")
        places = list(spec.submodule_search_locations or ())
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise InputError(f"{target}: module {module} has no Python source to keep a digest of")
    return Path(spec.origin)


def _find_spec(name: str, places: Sequence[str] | None, folder: Path) -> ModuleSpec | None:
    finder = importlib.machinery.PathFinder
    if places is not None:
        return finder.find_spec(name, places)
    beside = finder.find_spec(name, [str(folder)])
    if beside is not None and beside.origin is not None:
        return beside
    found = (entry.find_spec(name, None) for entry in sys.meta_path)  # editable installs too
    return next((spec for spec in found if spec is not None), None)


def source_digest(target: str, folder: Path, files: Sequence[str] = ()) -> str:
    """SHA-256 over the sources that `target` may run, and over `files` in `folder`.

    For a module of a package that is all of the package's Python; for a single file, itself and
    what it imports from its own folder. Other packages count by the version that is installed.
    """
    source = find_source(target, folder)
    package = _package(source, target)
    sources = sorted(package.rglob("*.py")) if package else sorted(_with_imports(source))
    root = package or source.parent
    total = hashlib.sha256()
    for path in sources:
        total.update(f"{path.relative_to(root)} {file_digest(path)}\n".encode())
    for name in files:
        total.update(f"{name} {file_digest(folder / name)}\n".encode())
    return total.hexdigest()


def _package(source: Path, target: str) -> Path | None:
    """The folder of the outermost package that the module is in; None for a single file."""
    module = target.partition(":")[0]
    depth = module.count(".") + (source.name == "__init__.py")
    if module.endswith(".py") or not depth:
        return None
    return source.parents[depth - 1]


def _with_imports(source: Path) -> set[Path]:
    """A file, and those of its folder that it imports, and those that they import."""
    found, waiting = set[Path](), [source]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imported(path):
            module, package = source.parent / f"{name}.py", source.parent / name
            waiting += [module] if module.is_file() else []
            if (package / "__init__.py").is_file():
                waiting += package.rglob("*.py")
    return found


def _imported(path: Path) -> Iterator[str]:
    """The first names of all modules that a file imports, wherever in it."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: is not Python that can be read: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module.partition(".")[0]
            else:
                yield from (alias.name for alias in node.names)


def load_object(target: str, folder: Path) -> Any:
    """Import the module of `target`, which runs it, and return what `target` names.

    Raises:
        InputError: no such module, or it has nothing of that name.
    """
    source, (module, _, name) = find_source(target, folder), target.partition(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    loaded = _load_file(source) if module.endswith(".py") else importlib.import_module(module)
    if not hasattr(loaded, name):
        raise InputError(f"{target}: {source} has no {name}{hint(name, vars(loaded))}")
    return getattr(loaded, name)


def _load_file(source: Path) -> ModuleType:
    name = f"tapeout_user_{hashlib.sha256(str(source).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise InputError(f"{source}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
