"""Pieces of HTML that several sections share."""

from html import escape
from typing import Any

from raygen.document import dump


def scroll(label: str, html: str, kind: str = "") -> str:
    """What may be wider than the screen: scrolls by itself, also with the keyboard."""
    return (
        f'<div class="scroll{kind}" tabindex="0" role="group" aria-label="{escape(label)}">'
        f"{html}</div>"
    )


def chart(name: str, title: str, lead: str, controls: str = "") -> str:
    """The place where the page draws a figure, with its controls."""
    bar = f'<div class="controls needs-js">{controls}</div>' if controls else ""
    place = (
        f'<div class="plot" id="plot-{name}" data-figure="{name}" role="img" '
        f'aria-label="{escape(f"{title}. {lead}")}"></div>'
    )
    return (
        f"<figure>{bar}{scroll(title, place)}<noscript><p>This chart needs JavaScript; its numbers "
        "are in the tables of this page.</p></noscript></figure>"
    )


def toggle_button(key: str, text: str) -> str:
    """A button that the scripts find by its id and that says whether it is on."""
    return (
        f'<button type="button" class="toggle-button" id="{key}" aria-pressed="false">'
        f"{text}</button>"
    )


def code(text: str, exact: str = "") -> str:
    """A block of text with a Copy button, which copies `exact` if that is not what is shown."""
    copied = f' data-exact="{escape(exact.rstrip())}"' if exact else ""
    return (
        '<div class="code"><button type="button" class="copy needs-js">Copy</button>'
        f"<pre><code{copied}>{escape(text.rstrip())}</code></pre></div>"
    )


def settings_code(settings: dict[str, Any]) -> str:
    """Settings as YAML, rounded to be read; the Copy button has every digit."""
    exact, shown = dump(settings), dump(_rounded(settings))
    if shown == exact:
        return code(exact)
    remark = "Rounded to 4 digits; raygen best and Copy give every digit, for an exact repetition."
    return code(shown, exact) + note(remark)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def note(text: str) -> str:
    """A remark below a chart; plain text."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def html_table(head: list[str], rows: list[list[str]]) -> str:
    """A plain table whose first column names the row; plain texts."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        + "</tr>"
        for first, *others in rows
    )
    return scroll(
        f"table of {head[0] or 'studies'}",
        f'<table class="plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>',
    )


def data_table(summary: str, head: list[str], rows: list[list[str]]) -> str:
    """The same, folded away: the numbers of a chart for those who do not see it."""
    return f"<details><summary>{escape(summary)}</summary>{html_table(head, rows)}</details>"
