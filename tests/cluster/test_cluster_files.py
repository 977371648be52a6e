"""The cluster files against Ray's own schema, and against what its schema lets through."""

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "cluster"
FILES = sorted(FOLDER.glob("*.yaml"))


def load(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def starts(config: dict[str, Any]) -> list[str]:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def test_the_cluster_files_are_there() -> None:
    assert {file.name for file in FILES} >= {"gpu.yaml", "local.yaml"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_rays_own_schema_accepts_the_file(file: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(load(file)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_misspelt_key_is_refused_so_that_acceptance_means_something(file: Path) -> None:
    from jsonschema.exceptions import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises((ValidationError, ValueError)):
        validate_config(prepare_config({**load(file), "max_wokers": 2}))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_node_demands_the_token_and_gets_it(file: Path) -> None:
    config = load(file)

    assert len(starts(config)) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts(config))
    assert "~/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_dashboard_listens_on_loopback_only(file: Path) -> None:
    head = next(command for command in starts(load(file)) if "--head" in command)

    assert "--dashboard-host=127.0.0.1" in head


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_ray_is_pinned_to_the_installed_version_and_no_nightly_wheel_is_used(file: Path) -> None:
    import ray

    commands = "\n".join(load(file)["setup_commands"])

    assert f"ray[default,tune,train]=={ray.__version__}" in commands
    assert "dev0" not in commands


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_first_line_is_the_command_that_uses_the_file(file: Path) -> None:
    assert file.read_text().startswith(f"# ray up cluster/{file.name}\n")


def test_on_aws_every_node_names_its_image_and_its_rights_and_is_terminated_when_idle() -> None:
    config = load(FOLDER / "gpu.yaml")

    assert config["provider"]["cache_stopped_nodes"] is False
    for node in config["available_node_types"].values():
        assert "ImageId" in node["node_config"]
        assert "IamInstanceProfile" in node["node_config"]


def test_on_own_machines_the_head_turns_autoscaler_v2_off() -> None:
    head = next(c for c in starts(load(FOLDER / "local.yaml")) if "--head" in c)

    assert "RAY_enable_autoscaler_v2=0" in head
