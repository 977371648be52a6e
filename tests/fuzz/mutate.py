"""Changes that files suffer: in transit, in an editor, by another program, or by somebody's will.

Each function takes a random generator and returns a changed copy; the same seed, the same change.
"""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

HUGE = "9" * 5000
DEEP = 5000
BOMB = "".join(
    f"b{level}: &b{level} [{', '.join([f'*b{level - 1}'] * 9) if level else 'x, x'}]\n"
    for level in range(9)
)
# What may stand where a value of a YAML file stood.
SCALARS = [
    "", "~", "[]", "{}", "[[[[1]]]]", "-1", "0", "-0", "1", "1e-300", "1e-9", "1e300", "1e999",
    "-1e999", HUGE, f"-{HUGE}", f"0x{'f' * 5000}", f"1e{HUGE}", f"0.{HUGE}", ".nan", "nan", ".inf",
    "inf", "true", "no", "²", "１", "3.5", "x", "'", '"', '"\\0"', '"\\ud800"', '"\\x1b[2J"',
    "'a\\nb'", "&a [*a]", "*nowhere", "!!int 3", "!!python/object:os.system x", "!!binary aGk=",
    "|", ">-", "{float: [1, 2]}", "{float: [0, 1e308]}", "{int: [1, 4]}", "{int: [0, 1e9]}",
    "{choice: []}", "{choice: [1, x, ~]}", "{one_of: {}}", "{one_of: {a: {}, b: {c: 1}}}",
    "{float: [2, 1]}", "{float: [1, 2], log: maybe}", "a: b", "- - -", "? x", "%YAML 1.3", "@", "`",
    "[" * DEEP, "[" * DEEP + "]" * DEEP, "{a: " * DEEP + "1" + "}" * DEEP, "2024-01-31", "12:30",
    "9007199254740993", "99999999999999999999", "<<: x", "[1, 2, 3]", "{a: 1, a: 2}", "x" * 100_000,
    "\x07", "\x85", "\u2028", "\ufeff", "\t", "é", "🙂", "..", "/dev/zero", "s3://x/y",
]  # fmt: skip
# What may stand where a value of a record stood.
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 10**6, 2**31, 2**63, 10**400, 1.5, -0.5, 1e-300, 1e300, "", "x",
    "1", "nan", "²", "\x00", "\x1b[2J", "a\nb", "é", "x" * 10_000, "../../x", [], [1], [None],
    ["x", "y"], [[1]], {}, {"a": 1}, {"name": "x"}, {"": None}, {"0": 1.0}, {"metric": "x"},
    float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
LINES = [
    b"", b"null", b"[]", b"3", b'"x"', b"{", b"{}", b"}", b"[" * 100_000, b'{"kind":' * 50_000,
    b'{"kind":"decide"}', b'{"kind":"suggest","trial":0}', b'{"kind":null,"time":1.0}',
    b'{"kind":["open"],"time":1.0}', b'{"kind":"open","time":1.0,"study":{}}', b"\xff\xfe", b"\x00",
    b'{"kind":"promote","time":1795386700.0,"trial":0}', b'{"kind":"end","kind":"end"}',
    b'{"kind":"close","state":"finished"}', b'{"kind":"warm","time":1795386700.0}',
    b'{"kind":"end","time":NaN,"trial":0,"state":"completed","reason":""}',
    b'{"kind":"end","time":1e999,"trial":0,"state":"completed","reason":""}',
    b'{"kind":"end","time":1795386700.0,"trial":0,"state":"completed","reason":"\\ud800"}',
    b'{"kind":"end","time":' + b"9" * 5000 + b',"trial":0,"state":"completed","reason":""}',
]  # fmt: skip

Tree = dict[str, Any]


def changed_yaml(random: Random, text: str) -> bytes:
    """Return a YAML text with one or two changes to its lines, its values or its bytes."""
    for _ in range(random.choice((1, 1, 1, 2))):
        if ":" in text:
            text = random.choice(TEXTS)(random, text)
    content = text.encode("utf-8", "surrogatepass")
    return changed_bytes(random, content) if random.random() < 0.1 else content


def _other_value(random: Random, text: str) -> str:
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if ":" in line]
    place = random.choice(places)
    key, _, rest = lines[place].partition(":")
    if random.random() < 0.5 and rest.strip():
        words = rest.split()
        words[random.randrange(len(words))] = random.choice(SCALARS)
        lines[place] = f"{key}: {' '.join(words)}"
    else:
        lines[place] = f"{key}: {random.choice(SCALARS)}"
    return "\n".join(lines) + "\n"


def _other_key(random: Random, text: str) -> str:
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if ":" in line]
    place = random.choice(places)
    key, _, rest = lines[place].partition(":")
    word = key.strip(" -#")
    other = random.choice([word[::-1], word + "s", word[1:], random.choice(SCALARS), "name", "a.b"])
    lines[place] = f"{key.replace(word, other) if word else other}:{rest}"
    return "\n".join(lines) + "\n"


def _other_lines(random: Random, text: str) -> str:
    lines = text.splitlines()
    place = random.randrange(len(lines))
    match random.randrange(7):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[place])
        case 2:
            lines.insert(place, lines.pop(random.randrange(len(lines))))
        case 3:
            lines[place] = " " * random.randrange(9) + lines[place].lstrip()
        case 4:
            lines[place] = "\t" + lines[place]
        case 5:
            lines.insert(place, "---" if random.random() < 0.5 else "...")
        case 6:
            lines = lines[:place]
    return "\n".join(lines) + "\n"


def _added(random: Random, text: str) -> str:
    key = random.choice(["x", "name", "seed", "space", "trial", "data", "start", "budget", "a.b"])
    return f"{text}{key}: {random.choice(SCALARS)}\n"


def _bomb(random: Random, text: str) -> str:
    return BOMB + text + (f"x: *b{random.randrange(9)}\n" if random.random() < 0.5 else "")


def _sign(random: Random, text: str) -> str:
    place = random.randrange(len(text))
    sign = random.choice("\x00\x01\x07\x1b\x7f\x85\t\r\n\ufeff\ud800\u2028{}[]&*!|>'\"%@`#:-,?é🙂")
    return text[:place] + sign + text[place + random.randrange(2) :]


TEXTS: list[Callable[[Random, str], str]] = [
    *[_other_value] * 12, *[_other_key] * 6, *[_other_lines] * 6, *[_added, _sign] * 2, _bomb,
]  # fmt: skip


def changed_bytes(random: Random, content: bytes) -> bytes:
    """Return bytes with some flipped, cut out, doubled, or other ones in their place."""
    if not content:
        return b"\x00"
    place, length = random.randrange(len(content)), random.choice((1, 2, 16, 300))
    match random.randrange(6):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + content[place + length :]
        case 2:
            return content[:place] + content[place : place + length] * 2 + content[place + length :]
        case 3:
            return content[:place] + random.randbytes(length) + content[place + length :]
        case 4:
            return content[:place] + bytes(length) + content[place + length :]
        case _:
            flipped = bytearray(content)
            for _ in range(random.choice((1, 3, 30))):
                flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
            return bytes(flipped)


def changed_tree(random: Random, tree: Tree, values: list[Any]) -> Tree:
    """Return nested values with one of them gone, doubled under another name, or replaced."""
    tree = copy.deepcopy(tree)
    place: Any = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return tree
        key = random.choice(keys)
        inside = place[key]
        if not isinstance(inside, dict | list) or not inside or random.random() < 0.3:
            break
        place = inside
    match random.randrange(5):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[f"{key}x"] = place.pop(key)
        case 2 if isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        case _:
            place[key] = copy.deepcopy(random.choice(values))
    return tree


def changed_journal(random: Random, lines: list[bytes]) -> bytes:
    """Return a journal with one or two records gone, moved, doubled, changed, or broken."""
    lines = list(lines)
    for _ in range(random.choice((1, 1, 1, 2))):
        place = random.randrange(len(lines))
        if random.random() < 0.3:  # the kinds that are rare in a journal as often as others
            kinds = [json.loads(line)["kind"] for line in _whole(lines)]
            wanted = random.choice(sorted(set(kinds)))
            place = random.choice([n for n, kind in enumerate(kinds) if kind == wanted])
        match random.randrange(9):
            case 0:
                del lines[place]
            case 1:
                lines.insert(random.randrange(len(lines) + 1), lines[place])
            case 2:
                lines.insert(random.randrange(len(lines)), lines.pop(place))
            case 3:
                lines.insert(place, random.choice(LINES))
            case 4:
                lines[place] = changed_bytes(random, lines[place])
            case _:
                record = changed_tree(random, json.loads(_whole(lines)[place]), VALUES)
                lines[place] = json.dumps(record).encode("utf-8", "surrogatepass")
        if not lines:
            return b""
    return b"\n".join(lines) + b"\n" * (random.random() < 0.9)


def _whole(lines: list[bytes]) -> list[bytes]:
    """The lines that are records still, others as an empty one."""
    whole = []
    for line in lines:
        try:
            record = json.loads(line)
            sound = isinstance(record, dict) and isinstance(record.get("kind"), str)
            whole.append(line if sound else b'{"kind":""}')
        except (ValueError, RecursionError):
            whole.append(b'{"kind":""}')
    return whole
