"""What is mutated, and which commands read it."""

import io
import json
import math
import os
import re
import shutil
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from apply.models import shapes, write_checkpoint
from cluster.files import FILLED, filled
from fuzz.drive import ANYWHERE, Answer, call, command
from fuzz.mutate import (
    SCALARS,
    changed_bytes,
    changed_journal,
    changed_tree,
    changed_yaml,
)
from raygen.data import DataSpec, load_data
from raygen.document import dump
from raygen.journal.records import Close, Open
from raygen.training.checkpoint import load_full, save
from report.journals import make_info, race_of, simulate, warm, write_study
from search.studies import Memory, make_controller, make_study, run

REPOSITORY = Path(__file__).parents[2]
# (LINE:COLUMN of) a file, or what was given on the command line.
LINED = r"{}(:\d+(:\d+)?)?: "


class Mutant(NamedTuple):
    """A mutant, what reads it, the exit codes that are right, and how each error begins."""

    run: Callable[[], Answer]
    codes: tuple[int, ...]
    place: str
    what: str  # how to run it by hand


def _of_command(arguments: list[str], place: str, codes: tuple[int, ...] = (0, 2)) -> Mutant:
    return Mutant(lambda: command(arguments), codes, place, repr(arguments)[:300])


def _placed(*files: Path) -> str:
    names = "|".join(re.escape(str(file)) for file in files)
    return LINED.format(f"({names})")


# Spaces, overrides, configurations


def spaces(random: Random, folder: Path) -> Mutant:
    source = random.choice(sorted((REPOSITORY / "search_spaces").glob("*.yaml")))
    file = folder / "space.yaml"
    file.write_bytes(changed_yaml(random, source.read_text()))
    if random.random() < 0.3:
        where = ["--storage", str(folder / "runs")]
        return _of_command(["tune", "--dry-run", "--space", str(file), *where], _placed(file))
    return _of_command(["validate", str(file)], _placed(file))


NAMES = [
    "space.batch_size", "space.model.width", "space.loss.one_of.hinge", "space.optimizer.beta1",
    "start.0.model.width", "start.1", "start.²", "start.-1", "start", "budget.trials", "budget",
    "budget.kimg", "budget.hours", "evaluation.every_kimg", "evaluation.samples", "seed", "data",
    "data.path", "data.limit", "scheduler.grace_kimg", "scheduler.reduction_factor", "space",
    "recovery.hang_minutes", "checkpoints.every_minutes", "resources.workers", "resources.gpus",
    "sampler.name", "finalists.count", "finalists.seeds", "family", "objective", "trade_off.0",
    "compute", "space.model", "x", "", ".", "..", "²", "1", "a.b.c.d", "space.a..b", "start.9" * 50,
    "space.\x1b[2J", "space.a\nb", "\ud800", "a" * 5000, ".".join("a" * 5000), "space.model.name",
]  # fmt: skip


def overrides(random: Random, folder: Path) -> Mutant:
    file = REPOSITORY / "search_spaces" / "quickstart.yaml"
    settings = [
        f"{random.choice(NAMES)}{random.choice('======  :')}{random.choice(SCALARS)}"
        for _ in range(random.choice((1, 1, 2)))
    ]
    given = [word for setting in settings for word in ("--set", setting)]
    where = ["--storage", str(folder / "runs")]
    place = f"(--set .*|'.*': an argument |{_placed(file)})"
    return _of_command(["tune", "--dry-run", "--space", str(file), *where, *given], place)


def configurations(random: Random, folder: Path) -> Mutant:
    source = random.choice(_configurations())
    file = folder / "best.yaml"
    file.write_bytes(changed_yaml(random, source))
    return _of_command(["validate", str(file)], _placed(file))


@cache
def _configurations() -> tuple[str, ...]:
    common = {
        "data": {"source": "shapes"}, "evaluation": {"samples": 500, "every_kimg": 2.0}, "seed": 3,
        "kimg": 18.0, "milestones": [2.0, 6.0, 18.0], "rungs": [2.0, 18.0], "threads": 1,
        "compute": {"precision": "float32"},
    }  # fmt: skip
    optimizer = {"generator_lr": 1e-3, "discriminator_lr": 1e-3, "beta1": 0.5}
    gan = {"model": {"name": "dcgan", "width": 8}, "loss": {"name": "hinge"}, "batch_size": 32}
    vae = {"model": {"name": "conv_vae", "latent_dim": 8}, "optimizer": {"lr": 1e-3}}
    jobs = [
        {**common, "family": "gan", "objective": "fd_classifier",
         "trial": {**gan, "optimizer": optimizer}},
        {**common, "family": "vae", "objective": "bits_per_dim", "trial": vae},
    ]  # fmt: skip
    for job in jobs:
        del job["compute"]
    return tuple(dump(job) for job in jobs)


def cluster_files(random: Random, folder: Path) -> Mutant:
    name = random.choice(sorted(FILLED))
    file = folder / name
    file.write_bytes(changed_yaml(random, filled(name)))
    return _of_command(["validate", str(file)], _placed(file))


# Journals


@cache
def _journals() -> tuple[list[bytes], ...]:
    """Of a GAN with a race, of one made by raygen itself, and of a controller with every kind."""
    demo = simulate(8, 4)
    full = {"fd_classifier": {"value": 3.5, "sd": 0.1, "spread": 0.1, "each": [3.4, 3.6]}}
    protocols = {"fd_classifier": "ab12cd34"}
    demo += race_of(demo, count=2, seeds=2)
    first = next(r["trial"] for r in demo if r["kind"] == "end" and r["state"] == "completed")
    last = {"kind": "final", "trial": first, "values": full, "protocols": protocols}
    stamp = demo[-1]["time"]
    opened: dict[str, Any] = {"kind": "open", "study": make_info(), "time": demo[0]["time"]}
    info = make_info(name="again")
    whole = [
        opened, warm("runs/old", 3, {"batch_size": 32}, None),
        warm("runs/old", 4, {"batch_size": 64}, [3.5]), *demo, {**last, "time": stamp},
        {"kind": "close", "state": "interrupted", "seconds": 12.5, "reason": "x", "time": stamp},
        {"kind": "reopen", "study": info, "changed": {"budget": [1, 2]}, "time": stamp},
        {"kind": "close", "state": "finished", "seconds": 3.5, "reason": "", "time": stamp},
    ]  # fmt: skip
    recorded = (REPOSITORY / "reports" / "journal.jsonl").read_bytes().splitlines()
    return [json.dumps(record).encode() for record in whole], recorded


@cache
def _searched(folder: Path) -> list[bytes]:
    """A search by raygen's own controller, to be checked against its space, in `folder`."""
    study = make_study(folder, "budget.trials=8")
    journal = Memory()
    objective = {"metric": "fd_classifier", "direction": "minimize"}
    study_facts = {"family": "gan", "objective": objective, "settings": study.settings()}
    journal.append(Open(study={**make_info(), **study_facts, "rungs": [1.0, 3.0, 9.0]}))
    controller = make_controller(study, journal)
    run(controller, lambda config, seed, kimg: 50 / kimg + math.sin(seed), at_once=2)
    journal.append(Close(state="finished", seconds=9.0))
    return [json.dumps(record).encode() for record in journal.lines]


READERS = [
    ["status"], ["status", "--json"], ["status", "--why", "0"], ["status", "--why", "1"],
    ["status", "--at", "1m"], ["status", "--at", "#7"], ["best"], ["best", "--json"], ["ls"],
    ["export", "-f", "csv"], ["export", "-f", "json", "--table", "history"],
    ["export", "-f", "csv", "--table", "finalists"], ["replay", "--repeats", "2"],
]  # fmt: skip


def journals(random: Random, folder: Path) -> Mutant:
    root = folder / "runs" / "gan"
    root.mkdir(parents=True)
    journal = root / "journal.jsonl"
    place = _placed(journal, root)
    if random.random() < 0.25:
        lines = _searched(_shared())
        shutil.copy(_shared() / "space.yaml", root / "space.yaml")
        journal.write_bytes(changed_journal(random, lines))
        # 1: a choice that comes out differently is no mistake of the file's form.
        check = ["status", "--check", str(root)]
        return _of_command(check, rf"({place}|journal\.jsonl:\d+: )", (0, 1, 2))
    journal.write_bytes(changed_journal(random, random.choice(_journals())))
    if random.random() < 0.1:
        page = ["report", str(root), "-o", str(folder / "page.html")]
        return _of_command(page, place)
    reader = random.choice(READERS)
    return _of_command([*reader, str(root if reader != ["ls"] else root.parent)], place)


@cache
def _shared() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="raygen-fuzz-"))


# Checkpoints

MODELS = ["dcgan", "sngan", "biggan", "r3gan", "style_gan", "conv_vae", "ladder_vae"]
NUMBERS: list[Any] = [
    None, True, -1, 0, 1, 10**6, 10**9, 2**62, 10**400, -(2**63), 1.5, 1e300, float("nan"),
    float("inf"), "", "x", "gan", "vae", "dcgan", b"x", [], ["x"] * 3, [1], {}, {"a": 1}, (), (1,),
]  # fmt: skip


@cache
def _checkpoint(name: str, conditional: bool, full: bool) -> Path:
    path = _shared() / f"{name}-{conditional}-{full}.pt"
    return write_checkpoint(path, name, shapes(40, 20), conditional, full)


def _tensors(random: Random, state: dict[str, Any]) -> None:
    """Change one tensor of the weights in place."""
    names = [name for name, value in state.items() if isinstance(value, torch.Tensor)]
    name = random.choice(names)
    tensor = state[name]
    match random.randrange(12):
        case 0:
            del state[name]
        case 1:
            state[f"{name}x"] = state.pop(name)
        case 2:
            state[name] = tensor[None]
        case 3:
            state[name] = torch.zeros(3)
        case 4:
            state[name] = tensor.float() * float("nan")
        case 5:
            state[name] = tensor.float() + float("inf")
        case 6:
            state[name] = tensor.to(random.choice((torch.float64, torch.int8, torch.complex64)))
        case 7:
            state[name] = torch.zeros(1).expand(10**9)
        case 8:
            state[name] = torch.zeros(()).expand(tensor.shape)
        case 9:
            state[name] = torch.empty(tensor.shape, device="meta")
        case 10:
            state[name] = tensor.to_sparse() if tensor.ndim else torch.zeros(0)
        case _:
            state[name] = random.choice(NUMBERS)


def checkpoints(random: Random, folder: Path) -> Mutant:
    full = random.random() < 0.25
    source = _checkpoint(random.choice(MODELS), random.random() < 0.5, full)
    file = folder / "best.pt"
    if random.random() < 0.2:
        file.write_bytes(changed_bytes(random, source.read_bytes()))
    else:
        content = torch.load(source, weights_only=True)
        if random.random() < 0.4:
            _tensors(random, content["learner"]["average"])
        elif random.random() < 0.5:
            content["trial"]["model"] = changed_tree(random, content["trial"]["model"], NUMBERS)
        else:
            content = changed_tree(random, content, NUMBERS)
        save(file, content)
    place = _placed(file)
    if full and random.random() < 0.5:
        return Mutant(
            lambda: call(lambda: load_full(file, torch.device("cpu"))), (0, 2), place, "load_full"
        )
    out = random.choice(["x.png", "x.npz", "folder"])
    drawn = ["generate", str(file), "--count", "2", "--out", str(folder / out)]
    if random.random() < 0.2:
        # 2: of a model that is not conditional, which the message begins with.
        return _of_command([*drawn, "--class", "ring"], f"(--class ring: |{place})")
    return _of_command(drawn, place)


# Images

ARRAYS: list[Any] = [
    np.zeros(0), np.zeros(3), np.array(7), np.array("x"), np.array([None, 1], dtype=object),
    np.full(40, np.nan), np.full(40, 1e300), np.full(40, 2**62), np.arange(40) - 3, np.zeros(41),
    np.array(["a", "b"] * 20), np.array(["\x1b[2J"] * 40), np.zeros((40, 2)), np.ones(40, bool),
    np.zeros((40, 32, 32, 3)), np.zeros((40, 32, 32, 3), np.float16), np.zeros((40, 33, 32, 3)),
    np.zeros((40, 32, 32, 4), np.uint8), np.zeros((40, 3072), np.uint8), np.zeros(40, complex),
]  # fmt: skip
PICTURES = ["x.png", "a/x.png", "a/b/x.png", ".x.png", "train/x.png", "test/a/x.png", "x.jpg",
            "é.png", "a\nb.png", "\x1b[2J.png", "x.PNG", "x.txt", "x.npz", "x.parquet"]  # fmt: skip


@cache
def _pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8))


@cache
def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_pictures()[0]).save(buffer, format=kind)
    return buffer.getvalue()


def images(random: Random, folder: Path) -> Mutant:
    root = folder / "images"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    for number, picture in enumerate(_pictures()):
        Image.fromarray(picture).save(root / ("a", "b")[number % 2] / f"{number}.png")
    victim = root / "a" / "0.png"
    match random.randrange(4):
        case 0:
            victim.write_bytes(changed_bytes(random, victim.read_bytes()))
        case 1:
            kind = random.choice(("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))
            victim.write_bytes(changed_bytes(random, _encoded(kind)))
        case 2:
            moved = root / random.choice(PICTURES)
            moved.parent.mkdir(parents=True, exist_ok=True)
            victim.rename(moved)
        case _:
            victim.unlink()
            Path(_special(root / "a", random.choice(["fifo", "folder", "dangling", "loop", "socket",
                                                     "empty"]))).rename(victim)  # fmt: skip
    return _loading(root)


def archives(random: Random, folder: Path) -> Mutant:
    file = folder / "images.npz"
    arrays: dict[str, Any] = {"images": np.stack(_pictures()), "labels": np.arange(40) % 2}
    arrays |= {"classes": np.array(["a", "b"])}
    if random.random() < 0.5:
        np.savez(file, **arrays)
        file.write_bytes(changed_bytes(random, file.read_bytes()))
        return _loading(file)
    match random.randrange(3):
        case 0:
            del arrays[random.choice(list(arrays))]
        case 1:
            name = random.choice(list(arrays))
            arrays[random.choice(["x", "train_images", "x_test", "a/b"])] = arrays.pop(name)
        case _:
            arrays[random.choice(list(arrays))] = random.choice(ARRAYS)
    save_arrays = np.savez_compressed if random.random() < 0.5 else np.savez
    save_arrays(file, **arrays)
    return _loading(file)


def tables(random: Random, folder: Path) -> Mutant:
    file = folder / "train.parquet"
    columns: dict[str, Any] = {
        "img": [{"bytes": _encoded("PNG"), "path": None}] * 40,
        "label": [number % 2 for number in range(40)],
    }
    broken = random.random() < 0.5
    if not broken:
        name = random.choice(list(columns))
        match random.randrange(4):
            case 0:
                del columns[name]
            case 1:
                columns[random.choice(["x", "image", "labels", "fine_label"])] = columns.pop(name)
            case 2:
                cells: list[Any] = [
                    [0],
                    [None],
                    ["x"],
                    [b"x"],
                    [2**62],
                    [-1],
                    [1.5],
                    [[1]],
                    [{"x": 1}],
                ]
                columns[name] = random.choice(cells) * 40
            case _:
                damaged = changed_bytes(random, _encoded("PNG"))
                columns["img"] = [{"bytes": damaged, "path": None}, *columns["img"][1:]]
    pq.write_table(pa.table(columns), file)
    if broken:
        file.write_bytes(changed_bytes(random, file.read_bytes()))
    return _loading(file)


def _loading(path: Path) -> Mutant:
    # In a folder the name of a file stands behind that of the folder.
    place = rf"{re.escape(str(path))}[^:]*(:[^ ]+)?: "
    return Mutant(lambda: call(lambda: load_data(DataSpec(path=str(path)))), (0, 2), place, "load")


# Arguments

COMMANDS = [
    ["validate", "@"], ["tune", "--dry-run", "--space", "@"], ["train", "--config", "@"],
    ["status", "@"], ["status", "@", "--why", "@"], ["status", "@", "--at", "@"], ["best", "@"],
    ["best", "@", "--trial", "@"], ["ls", "@"], ["report", "@"], ["report", "--index", "@"],
    ["report", "@", "@"], ["generate", "@"], ["evaluate", "@", "--metrics", "fd_classifier"],
    ["audit", "@"], ["export", "@"], ["replay", "@"], ["augment", "@"], ["init", "@"],
    ["evaluate", "@", "--metrics", "@"], ["export", "@", "-f", "csv"], ["completion", "@"],
    ["tune", "--dry-run", "--space", "SPACE", "--storage", "@"], ["@"], ["@", "@"],
    ["tune", "--dry-run", "--space", "SPACE", "--name", "@"],
    ["tune", "--dry-run", "--space", "SPACE", "--time", "@"],
    ["tune", "--dry-run", "--space", "SPACE", "--trials", "@"],
    ["tune", "--dry-run", "--space", "SPACE", "--seed", "@"],
    ["tune", "--dry-run", "--space", "SPACE", "--journal", "@"],
    ["generate", "MODEL", "--count", "2", "--out", "@"],
    ["generate", "MODEL", "--count", "2", "--class", "@"],
    ["generate", "MODEL", "--count", "2", "--truncation", "@"],
    ["generate", "MODEL", "--count", "2", "--temperature", "@"],
    ["generate", "MODEL", "--count", "2", "--like", "@"],
    ["generate", "MODEL", "--count", "2", "--seed", "@"],
    ["status", "STUDY", "--at", "@"], ["status", "STUDY", "--why", "@"],
    ["best", "STUDY", "--trial", "@"], ["export", "STUDY", "-f", "csv", "--table", "@"],
    ["report", "STUDY", "-o", "@"],
]  # fmt: skip
WORDS = [
    "", ".", "..", "-", "--", "-1", "0", "²", "１", "nan", "inf", "-inf", "1e999", "9" * 5000,
    "a\x00b", "\x00", "\x1b[2J", "a\nb", "\udcff", "\ud800", "x" * 5000, "a/" * 3000, "é", "🙂",
    "~", "#0", "#²", "#99999999999", "1h", "²h", "9" * 400 + "d", "99999999999999d", "a=b",
    "2024-13-01", "0001-01-01", "9999-12-31T23:59:59", "1h1h", "shapes", "ftp://x", "://", "*",
    "--help", "--set", "x.yaml",
]  # fmt: skip
FILES = ["fifo", "/dev/zero", "/dev/full", "/dev/null", "folder", "dangling", "loop", "socket",
         "empty", "bytes", "space.yaml", "big"]  # fmt: skip


def _special(folder: Path, name: str) -> str:
    """A file of an unusual kind."""
    path = folder / f"special-{name}"
    match name:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path.name)
        case "socket":
            here = os.getcwd()
            os.chdir(folder)  # the name of a socket has a length limit
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
            os.chdir(here)
        case "empty":
            path.touch()
        case "bytes":
            path.write_bytes(bytes(range(256)))
        case "big":
            with path.open("wb") as file:
                file.truncate(1 << 33)  # sparse: it takes no room
        case "space.yaml":
            shutil.copy(REPOSITORY / "search_spaces" / "quickstart.yaml", path)
        case _:
            return name
    return str(path)


def arguments(random: Random, folder: Path) -> Mutant:
    words = []
    used: list[str] = []
    for word in random.choice(COMMANDS):
        match word:
            case "SPACE":
                words.append(str(REPOSITORY / "search_spaces" / "quickstart.yaml"))
            case "MODEL":
                words.append(str(_checkpoint("dcgan", False, False)))
            case "STUDY":
                words.append(str(_study()))
            case "@":
                if random.random() < 0.5 and "completion" not in words:
                    name = random.choice([f for f in FILES if f not in used])
                    used.append(name)
                    words.append(_special(folder, name))
                else:
                    words.append(random.choice(WORDS))
            case _:
                words.append(word)
    # Here the name of a file stands anywhere in the line, or click says which argument it was.
    return _of_command(words, ANYWHERE, (0, 1, 2, 4))


@cache
def _study() -> Path:
    return write_study(_shared() / "study", make_info(), simulate(6, 3))


KINDS: dict[str, Callable[[Random, Path], Mutant]] = {
    "spaces": spaces,
    "overrides": overrides,
    "configurations": configurations,
    "cluster files": cluster_files,
    "journals": journals,
    "checkpoints": checkpoints,
    "images": images,
    "archives": archives,
    "tables": tables,
    "arguments": arguments,
}
