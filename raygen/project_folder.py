"""A project folder: the bundled search spaces, and a README with the first commands."""

from pathlib import Path

from raygen.errors import InputError, cannot_write, did_you_mean

README = """# A raygen project

```sh
raygen tune quickstart   # no GPU, no download, minutes
raygen tune gan          # CIFAR-10, GPUs
raygen tune vae
raygen ls
```

Line 1 of each search space is the command that runs it; `--dry-run` shows what it would do. For
your own images: `--set data.path=FOLDER` (pictures, class folders, Parquet, or .npz), and
`--set data.size=64` to bring them to one size. Studies are written to `runs/`, reports to
`reports/`.
"""
EXAMPLE = """# A raygen example

```sh
raygen validate own.yaml      # imports the code beside it and trains it for two steps
raygen tune --space own.yaml  # minutes on two cores
```

See docs/extend.md of raygen. Studies are written to `runs/`, reports to `reports/`.
"""
IGNORED = "/runs/\n/reports/\n/data/\n/slurm/\n"


EXAMPLES = Path(__file__).parent / "examples"


def examples() -> list[str]:
    """Names of the examples that a folder may begin with, in place of the search spaces."""
    return sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def start(folder: Path, example: str | None = None) -> list[Path]:
    """Write the folder's files and return their paths.

    Raises:
        InputError: it exists and is not empty; nothing was written.
        RaygenError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: already exists; choose an empty or a new folder")
    source = shipped_spaces() if example is None else EXAMPLES / example
    below = "search_spaces/" if example is None else ""
    texts = {
        f"{below}{file.name}": file.read_text(encoding="utf-8")
        for file in sorted(source.iterdir())
        if file.suffix in (".yaml", ".py")
    }
    readme = README if example is None else EXAMPLE
    files = {folder / "README.md": readme, folder / ".gitignore": IGNORED}
    files |= {folder / name: text for name, text in texts.items()}
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return list(files)


def shipped_spaces() -> Path:
    """Where the search spaces are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def space_path(given: Path) -> Path:
    """Return the file that a search space is named by: a path, or the name of a bundled space.

    A name is that of a file in the working directory, in search_spaces/, or of those that come
    with raygen, with or without its ending.

    Raises:
        InputError: there is no such file, with the nearest name.
    """
    if given.is_file():
        return given
    plain = len(given.parts) == 1 and given.suffix in ("", ".yaml", ".yml")
    here = Path("search_spaces")
    if plain:
        name = given if given.suffix else given.with_suffix(".yaml")
        for candidate in (name, here / name, shipped_spaces() / name):
            if candidate.is_file():
                return candidate
    if given.exists():
        return given  # a folder, which is refused when it is read
    folders = (given.parent, here, shipped_spaces())
    names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    bundled = sorted(file.stem for file in shipped_spaces().glob("*.yaml"))
    choices = f"; bundled search spaces: {', '.join(bundled)}"
    raise InputError(f"{given}: no such file{did_you_mean(given.stem, names) or choices}")
