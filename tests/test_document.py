"""Documents: YAML 1.2 scalars, positions, duplicates, overrides, and dump as their inverse."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from raygen.document import Document, dotted, dump, load_document
from raygen.errors import InputError


def load(folder: Path, text: str, *overrides: str) -> Document:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return load_document(file, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """The message of the error, with the folder taken off."""
    with pytest.raises(InputError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # The core schema of YAML 1.2.2, section 10.3.2.
        ("1e-4", 1e-4),
        ("1e5", 1e5),
        ("1E+5", 1e5),
        ("3.", 3.0),
        (".5", 0.5),
        ("-0.0", -0.0),
        ("17", 17),
        ("017", 17),
        ("-3", -3),
        ("+3", 3),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        # Numbers, booleans and dates of YAML 1.1 that are texts in 1.2.
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("e5", "e5"),
        (".", "."),
        # Quotes and blocks make a text of anything.
        ("'1e-4'", "1e-4"),
        ('"17"', "17"),
        ("'true'", "true"),
        ("''", ""),
        ("|-\n  17", "17"),
    ],
)
def test_a_scalar_is_read_by_the_core_schema_of_yaml_1_2(
    tmp_path: Path, text: str, value: Any
) -> None:
    read = load(tmp_path, f"a: {text}\n").data["a"]

    assert read == value
    assert type(read) is type(value)


def test_keys_are_texts_whatever_they_look_like(tmp_path: Path) -> None:
    assert load(tmp_path, "1: a\non: b\n1e-4: c\n").data == {"1": "a", "on": "b", "1e-4": "c"}


def test_a_key_that_stands_twice_is_refused_with_both_positions(tmp_path: Path) -> None:
    text = "model:\n  width: 8\n  depth: 1\n  width: 16\n"

    message = refusal(tmp_path, text)

    assert message.startswith("study.yaml:4:3: model.width: ")
    assert message.endswith("study.yaml:2:3")


def test_the_same_key_in_two_mappings_is_no_duplicate(tmp_path: Path) -> None:
    data = load(tmp_path, "- {a: 1}\n".replace("- ", "x: ") + "y: {a: 2}\n").data

    assert data == {"x": {"a": 1}, "y": {"a": 2}}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2\nb: 3\n", "study.yaml:2:2: "),
        ("a: 1\n  b: 2\n", "study.yaml:2:4: "),
        ("a: 'open\n", "study.yaml:2:1: "),
        ("a: *nowhere\n", "study.yaml:1:4: "),
        ("a: 1\n\tb: 2\n", "study.yaml:2:1: "),
    ],
)
def test_broken_yaml_is_refused_with_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    message = refusal(tmp_path, text)

    assert message.startswith(place)
    assert "not valid YAML" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "# nothing\n", "[1, 2]\n", "word\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text).startswith("study.yaml:1:1: must be a mapping")


def test_a_mapping_as_a_key_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a: 1\n{b: 2}: 3\n").startswith("study.yaml:2:1: ")


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a: &me [1, *me]\n").startswith("study.yaml:1:")


def test_an_alias_gives_each_place_its_own_copy(tmp_path: Path) -> None:
    document = load(tmp_path, "a: &it {x: 1}\nb: *it\n", "b.x=2")

    assert document.data == {"a": {"x": 1}, "b": {"x": 2}}


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        load_document(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("a: é\n".encode("latin-1"))

    with pytest.raises(InputError, match=r"latin\.yaml:1:4: is not UTF-8"):
        load_document(file)


def test_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a file"):
        load_document(tmp_path)


def test_the_mark_of_a_setting_is_its_key_and_that_of_an_item_its_value(tmp_path: Path) -> None:
    document = load(tmp_path, "a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n")
    marks = {
        at: document.mark(at).rpartition("study.yaml:")[2]
        for at in [("a",), ("a", "b"), ("a", "c", 0), ("a", "c", 1), ("a", "c", 1, "d")]
    }

    assert marks == {
        ("a",): "1:1",
        ("a", "b"): "2:3",
        ("a", "c", 0): "4:7",
        ("a", "c", 1): "5:7",
        ("a", "c", 1, "d"): "5:8",
    }


def test_the_mark_of_what_is_not_there_is_that_of_its_nearest_parent(tmp_path: Path) -> None:
    document = load(tmp_path, "x: 0\na:\n  b: 1\n")

    assert document.mark(("a", "z", "deeper")) == document.mark(("a",))
    assert document.get(("a", "z", "deeper")) is None


def test_fail_names_the_place_the_path_the_value_and_the_rule(tmp_path: Path) -> None:
    document = load(tmp_path, "a:\n  b: [1, word]\n")

    with pytest.raises(InputError) as caught:
        document.fail(("a", "b", 1), "must be a number")

    assert str(caught.value).endswith("study.yaml:2:10: a.b.1: 'word': must be a number")


def test_dotted_joins_the_parts_of_a_path() -> None:
    assert dotted(("a", "b", 0)) == "a.b.0"


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("seed=3", {"seed": 3, "model": {"width": 8}, "rungs": [1, 2]}),
        ("seed=", {"seed": None, "model": {"width": 8}, "rungs": [1, 2]}),
        ("model.width=1e-4", {"seed": 0, "model": {"width": 1e-4}, "rungs": [1, 2]}),
        ("model.name='017'", {"seed": 0, "model": {"width": 8, "name": "017"}, "rungs": [1, 2]}),
        ("model={int: [1, 2]}", {"seed": 0, "model": {"int": [1, 2]}, "rungs": [1, 2]}),
        ("rungs.1=x=y", {"seed": 0, "model": {"width": 8}, "rungs": [1, "x=y"]}),
        ("a.b.c=1", {"seed": 0, "model": {"width": 8}, "rungs": [1, 2], "a": {"b": {"c": 1}}}),
    ],
)
def test_an_override_sets_one_value_and_leaves_the_rest(
    tmp_path: Path, assignment: str, expected: dict[str, Any]
) -> None:
    document = load(tmp_path, "seed: 0\nmodel: {width: 8}\nrungs: [1, 2]\n", assignment)

    assert document.data == expected


@pytest.mark.parametrize(
    ("assignment", "rest"),
    [
        ("seed", "must be a.b.c=value"),
        ("=3", "must be a.b.c=value"),
        ("seed.deeper=3", "seed cannot hold settings"),
        ("seed.deeper.still=3", "seed"),
        ("rungs.2=3", "rungs cannot hold settings"),
        ("rungs.first=3", "rungs cannot hold settings"),
        ("rungs.2.a=3", "cannot hold settings"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_is_refused_and_quoted(
    tmp_path: Path, assignment: str, rest: str
) -> None:
    message = refusal(tmp_path, "seed: 0\nrungs: [1, 2]\n", assignment)

    assert message.startswith(f"--set {assignment}:")
    assert rest in message


def test_the_later_of_two_overrides_wins(tmp_path: Path) -> None:
    assert load(tmp_path, "seed: 0\n", "seed=1", "seed=2").data == {"seed": 2}


def test_the_mark_of_an_overridden_value_is_the_override(tmp_path: Path) -> None:
    document = load(tmp_path, "a: {b: {c: 1}}\nz: 1\n", "a.b={d: [5]}")

    for at in [("a", "b"), ("a", "b", "d"), ("a", "b", "d", 0)]:
        assert document.mark(at) == "--set a.b={d: [5]}"
        assert document.overridden(at)
    assert not document.overridden(("z",))


TRICKY = [
    "", " ", "a", "1e-4", "1.0e-4", "017", "0o17", "0x1F", "17", "-3", ".5", "3.", "true", "False",
    "null", "~", "on", "no", "12:30", "2024-01-31", "1_000", "=", "<<", "*a", "&a", "!a", "%a",
    "@a", "`a", "- a", "-", "?", "a: b", "a #b", "# a", "a:", "[a", "{a}", "a, b", "'", '"', "it's",
    'say "no"', "\\n", "a\nb", "a\n\nb\n", "\n", " a", "a ", "\ttab", "é", "日本", "😀", "\x85",
    "\u2028", "\x07", "---", "...", "--set a=b", "word " * 60, "a" * 300, "|", ">", "|-\n  a",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKY)
def test_a_dumped_text_reads_back_as_the_same_text(tmp_path: Path, text: str) -> None:
    data = {"value": text, "list": [text, text], "deep": {"inside": text}}

    assert load(tmp_path, dump(data)).data == data


@pytest.mark.parametrize("text", [text for text in TRICKY if text])
def test_a_dumped_key_reads_back_as_the_same_key(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, dump({text: 1})).data == {text: 1}


def test_dumped_numbers_lists_and_mappings_read_back_equal_and_of_the_same_type(
    tmp_path: Path,
) -> None:
    values = [0, -7, 10**12, 1e-4, 1e-300, 1e22, 1.0, 0.1 + 0.2, -0.0, True, False, None, "x"]
    data = {"values": values, "empty": [], "none": {}, "nested": {"a": [[1], {"b": [2.5]}]}}

    read = load(tmp_path, dump(data)).data

    assert read == data
    assert [type(v) for v in read["values"]] == [type(v) for v in values]
    assert list(read) == list(data)


# ---- of any content ------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


def test_aliases_that_stand_for_a_billion_values_are_refused_where_they_get_too_many(
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    message = refusal(tmp_path, BOMB)

    assert re.match(
        r"study\.yaml:1:\d+: more than 20,000 values, including those of aliases", message
    )
    assert time.monotonic() - began < 5


def test_an_alias_that_stands_for_little_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, "a: &a [1, 2]\nb: *a\n").data == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    "value", ["[" * 5000, "[" * 5000 + "]" * 5000, "{a: " * 5000 + "1" + "}" * 5000]
)
def test_nesting_of_thousands_of_levels_is_refused_with_its_place(
    tmp_path: Path, value: str
) -> None:
    message = refusal(tmp_path, f"a: {value}\n")

    assert re.match(r"study\.yaml:1:\d+: not valid YAML: is nested more than 50 deep$", message)
    assert refusal(tmp_path, "b: 1\n", f"a={value}").startswith("--set a=")


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, str(2**63)])
def test_a_whole_number_beyond_64_bits_is_refused_with_its_place(
    tmp_path: Path, digits: str
) -> None:
    message = refusal(tmp_path, f"b: 1\na: {digits}\n")

    assert message.startswith("study.yaml:2:4: a: ")
    assert message.endswith("is beyond the whole numbers of 64 bits")
    assert len(message) < 250
    assert len(refusal(tmp_path, "b: 1\n", f"a={digits}")) < 400


def test_the_largest_whole_numbers_of_64_bits_are_read(tmp_path: Path) -> None:
    text = f"a: {2**63 - 1}\nb: {-(2**63)}\n"

    assert load(tmp_path, text).data == {"a": 2**63 - 1, "b": -(2**63)}


def test_a_text_of_digits_is_dumped_and_read_back_as_a_text(tmp_path: Path) -> None:
    assert load(tmp_path, dump({"a": "9" * 5000})).data == {"a": "9" * 5000}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: x\0y\n", "study.yaml:2:5: "),
        ("a: 1\nb: \x1b[2J\n", "study.yaml:2:4: "),
        ('a: "x\\0y"\n', "study.yaml:1:4: a: "),
        ('a: "\\ud800"\n', "study.yaml:1:4: a: "),
        ('"\\ud800": 1\n', "study.yaml:1:1: "),
        ('a: "\\Uffffffff"\n', "study.yaml:1:"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1\n", "study.yaml:1:"),
    ],
)
def test_characters_that_no_file_can_hold_are_refused_with_their_place(
    tmp_path: Path, text: str, place: str
) -> None:
    message = refusal(tmp_path, text)

    assert message.startswith(place)
    assert message.isprintable()


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(InputError, match=f"{file}: is a pipe, a socket or a device"):
            load_document(file)


def test_a_file_that_is_too_large_to_be_one_of_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)  # sparse: it takes no room

    with pytest.raises(InputError, match="is larger than 1,000,000 bytes"):
        load_document(file)


@pytest.mark.parametrize("name", ["²", "１", "5", "99999999999999999999"])
def test_what_looks_like_a_number_is_a_name_where_there_is_no_list(
    tmp_path: Path, name: str
) -> None:
    assert load(tmp_path, "a: 1\n", f"{name}=x").data == {"a": 1, name: "x"}
    assert "cannot hold settings" in refusal(tmp_path, "a: [1]\n", f"a.{name}=x")


@pytest.mark.parametrize("setting", ["a\nb", "a.b\x1b[2J=[", "b=" + "x" * 5000 + ": :", "\ud800=1"])
def test_an_override_is_quoted_on_one_line_however_it_looks(tmp_path: Path, setting: str) -> None:
    message = refusal(tmp_path, "a: 1\n", setting)

    assert message.startswith("--set ")
    assert message.isprintable()
    assert len(message) < 400
