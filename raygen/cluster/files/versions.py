"""Which Ray and Python the nodes get: those of this machine, whatever installs them."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import version

from raygen.document import Document, Keys

NIGHTLY = re.compile(r"nightly|\.dev0|/ray-wheels/", re.IGNORECASE)
PIN = re.compile(r"\bray(?:\[[^\]]*\])?==([0-9][\w.]*)")
PYTHON = re.compile(r"--python[= ](\d+\.\d+)")
TAG = re.compile(r"(?P<ray>\d+\.\d+\.\d+)[\w.]*?(?:-py(?P<python>\d{2,}))?(?![\d])")
PLACEHOLDER = "REPLACE-ME"


def placeholders(document: Document) -> Iterator[str]:
    """What only the user knows, and has not filled in."""
    for at, value in texts(document.data, ()):
        if PLACEHOLDER in value:
            yield document.describe(at, "must still be filled in")


def image(document: Document, at: Keys, name: str) -> Iterator[str]:
    """A container image must hold the Ray and the Python of this machine."""
    repository, _, tag = name.rpartition("/")[2].partition(":")
    if repository == "ray-ml":
        yield document.describe(at, "rayproject/ray-ml stopped at Ray 2.30; use rayproject/ray")
        return
    if NIGHTLY.search(tag):
        yield document.describe(at, f"is a nightly build; use one of Ray {version('ray')}")
        return
    match = _ray_in(repository, tag)
    if match is None:
        rule = f"its tag must name the version, as in rayproject/ray:{version('ray')}-py{_python()}"
        yield document.describe(at, rule)
        return
    if match["ray"] != version("ray"):
        yield document.describe(
            at, f"has Ray {match['ray']}, but this machine has {version('ray')}"
        )
    python = re.search(r"-py(\d+)", tag)
    if python is not None and python[1] != _python():
        yield document.describe(
            at, f"has Python {_dotted(python[1])}, but this machine has {_minor()}"
        )


def _ray_in(repository: str, tag: str) -> re.Match[str] | None:
    """The part of a tag that is the version of Ray, and not that of what was built on it."""
    versions = list(TAG.finditer(tag))
    signs = (
        [m for m in versions if m["ray"] == version("ray")],
        [m for m in versions if tag[: m.start()].endswith("ray")],
        [m for m in versions if m["python"]],
        versions if repository == "ray" else [],
    )
    return next((matches[0] for matches in signs if matches), None)


def commands(document: Document, at: Keys, lines: list[str], image_given: bool) -> Iterator[str]:
    """Commands that set a node up must pin Ray, unless its image does, and Python."""
    pins = []
    for index, line in enumerate(lines):
        if NIGHTLY.search(line):
            yield document.describe((*at, index), "installs a nightly wheel of Ray")
            continue
        for pin in PIN.findall(line):
            pins.append(pin)
            if pin != version("ray"):
                rule = f"installs Ray {pin}, but this machine has {version('ray')}"
                yield document.describe((*at, index), rule)
        for python in PYTHON.findall(line):
            if python != _minor():
                rule = f"uses Python {python}, but this machine has {_minor()}"
                yield document.describe((*at, index), rule)
    if not pins and not image_given and not any(NIGHTLY.search(line) for line in lines):
        yield document.describe(
            at, f"no command installs ray[default,tune,train]=={version('ray')}"
        )


def texts(value: object, at: Keys) -> Iterator[tuple[Keys, str]]:
    """Every text in nested settings, with its path."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield from texts(inside, (*at, key))
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from texts(inside, (*at, index))


def _minor() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _python() -> str:
    return _minor().replace(".", "")


def _dotted(digits: str) -> str:
    return f"{digits[0]}.{digits[1:]}"
