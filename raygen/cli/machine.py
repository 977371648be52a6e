"""What surrounds a search: doctor, init and shell completion."""

import sys
from pathlib import Path

import click

from raygen.cli.group import command
from raygen.cli.options import JSON, PLAIN_HTTP, SEND_KEYS, answer
from raygen.cluster import use_token
from raygen.errors import InputError, RaygenError, did_you_mean
from raygen.terminal import say, tell


@command("doctor")
@click.option("--cluster", metavar="FILE", help="Check every node of this cluster.")
@click.option("--address", help="Check every node of the Ray cluster at this address.")
@click.option(
    "--storage", metavar="DIR_OR_URI", help="Also check that every node can read and write there."
)
@PLAIN_HTTP
@SEND_KEYS
@JSON
def doctor_command(
    cluster: str | None,
    address: str | None,
    storage: str | None,
    plain_http: str | None,
    send_keys: bool,
    as_json: bool,
) -> None:
    """Check this machine, or every node of a cluster.

    E.g.: raygen doctor
    """
    from raygen.doctor import check_table, local_checks

    use_token()
    if cluster is not None:
        from raygen.cluster.commands import look

        sys.exit(look(cluster, storage, as_json, plain_http, send_keys))
    if address is not None:
        from raygen.cluster.nodes import cluster_checks

        checks = cluster_checks(address, storage)
    else:
        from raygen.cluster.nodes import running_here

        checks = local_checks(storage or "runs")
        checks += [check for check in (running_here(),) if check is not None]
    answer(as_json, check_table(checks), checks=[check._asdict() for check in checks])
    if any(check.state == "fail" for check in checks):
        sys.exit(RaygenError.exit_code)


@command("init")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--example",
    metavar="NAME",
    help="Begin with an example: own-model, own-data or own-trainer.",
)
@JSON
def init_command(folder: Path, example: str | None, as_json: bool) -> None:
    """Create a project folder with the bundled search spaces, or with an example.

    E.g.: raygen init my-project --example own-model
    """
    from raygen.project_folder import examples, start

    if example is not None and example not in examples():
        hint = did_you_mean(example, examples())
        raise InputError(f"--example {example}: choose from {', '.join(examples())}{hint}")
    files = [str(file) for file in start(folder, example)]
    if not as_json:
        for file in files:
            tell(file)
    space = "search_spaces/quickstart.yaml" if example is None else "own.yaml"
    command_line = f"cd {folder} && raygen tune --space {space}"
    answer(as_json, command_line, folder=str(folder), files=files)


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a script for shell completion.

    E.g., in ~/.bashrc: eval "$(raygen completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # one of click's own three
    say(
        kind(
            click.get_current_context().find_root().command, {}, "raygen", "_RAYGEN_COMPLETE"
        ).source()
    )
