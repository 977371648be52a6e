"""The frame of every page: one file with its style, scripts and data inside, no network."""

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from raygen.files import json_values
from raygen.untrusted import visible

# No network, no plug-ins, no frames: the page can only show what it carries.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # which no page needs
DIGITS = 6  # significant digits of a number in a figure


def document(
    title: str, body: str, scripts: Sequence[str], data: dict[str, Any], charts: bool
) -> str:
    """A whole page; `scripts` are files of this package that share one scope, in this order."""
    library = f"<script>{get_plotlyjs()}</script>" if charts else ""
    body = CONTROL.sub(lambda found: visible(found[0]), body)
    code = "".join(asset(f"{name}.js") for name in scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)} · raygen report</title><style>{_style()}</style></head>"
        f'<body>{body}<script type="application/json" id="data">{embed(data)}</script>{library}'
        f'<script>(() => {{\n"use strict";\n{code}}})();\n</script></body></html>\n'
    )


def _style() -> str:
    """The dark colours follow the system, unless the reader chooses."""
    dark = asset("dark.css")
    system = f":root:not([data-theme=light]) {{\n{dark}}}"
    return (
        f"{asset('page.css')}@media screen and (prefers-color-scheme: dark) {{\n{system}\n}}\n"
        f"@media screen {{ :root[data-theme=dark] {{\n{dark}}} }}\n"
    )


def figure_data(figure: Any) -> dict[str, Any]:
    """A figure as plain JSON values, without its template: the page has one for all."""
    spec = figure.to_plotly_json()
    spec["layout"].pop("template", None)
    return json_values({"data": spec["data"], "layout": spec["layout"]}, DIGITS)


def embed(value: Any) -> str:
    """JSON that no text inside can break out of: every < is written as an escape."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def asset(name: str) -> str:
    """A file of this package."""
    return files("raygen.report").joinpath(name).read_text(encoding="utf-8")
