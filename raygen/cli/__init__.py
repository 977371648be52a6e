"""The command line: each command parses, calls one function, prints one result.

Nothing heavy is imported before the command that needs it: torch alone takes seconds.
"""

import os

import click

# Before NumPy is imported: its matrices are small here, and threads that wait for each other made
# a page of 400 trials take 60 s of CPU on two busy cores in place of 4. PyTorch has others.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from raygen import __version__
from raygen.cli.cluster import cluster_command
from raygen.cli.group import CommandGroup
from raygen.cli.machine import completion_command, doctor_command, init_command
from raygen.cli.model import (
    ablate_command,
    audit_command,
    augment_command,
    evaluate_command,
    export_command,
    generate_command,
    train_command,
)
from raygen.cli.search import (
    best_command,
    ls_command,
    note_command,
    replay_command,
    report_command,
    status_command,
    tune_command,
    validate_command,
)
from raygen.terminal import LOUDNESS, Loudness

COMMANDS = (
    tune_command, validate_command, status_command, ls_command, report_command, best_command,
    note_command, replay_command, ablate_command, train_command, generate_command, evaluate_command,
    augment_command, audit_command, export_command, doctor_command, init_command,
    cluster_command, completion_command,
)  # fmt: skip


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
@click.option("-v", "--verbose", is_flag=True, help="Print more progress.")
@click.option("--debug", is_flag=True, help="Print a traceback with every error.")
@click.pass_context
def main(ctx: click.Context, quiet: bool, verbose: bool, debug: bool) -> None:
    """Find the best configuration of an image generator, on one laptop or on a GPU cluster."""
    ctx.meta[LOUDNESS] = Loudness(quiet, verbose, debug)


for command in COMMANDS:
    main.add_command(command)
