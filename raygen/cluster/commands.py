"""What the commands do with `--cluster`: each returns the exit code of what ran there.

`plain_http` names the host to which this machine's token may travel in clear text.
"""

import signal
from collections.abc import Callable
from pathlib import Path

import click

from raygen.cluster import jobs, slurm
from raygen.cluster.files import most_trials
from raygen.errors import InputError
from raygen.interrupts import Interrupted
from raygen.resources import Resources
from raygen.storage import Storage, is_uri
from raygen.untrusted import check_name, visible

SAVED = (0, 3, 143)  # exit codes of a search that wrote its report


def show(text: str) -> None:
    """Print a job's output without its colours and other control sequences."""
    click.echo(visible(text), nl=False, err=True)


def search(
    cluster: str,
    resources: Resources,
    space: Path,
    storage: str,
    name: str,
    words: list[str],
    detach: bool,
    plain_http: str | None = None,
    send_keys: bool = False,
    journal: str | None = None,
) -> int:
    """Run a search as a job and, unless detached, follow it.

    `send_keys`: with this machine's keys of the storage, also where the cluster has its own.

    Raises:
        InputError: the name is none of a folder, the storage is none that the cluster has, or the
            cluster's file has mistakes.
        ClusterError: the cluster cannot be reached.
    """
    check_search(cluster, storage, name, bool(plain_http or send_keys))
    script = slurm.script(cluster)
    if script is not None:
        queued = slurm.submit(script, name, words, space)
        click.echo(f"job {queued.number} of Slurm; its output: {queued.output}", err=True)
        again = slurm.attach(cluster, name)
        return _unless_left(again, detach, lambda: slurm.follow(queued, show))
    with jobs.reach(cluster, plain_http) as remote:
        # Those that wait are what makes workers come.
        most = most_trials(remote.launched, resources) if remote.launched else 0
        grows = most and resources.concurrent is None
        words = [*words, *([f"--set=resources.concurrent={most}"] if grows else [])]
        command = ["raygen", "tune", "--space", "space.yaml", "--name", name, *words]
        keys = jobs.keys_for(remote, send_keys, storage, journal or "")
        job = jobs.submit(remote, name, command, space, keys)
        click.echo(f"{job} runs on the head of {cluster}", err=True)
        again = jobs.attach(remote, name)

        def follow() -> int:
            code = jobs.follow(remote, job, show)
            _bring_home(remote, name, code)
            return code

        return _unless_left(again, detach, follow)


def check_search(cluster: str, storage: str, name: str, sends: bool) -> None:
    """Make sure that a search of this name can be kept there; `sends`: a token or keys.

    Raises:
        InputError: it cannot.
    """
    script = slurm.script(cluster)
    if script is None and not is_uri(storage) and not Path(storage).is_absolute():
        rule = "must be s3://BUCKET/…, gs://BUCKET/…, or the absolute path of a folder there"
        raise InputError(f"--storage {storage}: with --cluster it {rule}")
    Storage(storage)
    check_name(name, "--name")
    if script is not None and sends:
        raise InputError("--plain-http and --send-keys: a job of Slurm has your environment")


def _unless_left(again: str, detach: bool, follow: Callable[[], int]) -> int:
    """Follow a search, unless detached, until it ends or a signal ends that; `again` continues."""
    if detach:
        click.echo(again)
        return 0
    try:
        return follow()
    except Interrupted as error:
        end = again.replace("--follow", "--stop")
        click.echo(
            f"\nthe search keeps running; follow it with: {again}\nstop it with: {end}", err=True
        )
        return 0 if error.number == signal.SIGINT else error.exit_code


def list_searches(cluster: str, name: str | None, plain_http: str | None = None) -> int:
    """Print the searches of a cluster, or those of a study."""
    if slurm.script(cluster) is not None:
        for queued in slurm.searches():
            if name in (None, queued.study):
                click.echo(visible(slurm.job_line(queued)))
        return 0
    with jobs.reach(cluster, plain_http) as remote:
        for job in jobs.searches(remote):
            if name in (None, jobs.study_of(job)):
                click.echo(visible(jobs.job_line(job)))
    return 0


def follow_search(cluster: str, name: str | None, plain_http: str | None = None) -> int:
    """Show the latest search, or that of a study, until it ends."""
    if slurm.script(cluster) is not None:
        return slurm.follow(slurm.find(name), show)
    with jobs.reach(cluster, plain_http) as remote:
        job = jobs.find(remote, name)
        code = jobs.follow(remote, job.submission_id or "", show)
        _bring_home(remote, jobs.study_of(job), code)
    return code


def end_search(cluster: str, name: str | None, plain_http: str | None = None) -> int:
    """Stop the latest search, or that of a study, gracefully."""
    if slurm.script(cluster) is not None:
        click.echo(visible(slurm.job_line(slurm.stop(slurm.find(name)))), err=True)
        return 0
    with jobs.reach(cluster, plain_http) as remote:
        job = jobs.stop(remote, jobs.find(remote, name))
        click.echo(visible(jobs.job_line(job)), err=True)
        _bring_home(remote, jobs.study_of(job), jobs.exit_code(job))
    return 0


def look(
    cluster: str, storage: str | None, as_json: bool, plain_http: str | None, send_keys: bool
) -> int:
    """Run raygen doctor on the head, which checks every node."""
    if slurm.script(cluster) is not None:
        raise InputError(
            f"--cluster {cluster}: has nodes only while a job runs; a search checks them"
        )
    words = ["raygen", "doctor", "--address", "auto", *(["--json"] if as_json else [])]
    words += ["--storage", storage] if storage else []
    with jobs.reach(cluster, plain_http) as remote:
        keys = jobs.keys_for(remote, send_keys, storage or "")
        job = jobs.run(remote, "doctor", words, keys)
        return jobs.follow(remote, job, lambda text: click.echo(visible(text), nl=False))


def _bring_home(remote: jobs.Remote, name: str, code: int) -> None:
    if remote.launched and code in SAVED:
        click.echo(jobs.bring_home(remote, name))
