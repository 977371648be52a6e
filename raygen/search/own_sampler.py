"""Samplers of others: any optuna.samplers.BaseSampler by its reference, or one of OptunaHub."""

from functools import cache
from importlib.util import find_spec
from inspect import isabstract, isclass, signature
from typing import Any

from optuna.samplers import BaseSampler

from raygen.errors import InputError, first_line
from raygen.plugins import place_of, resolve
from raygen.search_settings import SamplerSpec


def make_own(spec: SamplerSpec, seed: int) -> BaseSampler:
    """Make a sampler of others, with a seed if it takes one.

    Raises:
        InputError: it is no sampler of Optuna's, cannot be downloaded, or does not take its
            arguments.
    """
    seeded = {"seed": seed} if takes_seed(spec) else {}
    kind = _kind(spec)
    try:
        return kind(**seeded, **spec.arguments)
    except Exception as error:  # whatever its author raises
        raise InputError(f"sampler {spec.called}: {place_of(error)}") from error


def takes_seed(spec: SamplerSpec) -> bool:
    """Whether its suggestions follow from the seed of the study and the number of a trial.

    Raises:
        InputError: as make_own.
    """
    return "seed" in signature(_kind(spec)).parameters and "seed" not in spec.arguments


def _kind(spec: SamplerSpec) -> type[BaseSampler]:
    kind = resolve(spec.name) if spec.hub is None else _of_hub(spec.hub, spec.name)
    if not isclass(kind) or not issubclass(kind, BaseSampler) or isabstract(kind):
        raise InputError(f"sampler {spec.called}: must be a class of optuna.samplers.BaseSampler")
    return kind


@cache
def _of_hub(hub: str, name: str) -> Any:
    """A class of a package of OptunaHub; without a name the only sampler of the package."""
    if find_spec("optunahub") is None:
        raise InputError("sampler.hub: optunahub is not installed: uv pip install optunahub")
    import optunahub  # pyright: ignore[reportMissingImports]

    package, _, ref = hub.partition("@")
    try:
        module = optunahub.load_module(package, **({"ref": ref} if ref else {}))
    except Exception as error:  # of the network, of GitHub, of the package's own imports
        kind = type(error).__name__
        raise InputError(f"sampler.hub: {hub}: {kind}: {first_line(error)}") from error
    kinds = {
        key: value
        for key, value in vars(module).items()
        if isclass(value) and issubclass(value, BaseSampler) and value.__module__ != "optuna"
    }
    public = {key: kinds[key] for key in getattr(module, "__all__", kinds) if key in kinds}
    if name in public:
        return public[name]
    if name == "curve" and len(public) == 1:  # no name was given
        return next(iter(public.values()))
    raise InputError(f"sampler.name: {hub} has {', '.join(public) or 'no sampler'}; name one")
