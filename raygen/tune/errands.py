"""What the commands do with `--cluster`: each returns the exit code of what ran there."""

from functools import partial
from pathlib import Path

import click

from raygen.clusterfile import most_trials
from raygen.config import Resources
from raygen.errors import InputError
from raygen.storage import Storage, is_uri
from raygen.tune import jobs

SAVED = (0, 3, 143)  # exit codes of a search that wrote its report
show = partial(click.echo, nl=False, err=True)


def search(
    cluster: str,
    resources: Resources,
    space: Path,
    storage: str,
    name: str,
    words: list[str],
    detach: bool,
) -> int:
    """Run a search as a job and follow it, unless told not to.

    Raises:
        InputError: the storage is none that the cluster has, or its file has mistakes.
        ClusterError: the cluster cannot be reached.
    """
    if not is_uri(storage) and not Path(storage).is_absolute():
        rule = "must be s3://BUCKET/…, gs://BUCKET/…, or the absolute path of a folder there"
        raise InputError(f"--storage {storage}: with --cluster it {rule}")
    Storage(storage)
    with jobs.reach(cluster) as remote:
        # Those that wait are what makes workers come.
        most = most_trials(remote.launched, resources) if remote.launched else 0
        grows = most and resources.concurrent is None
        words = [*words, *([f"--set=resources.concurrent={most}"] if grows else [])]
        command = ["raygen", "tune", "--space", "space.yaml", "--name", name, *words]
        job = jobs.submit(remote, name, command, space)
        click.echo(f"{job} runs on the head of {cluster}", err=True)
        again = jobs.attach(remote, name)
        if detach:
            click.echo(again)
            return 0
        try:
            code = jobs.follow(remote, job, show)
        except KeyboardInterrupt:
            end = again.replace("--follow", "--stop")
            click.echo(f"\nleft alone; follow it with: {again}\nend it with: {end}", err=True)
            return 0
        _bring_home(remote, name, code)
        return code


def list_searches(cluster: str, name: str | None) -> int:
    """Print the searches of a cluster, or those of a study."""
    with jobs.reach(cluster) as remote:
        for job in jobs.searches(remote):
            if name in (None, jobs.study_of(job)):
                click.echo(jobs.job_line(job))
    return 0


def follow_search(cluster: str, name: str | None) -> int:
    """Show the latest search, or that of a study, until it ends."""
    with jobs.reach(cluster) as remote:
        job = jobs.find(remote, name)
        code = jobs.follow(remote, job.submission_id or "", show)
        _bring_home(remote, jobs.study_of(job), code)
    return code


def end_search(cluster: str, name: str | None) -> int:
    """End the latest search, or that of a study, in order."""
    with jobs.reach(cluster) as remote:
        job = jobs.stop(remote, jobs.find(remote, name))
        click.echo(jobs.job_line(job), err=True)
        _bring_home(remote, jobs.study_of(job), jobs.exit_code(job))
    return 0


def look(cluster: str, storage: str | None, as_json: bool) -> int:
    """Run raygen doctor on the head, which asks every node."""
    words = ["raygen", "doctor", "--address", "auto", *(["--json"] if as_json else [])]
    words += ["--storage", storage] if storage else []
    with jobs.reach(cluster) as remote:
        job = jobs.run(remote, "doctor", words)
        return jobs.follow(remote, job, partial(click.echo, nl=False))


def _bring_home(remote: jobs.Remote, name: str, code: int) -> None:
    if remote.launched and code in SAVED:
        click.echo(jobs.bring_home(remote, name))
