"""raygen cluster init local and kuberay: files that need nothing more, of what their user said."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cluster.files import FOLDER
from raygen.cli import main
from raygen.cluster import templates
from raygen.cluster.files import check_cluster

LOCAL = "cluster init local --head 10.0.0.10 --worker 10.0.0.11 --worker gpu-2 --user ubuntu"
KUBERAY = (
    "cluster init kuberay --image registry.example.org/raygen:0.1.0-ray2.60.0-py311-gpu"
    " --storage s3://pictures/a/runs --service-account raygen"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def raygen(line: str) -> Result:
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(line: str, *parts: str) -> None:
    result = raygen(line)
    assert result.exit_code == 2
    assert all(part in result.stderr for part in parts), result.stderr
    assert not list(Path().glob("*.yaml"))


def of_this_machine(line: str) -> str:
    """A command whose image has the Ray and the Python of this machine."""
    import platform
    from importlib.metadata import version

    python = "".join(platform.python_version_tuple()[:2])
    return re.sub(r"ray[\d.]+-py\d+", f"ray{version('ray')}-py{python}", line)


def kuberay(more: str = "") -> str:
    return f"{of_this_machine(KUBERAY)} {more}"


def load(name: str) -> Any:
    check_cluster(Path(name))
    return yaml.safe_load(Path(name).read_text())


def test_machines_of_ones_own_are_a_file_that_ray_takes(folder: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    result = raygen(f"{LOCAL} --key ~/.ssh/cluster.pem")

    config = load("local.yaml")
    assert config["provider"] == {
        "type": "local", "head_ip": "10.0.0.10", "worker_ips": ["10.0.0.11", "gpu-2"],
    }  # fmt: skip
    assert config["auth"] == {"ssh_user": "ubuntu", "ssh_private_key": "~/.ssh/cluster.pem"}
    validate_config(prepare_config(config))
    assert result.stdout.splitlines()[0] == "ray up local.yaml"
    assert "wrote local.yaml\n" in result.stderr
    assert "# ray up local.yaml\n" in Path("local.yaml").read_text()
    assert (folder / "home" / ".ray" / "auth_token").exists()
    assert "it; run it where raygen's pyproject.toml is" in result.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--worker 10.0.0.10", "--worker 10.0.0.10: is also the head"),
        ("--worker gpu-2", "--worker gpu-2: is given twice"),
        ("--worker 'a, b'", "must be an address"),
        ("--user 'root; rm'", "--user root; rm"),
        ("--key 'a b'", "--key a b"),
    ],
)
def test_machines_that_cannot_be_are_one_line(more: str, said: str) -> None:
    refused(f"{LOCAL} {more}", said)


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = "--head 10.0.0.300 --worker 10.0.0.11,10.0.0.12 --user 'a b' --key 'x y'"
    parts = ("--head 10.0.0.300:", "--worker 10.0.0.11,10.0.0.12:", "--user a b:", "--key x y:")
    refused(f"cluster init local {wrong}", *parts)
    refused("cluster init kuberay --image 'a b' --storage /x --service-account Foo",
            "--image a b:", "--storage /x:", "--service-account Foo:")  # fmt: skip
    refused("cluster init slurm --partition 'g p' --time 24h", "--partition g p:", "--time 24h:")


def test_all_options_that_are_missing_are_said_at_once() -> None:
    refused("cluster init local", "missing: --head ADDRESS, --worker ADDRESS, --user TEXT")
    refused("cluster init local --head a --user b", "Missing option '--worker'")
    refused("cluster init kuberay --storage s3://pictures/runs",
            "missing: --image TEXT, --service-account NAME")  # fmt: skip


@pytest.mark.parametrize("kind", ["local", "kuberay", "slurm"])
def test_the_examples_of_the_documentation_and_of_the_help_are_accepted(
    repository: Path, kind: str
) -> None:
    docs = (repository / "docs" / "clusters.md").read_text()
    text = docs + raygen(f"cluster init {kind} --help").stdout
    examples = re.findall(
        rf"^(?:  E\.g\.: )?raygen (cluster init {kind} .*)", text.replace("\\\n", " "), re.MULTILINE
    )

    assert len(examples) == 2
    for folder, line in zip("ab", examples, strict=True):
        result = raygen(f"{of_this_machine(line)} {folder}")
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("raygen:", "RayGen:", "a name in lower case before its tag"),
        ("s3://pictures", "s3://BUCKET", "the bucket in lower case"),
        ("--service-account raygen", "--service-account ACCOUNT", "of a-z, 0-9, - and ."),
    ],
)
def test_a_name_in_capitals_that_kubernetes_or_a_store_refuses_is_refused_with_the_rule(
    old: str, new: str, said: str
) -> None:
    refused(kuberay().replace(old, new), said)


@pytest.mark.parametrize(
    ("time", "code"),
    [("90", 0), ("24:00:00", 0), ("7-00:00:00", 0), ("1-12", 0), ("24h", 2), ("99:99:99", 2)],
)
def test_a_time_limit_is_one_that_sbatch_reads(time: str, code: int) -> None:
    assert raygen(f"cluster init slurm --time {time}").exit_code == code


def test_commands_for_a_folder_with_spaces_can_be_pasted() -> None:
    lines = raygen(f"{LOCAL} 'my cluster'").stdout.splitlines()

    assert [shlex.split(line)[2 if line.startswith("ray ") else -3] for line in lines] == [
        "my cluster/local.yaml"
    ] * len(lines)
    first = (Path("my cluster") / "local.yaml").read_text().splitlines()[0]
    assert first == "# ray up 'my cluster/local.yaml'"


@pytest.mark.parametrize("tag", ["0.1.0-ray2.9.0-py311", "0.1.0-ray2.9.0", "1.4.2-2.9.0-py311"])
def test_an_image_has_the_ray_that_its_tag_names_and_not_the_version_of_what_uses_it(
    tag: str,
) -> None:
    image = f"--image registry/raygen:{tag}"
    refused(f"{kuberay()} {image}", "has Ray 2.9.0, but")
    refused(f"{kuberay()} --image registry/raygen:0.1.0", "its tag must name the version")


@pytest.mark.parametrize("word", ["true", "null", "123", "1e3", "0x1f", "12:30"])
def test_what_yaml_takes_for_something_else_stays_a_text(word: str) -> None:
    raygen(LOCAL.replace("gpu-2", word).replace("ubuntu", "no"))

    config = load("local.yaml")
    assert config["provider"]["worker_ips"] == ["10.0.0.11", word]
    assert config["auth"]["ssh_user"] == "no"


def test_a_search_on_kubernetes_is_a_manifest_without_mistakes() -> None:
    result = raygen(kuberay("--workers 3 --gpus 2"))

    spec = load("kuberay.yaml")["spec"]
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    assert "--storage s3://pictures/a/runs --set resources.concurrent=6" in spec["entrypoint"]
    assert (group["maxReplicas"], limits["nvidia.com/gpu"]) == (3, "2")
    assert pod["serviceAccountName"] == "raygen"
    assert result.stdout.splitlines()[0] == "kubectl create -f kuberay.yaml"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("s3://pictures/a/runs", "/mnt", "--storage /mnt"),
        ("--service-account raygen", "--service-account 'a: b'", "--service-account a: b"),
        ("registry.example.org/", "'a b'", "--image a b"),
        ("-ray", "-r1.2.3", "kuberay.yaml:"),  # by the rules of raygen validate
    ],
)
def test_a_manifest_that_would_have_a_mistake_is_not_written(old: str, new: str, said: str) -> None:
    refused(kuberay().replace(old, new), said)


def test_a_file_that_differs_is_overwritten_only_if_that_is_asked_for() -> None:
    raygen(LOCAL)
    text = Path("local.yaml").read_text()
    assert raygen(LOCAL).exit_code == 0  # the same again
    other = LOCAL.replace("gpu-2", "gpu-3")

    result = raygen(other)
    assert result.exit_code == 2
    assert "local.yaml:11: exists and differs" in result.stderr
    assert Path("local.yaml").read_text() == text
    raygen(f"{other} --force")
    assert load("local.yaml")["provider"]["worker_ips"] == ["10.0.0.11", "gpu-3"]


def test_the_file_as_it_comes_is_filled_in_and_another_folder_is_made() -> None:
    for name in ("cluster", "new"):
        if name == "cluster":
            Path(name).mkdir()
            Path(name, "local.yaml").write_text((FOLDER / "local.yaml").read_text())
        result = raygen(f"{LOCAL} {name}")
        assert result.stdout.splitlines()[0] == f"ray up {name}/local.yaml"
        load(f"{name}/local.yaml")


@pytest.mark.parametrize("name", ["gpu.yaml", "local.yaml", "kuberay.yaml"])
def test_the_files_come_with_the_package(name: str, repository: Path) -> None:
    assert templates.shipped(name) == (FOLDER / name).read_text()
    included = '"cluster" = "raygen/cluster/shipped"'
    assert included in (repository / "pyproject.toml").read_text()


def test_a_batch_script_has_the_options_of_its_user_and_the_rest_as_it_comes() -> None:
    result = raygen("cluster init slurm --partition gpu --nodes 4 --gpus 8 --time 7-00:00:00")

    text, shipped = Path("slurm.sh").read_text(), (FOLDER / "slurm.sh").read_text()
    options = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    for option in ("partition=gpu", "nodes=4", "gpus-per-node=8", "time=7-00:00:00"):
        assert sum(line == f"#SBATCH --{option}" for line in options) == 1
    assert "##SBATCH --account=REPLACE-ME" in text  # not asked for: as it comes
    assert text.partition("export ")[2] == shipped.partition("export ")[2]
    assert result.stdout == "raygen tune gan --cluster slurm.sh --storage /shared/runs\n"
    refused("cluster init slurm --partition 'a b' --force", "--partition a b")


def test_a_kind_of_cluster_that_is_misspelt_is_refused_with_the_nearest() -> None:
    assert "did you mean 'kuberay'?" in raygen("cluster init kubray").stderr
    assert "choose from aws, local, kuberay, slurm" in raygen("cluster init gcp").stderr
    assert "did you mean 'remove'?" in raygen("cluster remov").stderr
