"""`python -m raygen` is the `raygen` command."""

from raygen.cli import main

main()
