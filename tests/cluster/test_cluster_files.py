"""The cluster files against Ray's own schema, and against raygen's rules."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.files import FOLDER, filled
from raygen.cluster.files import check_cluster
from raygen.errors import InputError

FILES = ["gpu.yaml", "local.yaml", "kuberay.yaml"]
LAUNCHED = ["gpu.yaml", "local.yaml"]


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load(filled(name))


def starts(config: dict[str, Any]) -> list[str]:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def test_these_are_all_of_the_files() -> None:
    assert sorted(file.name for file in FOLDER.glob("*.yaml")) == sorted(FILES)


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_own_schema_accepts_the_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", LAUNCHED)
def test_rays_own_schema_refuses_a_misspelt_key_so_that_acceptance_means_something(
    name: str,
) -> None:
    from jsonschema.exceptions import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises((ValidationError, ValueError)):
        validate_config(prepare_config({**load(name), "max_wokers": 2}))


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_which_the_users_names_are_filled_in_has_no_mistake(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(filled(name))

    check_cluster(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_it_comes_asks_for_the_users_names_and_for_nothing_else(name: str) -> None:
    with pytest.raises(InputError) as error:
        check_cluster(FOLDER / name)

    lines = str(error.value).splitlines()
    assert all("REPLACE-ME" in line and "must still be filled in" in line for line in lines)


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_demands_the_token_and_gets_it(name: str) -> None:
    config = load(name)

    assert len(starts(config)) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts(config))
    assert "~/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("name", FILES)
def test_the_first_line_is_the_command_that_uses_the_file(name: str) -> None:
    command = "kubectl create -f" if name == "kuberay.yaml" else "ray up"

    assert (FOLDER / name).read_text().startswith(f"# {command} cluster/{name}\n")


def test_on_aws_no_file_opens_a_port_to_the_world_and_workers_reach_the_bucket_only() -> None:
    config = load("gpu.yaml")
    nodes = config["available_node_types"]

    assert "0.0.0.0" not in yaml.safe_dump(config)
    assert {n["node_config"]["IamInstanceProfile"]["Name"] for n in nodes.values()} == {
        "raygen-head",
        "raygen-worker",
    }
    assert nodes["head"]["node_config"]["IamInstanceProfile"] == {"Name": "raygen-head"}
