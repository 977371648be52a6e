"""What raygen validate finds in cluster files that Ray's own schema accepts."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cluster.files import filled
from raygen.cli import main
from raygen.cluster.files import check_cluster, most_trials
from raygen.cluster.files.launcher import EC2, PROVIDER
from raygen.errors import InputError
from raygen.resources import Resources

MISTAKES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("mistakes.yaml").read_text()
)
HEAD_DOOR = ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0")


def ray_accepts(text: str) -> bool:
    from jsonschema.exceptions import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(yaml.safe_load(text)))
    except (ValidationError, ValueError, TypeError):
        return False
    return True


@pytest.mark.parametrize(
    "case", MISTAKES, ids=[f"{c['file']}-{c['place']}-{c['answer'][:24]}" for c in MISTAKES]
)
def test_a_mistake_is_one_line_with_its_place_and_rule(
    case: dict[str, Any], tmp_path: Path
) -> None:
    text = filled(case["file"], (case["old"], case["new"]))
    path = tmp_path / case["file"]
    path.write_text(text)

    with pytest.raises(InputError) as error:
        check_cluster(path)

    lines = [line for line in str(error.value).splitlines() if case["answer"] in line]
    assert lines, str(error.value)
    assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", lines[0])
    assert case["place"] in lines[0]
    assert error.value.exit_code == 2
    if case["schema"] is not None:
        assert ray_accepts(text) == case["schema"]


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = filled("gpu.yaml", ("region:", "regoin:"), HEAD_DOOR)
    (tmp_path / "gpu.yaml").write_text(text)

    found = CliRunner().invoke(main, ["validate", str(tmp_path / "gpu.yaml")])

    assert found.exit_code == 2
    assert len(found.stderr.splitlines()) == 2
    assert "Traceback" not in found.output


def test_the_names_of_ec2_are_those_of_its_api_model() -> None:
    session = pytest.importorskip("botocore.session", reason="boto3 is not installed")

    model = session.get_session().get_service_model("ec2").operation_model("RunInstances")
    assert set(model.input_shape.members) | {"SubnetIds"} == EC2


@pytest.mark.parametrize("kind", ["aws", "local"])
def test_the_names_of_a_provider_are_those_that_rays_source_reads(kind: str) -> None:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "autoscaler" / "_private"
    files = [*folder.joinpath(kind).rglob("*.py"), folder / "commands.py"]
    source = "\n".join(file.read_text() for file in files)
    read = re.compile(r"""provider(?:_config|"\])(?:\["|\.get\(\s*")(\w+)""")
    made_by_ray = {"list_of_node_ips"}

    found = {name for name in read.findall(source) if name[0] != "_"} - made_by_ray

    assert len(found) > 3
    assert found <= PROVIDER[kind] | {"disable_launch_config_check", "security_group"}


@pytest.mark.parametrize(
    ("resources", "most"),
    [({"gpus": 1}, 8), ({"gpus": 0.5}, 8), ({"gpus": 1, "workers": 2}, 4)],
)
def test_the_most_trials_are_as_many_as_the_file_lets_workers_come(
    resources: dict[str, float], most: int
) -> None:
    config = yaml.safe_load(filled("gpu.yaml"))

    assert most_trials(config, Resources.model_validate(resources)) == most


def test_where_the_file_tells_the_gpus_of_a_node_they_count() -> None:
    config = yaml.safe_load(filled("gpu.yaml", ("resources: {}", "resources: {GPU: 4}")))

    assert most_trials(config, Resources(gpus=0.5)) == 8 * 8


@pytest.mark.parametrize("name", ["gpu.yaml", "local.yaml", "kuberay.yaml"])
def test_aliases_that_stand_for_a_billion_values_are_one_line(name: str, tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    path = tmp_path / name
    path.write_text(bomb + filled(name))

    with pytest.raises(InputError, match=rf"^{path}:1:\d+: more than 20,000 values"):
        check_cluster(path)


def test_what_the_schema_says_of_a_long_value_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(filled("gpu.yaml", ("max_workers: ", f"max_workers: {'x' * 100_000}")))

    with pytest.raises(InputError) as error:
        check_cluster(path)

    lines = str(error.value).splitlines()
    assert any("max_workers" in line for line in lines)
    assert max(map(len, lines)) < 1000


@pytest.mark.parametrize("value", ["{a: 1}", "[RayJob]", "3", "~"])
def test_a_kind_or_a_list_of_groups_of_another_type_is_one_line(value: str, tmp_path: Path) -> None:
    path = tmp_path / "kuberay.yaml"
    path.write_text(filled("kuberay.yaml", ("kind: RayJob", f"kind: {value}")))
    with pytest.raises(InputError, match=rf"^{path}:\d+:\d+: kind: .*must be RayJob or RayCluster"):
        check_cluster(path)

    path.write_text(
        filled("kuberay.yaml", ("workerGroupSpecs:", f"workerGroupSpecs: {value}\n    x:"))
    )
    with pytest.raises(InputError, match=rf"{path}:\d+:\d+: spec"):
        check_cluster(path)
