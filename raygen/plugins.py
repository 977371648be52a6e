"""Models, losses and metrics of one's own, named as `file.py:Name` or `package.module:Name`.

A file is looked for in the folder of the YAML that names it, which the user has asked to run, in
the working directory and in the folders of $RAYGEN_PLUGINS; never in a study, whose author may be
somebody else. Workers get the files with the study.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple, TypeVar

from raygen.errors import InputError, did_you_mean, first_line

REFERENCE = re.compile(r"(?P<place>[\w./~-]+\.py|[A-Za-z_]\w*(\.\w+)*):(?P<name>[A-Za-z_]\w*)")
Value = TypeVar("Value")


class Plugin(NamedTuple):
    """An imported module, and the text of its file and of those beside it that it imports."""

    module: Any
    files: dict[str, str]


_folders: list[Path] = []  # of the YAML files that were loaded
_plugins: dict[str, Plugin] = {}  # by the place that a reference names
_paths: set[str] = set()  # of the files
_registries: list["Registry[Any]"] = []


class Registry(dict[str, Value]):
    """Things by name: those of raygen, and those that a reference names once it is asked for."""

    def __init__(self, kind: type, entries: Mapping[str, Value]) -> None:
        super().__init__(entries)
        self.kind = kind
        _registries.append(self)

    def __missing__(self, name: str) -> Value:
        if not is_reference(name):
            raise KeyError(name)
        value = resolve(name)
        if not isinstance(value, self.kind):
            kind = self.kind.__name__
            made = ""
            if kind == "Metric" and callable(value):
                made = '; put @metric("minimize") or @metric("maximize") above it'
            raise InputError(f"{name}: is a {type(value).__name__}, but must be a {kind}{made}")
        self[name] = value
        return value


def is_reference(name: object) -> bool:
    """Whether a name stands for something outside of raygen."""
    return isinstance(name, str) and REFERENCE.fullmatch(name) is not None


def look_in(folder: Path) -> None:
    """Look for files in a folder from now on, before all others.

    What was imported of a file of the same name is forgotten if its text is another.
    """
    folder = folder.resolve()
    if folder in _folders:
        _folders.remove(folder)
    _folders.insert(0, folder)
    for place in [place for place in _plugins if place.endswith(".py")]:
        if _outdated(place):
            _forget(place)


def _outdated(place: str) -> bool:
    """Whether a file, or one beside it that it imports, is another than when it was imported."""
    try:
        beside = _find(place).parent
        files = _plugins[place].files
        return any((beside / name).read_text(encoding="utf-8") != files[name] for name in files)
    except (InputError, OSError):
        return False  # gone: what was imported is all there is


def _forget(place: str) -> None:
    plugin = _plugins.pop(place)
    folder = Path(plugin.module.__file__).parent
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).parent == folder and Path(file).name in plugin.files:
            del sys.modules[name]
    for registry in _registries:
        for name in [name for name in registry if name.startswith(f"{place}:")]:
            del registry[name]


def resolve(reference: str) -> Any:
    """Import what a reference names.

    Raises:
        InputError: no such file, module or name, or importing it fails; one line, which for an
            error of the module itself names its file and line.
    """
    match = REFERENCE.fullmatch(reference)
    assert match is not None, reference
    place, name = match["place"], match["name"]
    if place not in _plugins:
        try:
            load = _load_file if place.endswith(".py") else _load_module
            _plugins[place] = load(place)
        except InputError:
            raise
        except ModuleNotFoundError as error:
            if not f"{place}.".startswith(f"{error.name}."):  # one that the module imports
                raise InputError(f"{reference}: {place_of(error)}") from error
            raise InputError(f"{reference}: {_no_module(str(error.name))}") from error
        except Exception as error:  # whatever the user's own module raises
            raise InputError(f"{reference}: {place_of(error)}") from error
    module = _plugins[place].module
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise InputError(f"{reference}: {place} has no {name}{did_you_mean(name, public)}")
    return getattr(module, name)


def argument_problem(kind: type, arguments: Mapping[str, Any]) -> str:
    """Why a class does not take these arguments; "" if it does."""
    parameters = signature(kind).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in arguments:
        if name not in parameters and not takes_any:
            return f"takes no argument {name!r}{did_you_mean(name, parameters)}"
    try:
        signature(kind).bind(**arguments)
    except TypeError as error:
        return str(error)
    return ""


def references(settings: Any) -> list[str]:
    """Every reference among the values and names of nested settings, each once."""
    if is_reference(settings):
        return [settings]
    inside: list[Any] = []
    if isinstance(settings, Mapping):
        inside = [part for item in settings.items() for part in item]
    elif isinstance(settings, list | tuple):
        inside = list(settings)
    return list(dict.fromkeys(name for part in inside for name in references(part)))


def sources() -> dict[str, str]:
    """Return the text of every file that was imported, by its name, for a worker to `install`."""
    return {
        name: text
        for place, plugin in _plugins.items()
        if place.endswith(".py")
        for name, text in plugin.files.items()
    }


def hashes(settings: Any) -> dict[str, str]:
    """SHA-256 (first 16 digits) of what the references of settings are made of, by file.

    Of a package it is that of the module's own file.
    """
    digests = {}
    for reference in references(settings):
        resolve(reference)
        files = _plugins[reference.rpartition(":")[0]].files
        digests |= {name: _digest(text.encode()) for name, text in files.items()}
    return digests


def install(files: Mapping[str, str]) -> None:
    """Make files that another process imported available to this one."""
    if files.items() <= sources().items():
        return
    folder = Path(tempfile.mkdtemp(prefix="raygen-plugins-"))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    look_in(folder)


def _load_module(place: str) -> Plugin:
    module = importlib.import_module(place)
    file = getattr(module, "__file__", None)
    return Plugin(module, {place: Path(file).read_text(encoding="utf-8")} if file else {})


def _no_module(name: str) -> str:
    """Say that a module is missing, and which is nearest."""
    package, _, _ = name.rpartition(".")
    folders = getattr(sys.modules.get(package), "__path__", None) if package else None
    if package and folders is None:
        return f"{package} is a module, and has no {name} in it"
    near = [f"{package}.{m.name}" if package else m.name for m in iter_modules(folders)]
    return f"there is no module {name}{did_you_mean(name, near)}"


def _load_file(place: str) -> Plugin:
    path = _find(place)
    module_name = f"raygen_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _paths.add(str(path))
    sys.modules[module_name] = module
    beside = str(path.parent)
    before = set(sys.modules)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        sys.path.remove(beside)
    files = {path.name: path.read_text(encoding="utf-8")}
    for other in set(sys.modules) - before:
        file = getattr(sys.modules[other], "__file__", None)
        if file is not None and Path(file).parent == path.parent:
            _paths.add(file)
            files[Path(file).name] = Path(file).read_text(encoding="utf-8")
    return Plugin(module, files)


def _find(place: str) -> Path:
    given = Path(place).expanduser()
    if given.is_absolute():
        if given.is_file():
            return given
        raise InputError(f"{place}: no such file")
    more = [Path(part) for part in os.environ.get("RAYGEN_PLUGINS", "").split(os.pathsep) if part]
    folders = [*_folders, Path.cwd(), *more]
    for folder in folders:
        for candidate in (folder / given, folder / given.name):
            if candidate.is_file():
                return candidate.resolve()
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise InputError(
        f"{place}: no such file in {looked}; put it there, or name its folder in $RAYGEN_PLUGINS"
    )


def place_of(error: BaseException) -> str:
    """Say where in the user's own files an error comes from, and what it is."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file in _paths:
            place = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}: "
    return f"{place}{type(error).__name__}: {first_line(error)}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def check_unchanged(recorded: Mapping[str, str], settings: Any, where: str) -> None:
    """Refuse to use other code than what was recorded.

    Raises:
        InputError: naming the file.
    """
    now = hashes(settings) if recorded else {}
    for name, digest in recorded.items():
        if now.get(name) != digest:
            raise InputError(
                f"{where}: was made with another {name} (its hash was {digest}, now it is "
                f"{now.get(name, 'missing')})"
            )
