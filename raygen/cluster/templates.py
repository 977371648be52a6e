"""Cluster files for this user and this machine, made of those that come with raygen."""

import platform
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from ipaddress import ip_address
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from raygen.cluster.files import check_cluster, check_script, is_script
from raygen.document import MOST_BYTES, read_bounded
from raygen.errors import InputError, refuse
from raygen.files import check_target, write_text

Change = tuple[str, str]  # what stands in the shipped file, and what comes in its place
# What sbatch reads as a time: minutes, M:S, H:M:S, D-H, D-H:M and D-H:M:S.
TIME = r"\d+(:[0-5]?\d){0,2}|\d+-\d{1,2}(:[0-5]?\d){0,2}|UNLIMITED|INFINITE"
# What a container runtime and the two stores take: capitals only in a registry's host or a tag.
IMAGE = r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?"
STORAGE = r"(s3|gs)://[a-z0-9][a-z0-9._-]+[a-z0-9](/[\w.-]+)*/?"
# What must be filled in and done by hand.
NOTE = re.compile(r"`raygen (?:cluster|validate) [^:]*:\n(?:#   .*\n)+(?:# and once.*\n)?")


class AwsNames(NamedTuple):
    """What `raygen cluster init aws` puts into cluster/gpu.yaml."""

    cluster: str
    region: str
    zones: list[str]
    image: str
    group: str
    head_profile: str
    worker_profile: str
    spot_type: str
    on_demand_type: str
    max_workers: int
    max_on_demand: int
    bucket: str


def shipped_file(name: str) -> Path:
    """Where a cluster file is as it comes: in the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "shipped"
    return (inside if inside.is_dir() else Path(__file__).parents[2] / "cluster") / name


def shipped(name: str) -> str:
    """Return a cluster file as it comes."""
    return shipped_file(name).read_text(encoding="utf-8")


def machine_types() -> tuple[str, str, str]:
    """Return the machines of cluster/gpu.yaml: of the head, of spot workers, of other workers."""
    head, spot, on_demand = re.findall(r"InstanceType: (\S+)", shipped("gpu.yaml"))
    return head, spot, on_demand


def gpu_file(path: Path, names: AwsNames) -> str:
    """cluster/gpu.yaml for a cluster on AWS."""
    _, spot, on_demand = machine_types()
    return filled("gpu.yaml", path, "aws", (
        ("cluster_name: raygen\n", f"cluster_name: {names.cluster}\n"),
        ("region: us-west-2\n", f"region: {names.region}\n"),
        ("us-west-2a,us-west-2b", ",".join(names.zones)),
        ("ami-REPLACE-ME", names.image),
        ("sg-REPLACE-ME", names.group),
        ("Name: raygen-head", f"Name: {names.head_profile}"),
        ("Name: raygen-worker", f"Name: {names.worker_profile}"),
        (f"InstanceType: {spot}\n", f"InstanceType: {names.spot_type}\n"),
        (f"InstanceType: {on_demand}\n", f"InstanceType: {names.on_demand_type}\n"),
        ("max_workers: 8\n", f"max_workers: {names.max_workers}\n"),
        ("max_workers: 2\n", f"max_workers: {names.max_on_demand}\n"),
        ("s3://BUCKET/", f"s3://{names.bucket}/"),
    ))  # fmt: skip


def local_file(path: Path, head: str, workers: Iterable[str], user: str, key: str) -> str:
    """cluster/local.yaml for machines over SSH.

    Raises:
        InputError: an address, the user or the key cannot be one; one address stands for two. One
            line for each.
    """
    workers = list(workers)
    mistakes = [
        f"{option} {value}: must be an address or the name of a machine"
        for option, value in (("--head", head), *(("--worker", address) for address in workers))
        if not _is_machine(value)
    ]
    for number, address in enumerate(workers):
        if address == head:
            mistakes.append(f"--worker {address}: is also the head")
        elif address in workers[:number]:
            mistakes.append(f"--worker {address}: is given twice")
    if not re.fullmatch(r"[\w.-]+", user):
        mistakes.append(f"--user {user}: must be the name of a user")
    if not re.fullmatch(r"[\w.~/@+-]+", key):
        mistakes.append(f"--key {key}: must be the path of a private key, without spaces")
    refuse(mistakes)
    return filled("local.yaml", path, "local", (
        ("head_ip: REPLACE-ME ", f"head_ip: {_text(head)} "),
        ("[REPLACE-ME]", f"[{', '.join(map(_text, workers))}]"),
        ("ssh_user: REPLACE-ME", f"ssh_user: {_text(user)}"),
        ("ssh_private_key: ~/.ssh/id_ed25519", f"ssh_private_key: {_text(key)}"),
    ))  # fmt: skip


def kuberay_file(
    path: Path, image: str, storage: str, account: str, workers: int, gpus: int
) -> str:
    """cluster/kuberay.yaml for a search on Kubernetes.

    Raises:
        InputError: a value cannot be one; one line for each.
    """
    rules = (
        ("--image", image, IMAGE, "an image such as registry.example.org/raygen:TAG, a name in "
         "lower case before its tag"),
        ("--storage", storage, STORAGE, "such as s3://my-bucket/runs or gs://my-bucket/runs, the "
         "bucket in lower case"),
        ("--service-account", account, r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "the name of a service "
         "account, of a-z, 0-9, - and ."),
    )  # fmt: skip
    refuse(
        f"{option} {value}: must be {rule}"
        for option, value, pattern, rule in rules
        if not re.fullmatch(pattern, value)
    )
    return filled("kuberay.yaml", path, "kuberay", (
        ("s3://REPLACE-ME/runs", storage),
        ("&account REPLACE-ME", f"&account {_text(account)}"),
        ("&image REPLACE-ME/raygen:0.1.0-ray2.60.0-py311-gpu", f"&image {_text(image)}"),
        ("maxReplicas: 8\n", f"maxReplicas: {workers}\n"),
        ("resources.concurrent=8\n", f"resources.concurrent={workers * gpus}\n"),
        ('nvidia.com/gpu: "1"', f'nvidia.com/gpu: "{gpus}"'),
    ))  # fmt: skip


def slurm_file(path: Path, options: Mapping[str, str | int | None]) -> str:
    """cluster/slurm.sh with these options of `sbatch`; None leaves one as it comes.

    Raises:
        InputError: a value cannot stand in a line of `#SBATCH`; one line for each.
    """
    text = shipped("slurm.sh").replace("cluster/slurm.sh", shlex.quote(str(path)))
    given = {name: value for name, value in options.items() if value is not None}
    rules = {"time": (TIME, "be such as 24:00:00 or 7-00:00:00")}
    word = (r"[\w.:,+-]+", "have no spaces or quotes")
    refuse(
        f"--{name} {value}: must {rules.get(name, word)[1]}"
        for name, value in given.items()
        if not re.fullmatch(rules.get(name, word)[0], str(value))
    )
    for name, value in given.items():
        line = re.compile(rf"^##?SBATCH --{name}=.*$", re.MULTILINE)
        text, count = line.subn(f"#SBATCH --{name}={value}", text)
        assert count == 1, f"slurm.sh has {count} lines for --{name}"
    return text


def filled(name: str, path: Path, kind: str, changes: Iterable[Change]) -> str:
    """Return a shipped file with its texts changed, for the Ray and the Python of this machine."""
    text = shipped(name)
    python = ".".join(platform.python_version_tuple()[:2])
    new = {f"cluster/{name}": shlex.quote(str(path)), **dict(changes)}
    for old in new:
        assert old in text, f"{name} has no {old!r}"
    # In one pass: what comes in place of one text may be another text that is replaced.
    text = re.sub("|".join(map(re.escape, new)), lambda match: new[match[0]], text)
    text = re.sub(r"--python \d+\.\d+", f"--python {python}", text)
    text = re.sub(r"(\]==|rayVersion: \")\d+\.\d+\.\d+", rf"\g<1>{version('ray')}", text)
    return NOTE.sub(f"Written by `raygen cluster init {kind}`.\n", text, count=1)


def check_text(name: str, text: str) -> None:
    """Make sure that a file with this text has no mistake, before it is written anywhere.

    Raises:
        InputError: one line per mistake.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8")
        try:
            (check_script if is_script(file) else check_cluster)(file)
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}/", "")) from error


def check_free(path: Path, text: str | None, force: bool) -> None:
    """Make sure that nothing of the user's is overwritten; `text` is what would be written.

    Raises:
        InputError: there is a file that differs, or none can be written there.
    """
    check_target(path, "")
    if force or not path.exists():
        return
    present = read_bounded(path, MOST_BYTES).decode("utf-8", "replace")
    if present in (text, shipped(path.name)):
        return
    lines = enumerate(zip_longest(present.splitlines(), (text or "").splitlines(), fillvalue=""), 1)
    differing = ((number, old, new) for number, (old, new) in lines if old != new)
    number, old, new = next(differing, (1, "", ""))
    change = f": has {old.strip()!r} where {new.strip()!r} would be written" if text else ""
    raise InputError(f"{path}:{number}: exists and differs{change}; --force overwrites it")


def write_cluster(path: Path, text: str) -> bool:
    """Write a checked cluster file; return whether it has changed.

    Raises:
        InputError, StorageError, RaygenError: as `replacing` of raygen.files.
    """
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_text(path, text)
    return True


def _is_machine(text: str) -> bool:
    """Whether this is an address or a name; digits with dots between them must be an address."""
    if not re.fullmatch(r"\d+(\.\d+)+", text):
        return bool(re.fullmatch(r"[\w.:-]+", text))
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _text(value: str) -> str:
    """As YAML, quoted only where it would not be a text."""
    plain = re.fullmatch(r"[A-Za-z~/][\w.~/@:+-]*|\d+\.\d+\.\d+\.\d+", value)
    words = {"true", "false", "null", "yes", "no", "on", "off", "~"}
    return value if plain and value.lower() not in words else f'"{value}"'
