"""raygen cluster: from credentials to a file that `ray up` accepts, and back."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raygen.cli.group import Subcommands
from raygen.errors import InputError, RaygenError
from raygen.terminal import say, tell

if TYPE_CHECKING:
    from raygen.cluster.aws.plan import InitPlan


FOLDER = click.argument(
    "folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path)
)
FORCE = click.option("--force", is_flag=True, help="Overwrite a file that differs.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group("cluster", cls=Subcommands)
def cluster_command() -> None:
    """Prepare a cluster's account and its file for `ray up`, and remove what was made.

    E.g.: raygen cluster init aws
    """


@cluster_command.group("init")
def init_group() -> None:
    """Write a cluster file for `ray up` or KubeRay; on AWS, make what it needs.

    The file is written to DIR, by default the current folder.
    """


@init_group.command("aws")
@FOLDER
@click.option("--region", help="Default: that of your AWS configuration.")
@click.option("--name", default="raygen", show_default=True, help="Name of the cluster.")
@click.option(
    "--bucket", help="Default: NAME-ACCOUNT-REGION. An existing bucket is used unchanged."
)
@click.option(
    "--ssh-from",
    multiple=True,
    metavar="CIDR",
    help="Where SSH to the machines may come from: your public address. Repeatable.",
)
@click.option("--spot-type", help="Machine of spot workers; default: that of cluster/gpu.yaml.")
@click.option("--on-demand-type", help="Machine of workers where spot is at its limit.")
@click.option("--max-workers", type=int, default=8, show_default=True, help="Most GPU machines.")
@click.option("--image", metavar="AMI", help="Default: the newest deep learning image.")
@click.option("--vpc", help="Default: the default VPC of the region.")
@click.option("--dry-run", is_flag=True, help="Print the plan with all policies; make nothing.")
@YES
@FORCE
def init_aws_command(
    folder: Path, region: str | None, ssh_from: tuple[str, ...], spot_type: str | None,
    on_demand_type: str | None, dry_run: bool, yes: bool, force: bool, **wanted: Any,
) -> None:  # fmt: skip
    """Make bucket, rights and security group in your AWS account, and write gpu.yaml.

    E.g.: raygen cluster init aws --ssh-from 203.0.113.7/32
    """
    from raygen.cluster.aws.account import Account, configured_region
    from raygen.cluster.aws.plan import image_in, plan_init
    from raygen.cluster.aws.request import ClusterRequest, checked_request
    from raygen.cluster.templates import check_free, check_text, machine_types
    from raygen.files import check_target

    region = region or configured_region()
    unsaid = {"--region": not region, "--ssh-from": not ssh_from}
    if any(unsaid.values()) and not sys.stdin.isatty():
        raise InputError("\n".join(f"{option} is missing" for option in unsaid if unsaid[option]))
    region = region or click.prompt("AWS region", err=True)
    ssh_from = ssh_from or (click.prompt("Your public address, for SSH", err=True),)
    _, spot, on_demand = machine_types()
    request = checked_request(ClusterRequest(
        ssh_from=ssh_from, spot_type=spot_type or spot,
        on_demand_type=on_demand_type or on_demand, **wanted,
    ), region)  # fmt: skip
    file = folder / "gpu.yaml"
    check_target(file, "")
    if not force:
        request = request._replace(image_in_file=image_in(file, request, region))
    plan = plan_init(Account(region), request)
    check_text(file.name, plan.draft(file))
    _show(plan.lines(), err=not dry_run)
    if dry_run:
        _show(plan.policies())
    check_free(file, plan.file(file), force)
    if not dry_run:
        _carry_out(plan, file, yes)


def _carry_out(plan: "InitPlan", file: Path, yes: bool) -> None:
    from raygen.files import try_write

    if not plan.complete:
        _consent("make this?", yes)
        try_write(file, plan.draft(file))
    _keep_token()
    if not plan.complete:
        _show(plan.make(), err=True)
    _write(file, plan.draft(file))
    if plan.makes_roles:
        tell("AWS makes new roles known to EC2 within about 15 seconds: wait before `ray up`")
    searches = _searches(file, f"s3://{plan.bucket.name}/runs")
    name = shlex.quote(str(file))
    _next(f"ray up {name}", *searches, f"ray down {name}", f"raygen cluster remove {name}")


@init_group.command("local")
@FOLDER
@click.option("--head", required=True, metavar="ADDRESS", help="Runs the search and no trial.")
@click.option("--worker", "workers", multiple=True, required=True, metavar="ADDRESS",
              help="Runs trials. Repeatable.")  # fmt: skip
@click.option("--user", required=True, help="SSH user of all machines.")
@click.option("--key", default="~/.ssh/id_ed25519", show_default=True, help="Private SSH key.")
@FORCE
def init_local_command(
    folder: Path, head: str, workers: tuple[str, ...], user: str, key: str, force: bool
) -> None:
    """Write local.yaml, for machines of your own.

    E.g.: raygen cluster init local --head 10.0.0.10 --worker 10.0.0.11 --user ubuntu
    """
    from raygen.cluster.templates import local_file

    file = folder / "local.yaml"
    _write(file, local_file(file, head, workers, user, key), force)
    _keep_token()
    name = shlex.quote(str(file))
    _next(f"ray up {name}", *_searches(file, "s3://BUCKET/runs"), f"ray down {name}")


@init_group.command("kuberay")
@FOLDER
@click.option("--image", required=True, help="Image with raygen, this Ray and this Python.")
@click.option("--storage", required=True, metavar="URI", help="s3://BUCKET/PREFIX or gs://…")
@click.option("--service-account", required=True, metavar="NAME",
              help="Kubernetes service account that may read and write the bucket.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 1000), default=8, show_default=True,
              help="Most GPU pods.")  # fmt: skip
@click.option("--gpus", type=click.IntRange(1, 16), default=1, show_default=True,
              help="GPUs of each pod.")  # fmt: skip
@FORCE
def init_kuberay_command(
    folder: Path, image: str, storage: str, service_account: str, workers: int, gpus: int,
    force: bool,
) -> None:  # fmt: skip
    """Write kuberay.yaml, a search as a RayJob on Kubernetes.

    E.g.: raygen cluster init kuberay --image registry.example.org/raygen:ray2.60.0-py311 \\
        --storage s3://my-bucket/runs --service-account raygen-runs
    """  # noqa: D301 (one backslash, for the shell)
    from raygen.cluster.templates import kuberay_file

    file = folder / "kuberay.yaml"
    _write(file, kuberay_file(file, image, storage, service_account, workers, gpus), force)
    _next(f"kubectl create -f {shlex.quote(str(file))}", f"raygen report {storage}/gan")


@init_group.command("slurm")
@FOLDER
@click.option("--partition", help="Default: the cluster's own.")
@click.option("--account", help="Slurm account to charge.")
@click.option("--nodes", type=click.IntRange(1), help="Machines of the job.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs of each machine.")
@click.option("--cpus", type=click.IntRange(1), help="Cores of each machine.")
@click.option("--time", "limit", metavar="TIME", help="Limit of the job: 24:00:00 or 7-00:00:00.")
@FORCE
def init_slurm_command(
    folder: Path, partition: str | None, account: str | None, nodes: int | None, gpus: int | None,
    cpus: int | None, limit: str | None, force: bool,
) -> None:  # fmt: skip
    """Write slurm.sh, a batch script that is a search on Slurm.

    E.g.: raygen cluster init slurm --partition gpu --nodes 4 --gpus 8 --time 24:00:00
    """
    from raygen.cluster.templates import slurm_file

    file = folder / "slurm.sh"
    text = slurm_file(file, {
        "partition": partition, "account": account, "nodes": nodes, "gpus-per-node": gpus,
        "cpus-per-task": cpus, "time": limit,
    })  # fmt: skip
    _write(file, text, force)
    _next(f"raygen tune gan --cluster {shlex.quote(str(file))} --storage /shared/runs")


@cluster_command.command("remove")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--bucket", help="Default: that of the file.")
@click.option("--with-data", is_flag=True, help="Also delete the bucket's studies, all versions.")
@YES
def remove_command(file: Path, bucket: str | None, with_data: bool, yes: bool) -> None:
    """Take away what `raygen cluster init aws` made for a cluster.

    E.g.: raygen cluster remove gpu.yaml
    """
    from raygen.cluster.aws.account import Account
    from raygen.cluster.aws.plan import bucket_of, plan_remove, read_launched

    launched = read_launched(file)
    account = Account(launched.region)
    bucket = bucket_of(account, launched, bucket)
    plan = plan_remove(account, launched.cluster, bucket, with_data)
    _show(plan.lines(), err=True)
    if not plan.left:
        say("nothing to remove")
        return
    _consent("remove this?", yes)
    _show(plan.remove())
    tell(f"{file} and the key pair that Ray made stay: other clusters may use it")


def _write(file: Path, text: str, force: bool = True) -> None:
    """Check and write a cluster file, and say so."""
    from raygen.cluster.templates import check_free, check_text, write_cluster

    check_text(file.name, text)
    check_free(file, text, force)
    tell(f"wrote {file}" if write_cluster(file, text) else f"{file}: nothing to change")


def _keep_token() -> None:
    from raygen.home import protect_token

    protect_token()


def _searches(file: Path, storage: str) -> tuple[str, str]:
    options = f"--cluster {shlex.quote(str(file))} --storage {storage}"
    return f"raygen doctor {options}", f"raygen tune gan {options}"


def _next(*commands: str) -> None:
    if commands[0].startswith("ray up") and not _in_a_checkout():
        tell("note: `ray up` sends the current folder to every machine, which installs raygen from")
        tell("it; run it where raygen's pyproject.toml is")
    tell("next:")
    _show(commands)


def _in_a_checkout() -> bool:
    file = Path("pyproject.toml")
    return file.is_file() and 'name = "raygen"' in file.read_text(encoding="utf-8")


def _show(lines: Iterable[str], err: bool = False) -> None:
    for line in lines:
        say(line, err=err)


def _consent(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("nothing was changed: --yes is needed where nobody can be asked")
    if not click.confirm(question, err=True):
        raise RaygenError("nothing was changed")
