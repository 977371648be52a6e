"""Search spaces: parameters, branches, what sampling draws, and starting points."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from raygen.document import Document, load_document
from raygen.errors import InputError
from raygen.space import Draw, Group, Parameter, assign, parameters, parse_space, sample

SPACE = """\
space:
  lr: {float: [1e-4, 1e-2], log: true}
  dropout: {float: [0.0, 0.5], step: 0.1}
  width: {int: [32, 128], step: 32}
  latent: {int: [4, 512], log: true}
  depth: {int: [0, 3]}
  batch: {choice: [64, 128]}
  norm: {choice: [none, batch, null, true, 0.5]}
  loss:
    beta: 1.0
    game:
      one_of:
        hinge: {}
        plain:
        wasserstein:
          penalty: gradient
          weight: {float: [1, 30]}
          mixing: {choice: [real, fake]}
        relativistic:
          weight: {float: [0.1, 0.2]}
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def load(folder: Path, text: str, *overrides: str) -> Document:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return load_document(file, overrides)


def space_of(folder: Path, text: str = SPACE) -> Group:
    return parse_space(load(folder, text), ("space",))


def refusal(folder: Path, line: str) -> str:
    """The message for a space that holds this one line, with the folder taken off."""
    with pytest.raises(InputError) as caught:
        space_of(folder, f"space:\n  {line}\n")
    return str(caught.value).replace(f"{folder}/", "")


def draws(space: Group, count: int, seed: int = 0) -> list[Draw]:
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    return [sample(space, study.ask()) for _ in range(count)]


def replay(space: Group, values: dict[str, Any]) -> Draw:
    """The draw for which Optuna was told the values."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=99))
    study.enqueue_trial(values)
    return sample(space, study.ask())


def by_name(space: Group) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters(space)}


def test_every_parameter_is_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert [p.name for p in parameters(space_of(tmp_path))] == [
        "lr", "dropout", "width", "latent", "depth", "batch", "norm",
        "loss.game.name", "loss.game.wasserstein.weight", "loss.game.wasserstein.mixing",
        "loss.game.relativistic.weight",
    ]  # fmt: skip


def test_a_parameter_keeps_its_kind_bounds_step_scale_and_choices(tmp_path: Path) -> None:
    found = by_name(space_of(tmp_path))

    assert (found["lr"].kind, found["lr"].low, found["lr"].high) == ("float", 1e-4, 1e-2)
    assert found["lr"].log
    assert not found["dropout"].log
    assert found["dropout"].step == 0.1
    assert (found["width"].kind, found["width"].step) == ("int", 32)
    assert found["latent"].log
    assert found["batch"].choices == (64, 128)
    assert found["norm"].choices == ("none", "batch", None, True, 0.5)
    assert found["loss.game.name"].choices == ("hinge", "plain", "wasserstein", "relativistic")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("float: [0.0, 0.5], step: 0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ("float: [0.1, 0.7], step: 0.1", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("float: [0, 1], step: 0.3", [0.0, 0.3, 0.6, 0.9]),
        ("float: [1e-4, 5.5e-4], step: 1e-4", [1e-4, 2e-4, 3e-4, 4e-4, 5e-4]),
        ("int: [1, 10], step: 4", [1, 5, 9]),
        ("int: [32, 128], step: 32", [32, 64, 96, 128]),
    ],
)
@pytest.mark.parametrize("name", ["random", "tpe", "gp"])
def test_a_range_with_a_step_is_the_values_that_a_reader_counts_and_no_others(
    tmp_path: Path, text: str, values: list[float], name: str
) -> None:
    space = space_of(tmp_path, f"space: {{x: {{{text}}}}}\n")
    samplers = {
        "random": optuna.samplers.RandomSampler(seed=0),
        "tpe": optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
        "gp": optuna.samplers.GPSampler(seed=0, n_startup_trials=18),
    }
    study = optuna.create_study(sampler=samplers[name])
    drawn = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a range that its step does not divide
        for _ in range(20 if name == "gp" else 60):
            trial = study.ask()
            drawn.add(sample(space, trial).config["x"])
            study.tell(trial, 1.0)

    assert drawn <= set(values)
    assert name != "random" or drawn == set(values)
    assert parameters(space)[0].ends() == (values[0], values[-1])


def test_settings_of_two_branches_share_a_column_but_not_a_name(tmp_path: Path) -> None:
    found = by_name(space_of(tmp_path))
    one = found["loss.game.wasserstein.weight"]
    other = found["loss.game.relativistic.weight"]

    assert one.setting == other.setting == "loss.game.weight"
    assert one.condition == {"loss.game.name": "wasserstein"}
    assert other.condition == {"loss.game.name": "relativistic"}
    assert found["loss.game.name"].setting == "loss.game.name"


def test_names_are_unique_in_the_space(tmp_path: Path) -> None:
    names = [p.name for p in parameters(space_of(tmp_path))]

    assert len(set(names)) == len(names)


def test_branches_inside_of_a_branch_carry_both_conditions(tmp_path: Path) -> None:
    text = "space: {a: {one_of: {x: {b: {one_of: {y: {c: {int: [1, 2]}}, z: }}}, w: }}}\n"
    deepest = parameters(space_of(tmp_path, text))[-1]

    assert deepest.name == "a.x.b.y.c"
    assert deepest.setting == "a.b.c"
    assert deepest.condition == {"a.name": "x", "a.b.name": "y"}


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("lr: {float: [2, 1]}", "2:8: space.lr.float", "low 2 is above high 1"),
        ("n: {int: [9, 3]}", "2:7: space.n.int", "low 9 is above high 3"),
        ("lr: {float: [0, 1], log: true}", "2:16: space.lr.float.0: 0", "above 0"),
        ("lr: {float: [-1, 1], log: true}", "2:16: space.lr.float.0: -1", "above 0"),
        ("n: {int: [0, 8], log: true}", "2:13: space.n.int.0: 0", "above 0"),
        ("lr: {float: [1, 2], lgo: true}", "2:23: space.lr.lgo", "did you mean 'log'?"),
        ("n: {int: [1, 2], stp: 1}", "2:20: space.n.stp: 1", "did you mean 'step'?"),
        ("n: {choice: [1, 2], log: true}", "2:23: space.n.log", "unknown option, choice takes"),
        ("n: {one_of: {a: {}}, step: 2}", "2:24: space.n.step", "unknown option, one_of takes"),
        ("n: {int: [1, 2], float: [1, 2]}", "2:3: space.n", "has both float and int"),
        ("n: {choice: [1], one_of: {a: {}}}", "2:3: space.n", "has both choice and one_of"),
        ("lr: {float: [1]}", "2:8: space.lr.float", "needs two bounds"),
        ("lr: {float: [1, 2, 3]}", "2:8: space.lr.float", "needs two bounds"),
        ("lr: {float: 1}", "2:8: space.lr.float: 1", "needs two bounds"),
        ("lr: {float: }", "2:8: space.lr.float", "needs two bounds"),
        ("lr: {float: [true, 2]}", "2:16: space.lr.float.0: True", "is not a float"),
        ("n: {int: [1, true]}", "2:16: space.n.int.1: True", "is not an int"),
        ("n: {int: [1, 2.5]}", "2:16: space.n.int.1: 2.5", "is not an int"),
        ("lr: {float: [low, 2]}", "2:16: space.lr.float.0: 'low'", "is not a float"),
        ("lr: {float: ['1', 2]}", "2:16: space.lr.float.0: '1'", "is not a float"),
        ("lr: {float: [1, 2], log: on}", "2:23: space.lr.log: 'on'", "true or false"),
        ("lr: {float: [1, 2], step: 0}", "2:23: space.lr.step: 0", "positive"),
        ("lr: {float: [1, 2], step: 1e999}", "2:23: space.lr.step: inf", "positive"),
        ("lr: {float: [1, 1e999]}", "2:19: space.lr.float.1: inf", "must end somewhere"),
        ("lr: {float: [1, 2], step: -1}", "2:23: space.lr.step: -1", "positive"),
        ("n: {int: [1, 9], step: 0.5}", "2:20: space.n.step: 0.5", "positive int"),
        ("n: {int: [1, 9], step: true}", "2:20: space.n.step: True", "positive int"),
        ("lr: {float: [1, 2], log: true, step: 0.1}", "2:34: space.lr.step", "cannot have a step"),
        ("c: {choice: []}", "2:7: space.c.choice", "at least one"),
        ("c: {choice: word}", "2:7: space.c.choice: 'word'", "needs a list"),
        ("c: {choice: [a, b, a]}", "2:22: space.c.choice.2: 'a'", "twice"),
        ("c: {choice: [a, [b]]}", "2:19: space.c.choice.1", "plain value"),
        ("c: {choice: [a, {b: 1}]}", "2:19: space.c.choice.1", "plain value; use one_of"),
        ("c: {one_of: [a, b]}", "2:7: space.c.one_of", "needs a mapping"),
        ("c: {one_of: {}}", "2:7: space.c.one_of", "needs a mapping"),
        ("c: {one_of: {a: 3}}", "2:16: space.c.one_of.a: 3", "a branch is a mapping"),
        ("c: {one_of: {a: {name: b}}}", "2:20: space.c.one_of.a.name: 'b'", "is already the name"),
        ("c: {one_of: {a: {d: {int: [2, 1]}}}}", "2:24: space.c.one_of.a.d.int", "above high"),
    ],
)
def test_a_malformed_parameter_is_refused_in_one_line_with_its_position(
    tmp_path: Path, line: str, place: str, said: str
) -> None:
    message = refusal(tmp_path, line)

    assert message.startswith(f"study.yaml:{place}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["space: 3\n", "space: [1]\n", "space:\n"])
def test_a_space_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"study\.yaml:1:1: space: .*must be a mapping"):
        space_of(tmp_path, text)


def test_sampling_draws_only_admitted_values(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    found = by_name(space)

    for draw in draws(space, 200):
        for name, value in draw.parameters.items():
            assert found[name].admits(value), (name, value)
        assert 1e-4 <= draw.config["lr"] <= 1e-2
        assert draw.config["width"] in (32, 64, 96, 128)
        assert any(draw.config["dropout"] == pytest.approx(k / 10) for k in range(6))
        assert isinstance(draw.config["depth"], int)


def test_both_ends_of_a_range_are_admitted_and_nothing_beyond_them(tmp_path: Path) -> None:
    found = by_name(space_of(tmp_path))

    assert found["lr"].admits(1e-4)
    assert found["lr"].admits(1e-2)
    assert not found["lr"].admits(0.99e-4)
    assert not found["lr"].admits(1.01e-2)
    assert not found["lr"].admits(True)
    assert not found["lr"].admits("1e-3")
    assert found["width"].admits(96)
    assert not found["width"].admits(48)
    assert not found["depth"].admits(1.5)
    assert found["dropout"].admits(0.30000000000000004)
    assert not found["dropout"].admits(0.25)


def test_a_log_range_is_drawn_evenly_in_the_logarithm(tmp_path: Path) -> None:
    below = [d.config["lr"] < 1e-3 for d in draws(space_of(tmp_path), 400)]

    # Half of 400 within five standard deviations; evenly on the linear scale it would be 9%.
    assert abs(sum(below) - 200) < 50


def test_the_parameters_of_a_branch_exist_only_in_the_branch_that_was_chosen(
    tmp_path: Path,
) -> None:
    keys = {
        "hinge": {"name"},
        "plain": {"name"},
        "wasserstein": {"name", "penalty", "weight", "mixing"},
        "relativistic": {"name", "weight"},
    }
    seen = set()
    for draw in draws(space_of(tmp_path), 100):
        game = draw.config["loss"]["game"]
        asked = {n.split(".")[2] for n in draw.parameters if n.startswith("loss.game.")}
        seen.add(game["name"])

        assert set(game) == keys[game["name"]]
        assert asked <= {"name", game["name"]}
    assert seen == set(keys)


def test_fixed_values_appear_in_every_draw(tmp_path: Path) -> None:
    assert all(d.config["loss"]["beta"] == 1.0 for d in draws(space_of(tmp_path), 5))


def test_every_setting_of_a_draw_leads_back_to_its_line_in_the_file(tmp_path: Path) -> None:
    document = load(tmp_path, SPACE)
    draw = replay(parse_space(document, ("space",)), {"loss.game.name": "wasserstein"})
    lines = SPACE.splitlines()

    def line(*at: str) -> str:
        return lines[int(document.mark(draw.where[at]).split(":")[-2]) - 1].strip()

    assert line("lr").startswith("lr:")
    assert line("loss", "beta").startswith("beta:")
    assert line("loss", "game", "weight") == "weight: {float: [1, 30]}"
    assert line("loss", "game", "name") == "wasserstein:"


def test_a_draw_that_is_told_its_own_parameters_is_the_same_configuration(
    tmp_path: Path,
) -> None:
    space = space_of(tmp_path)

    for draw in draws(space, 60, seed=3):
        again = replay(space, draw.parameters)

        assert again.config == draw.config
        assert again.parameters == draw.parameters


def starts(folder: Path, point: str, *overrides: str) -> tuple[Group, dict[str, Any]]:
    document = load(folder, f"{SPACE}start: [{point}]\n", *overrides)
    space = parse_space(document, ("space",))
    return space, assign(space, document, ("start", 0))


def test_a_configuration_that_was_drawn_is_a_starting_point_with_the_same_parameters(
    tmp_path: Path,
) -> None:
    from raygen.document import dump

    space = space_of(tmp_path)
    for draw in draws(space, 40, seed=5):
        document = load(tmp_path, SPACE + dump({"start": [draw.config]}))

        assert assign(space, document, ("start", 0)) == draw.parameters


def test_a_starting_point_leaves_the_rest_to_the_sampler(tmp_path: Path) -> None:
    space, point = starts(tmp_path, "{width: 64, loss: {game: {name: wasserstein, weight: 10}}}")

    assert point == {
        "width": 64,
        "loss.game.name": "wasserstein",
        "loss.game.wasserstein.weight": 10,
    }
    config = replay(space, point).config
    assert config["width"] == 64
    assert config["loss"]["game"]["weight"] == 10
    assert config["loss"]["game"]["mixing"] in ("real", "fake")


def test_a_starting_point_may_repeat_a_fixed_value(tmp_path: Path) -> None:
    assert starts(tmp_path, "{loss: {beta: 1}}")[1] == {}


@pytest.mark.parametrize(
    ("point", "path", "said"),
    [
        ("{lr: 1.0}", "start.0.lr: 1.0", "outside the space: float from 0.0001 to 0.01"),
        ("{width: 48}", "start.0.width: 48", "int from 32 to 128 in steps of 32"),
        ("{batch: 32}", "start.0.batch: 32", "one of 64, 128"),
        ("{widht: 64}", "start.0.widht: 64", "not in the space; did you mean 'width'?"),
        ("{loss: {beta: 2}}", "start.0.loss.beta: 2", "fixes it to 1.0"),
        ("{loss: 3}", "start.0.loss: 3", "must be a mapping"),
        ("{loss: {game: hinge}}", "start.0.loss.game: 'hinge'", "must be a mapping"),
        ("{loss: {game: {name: hing}}}", "start.0.loss.game.name: 'hing'", "did you mean 'hinge'?"),
        ("{loss: {game: {name: [a]}}}", "start.0.loss.game.name: ['a']", "must name a branch"),
        ("{loss: {game: {weight: 3}}}", "start.0.loss.game.name", "must name a branch"),
        ("{loss: {game: {name: hinge, weight: 3}}}", "start.0.loss.game.weight", "not in the"),
        ("{loss: {game: {name: relativistic, weight: 3}}}", "start.0.loss.game.weight", "outside"),
        ("3", "start.0: 3", "must be a mapping"),
    ],
)
def test_a_starting_point_outside_of_the_space_is_refused(
    tmp_path: Path, point: str, path: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        starts(tmp_path, point)
    line = len(SPACE.splitlines()) + 1

    assert f"study.yaml:{line}:" in str(caught.value)
    assert f": {path}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("space.width=32", {}),
        ("space.width={int: [32, 32]}", {}),
        ("space.width.int=[32, 32]", {}),
        ("space.width.int.0=96", {}),
        ("space.width={choice: [64]}", {"width": 64}),
        ("space.width.int=[32, 64]", {"width": 64}),
    ],
)
def test_a_space_narrowed_by_set_wins_over_a_starting_point(
    tmp_path: Path, override: str, left: dict[str, Any]
) -> None:
    assert starts(tmp_path, "{width: 64}", override)[1] == left


@pytest.mark.parametrize(
    "override",
    [
        "space.loss.game={name: hinge}",
        "space.loss={beta: 1.0, game: {name: hinge}}",
        "space.loss.game={one_of: {hinge: {}}}",
        "space.loss.game.one_of={hinge: {}}",
    ],
)
def test_a_branch_removed_by_set_is_left_out_of_a_starting_point(
    tmp_path: Path, override: str
) -> None:
    point = "{width: 64, loss: {game: {name: wasserstein, weight: 10}}}"

    assert starts(tmp_path, point, override)[1] == {"width": 64}


def test_a_misspelling_in_a_starting_point_is_refused_beside_an_unrelated_set(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="did you mean 'width'"):
        starts(tmp_path, "{widht: 64}", "space.width=32")
