"""Where configurations lie, how they are composed, and what is said about a mistake in that."""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import mmcse
from mmcse.configuration.schema import EvalSettings, TrainSettings
from mmcse.errors import UserError
from mmcse.vocabulary import near_miss


def config_folder() -> Path:
    """The folder with the primary configurations: in a checkout beside `src`, in a wheel inside the package."""
    return _shipped("conf")


def experiment_folder() -> Path:
    """The folder with the experiments."""
    return _shipped("experiments")


# ${conf:FILE} is where a file lies that ships among the configurations. It is made known on import, because that is all
# that the processes do which run the jobs of a sweep.
OmegaConf.register_new_resolver("conf", lambda file: str(config_folder() / file), replace=True)


@cache
def register() -> None:
    """Make the schemas, all of `conf`, and every experiment as the group `experiment`, known to Hydra.

    The files are read once, here: a sweep composes the configuration of a job only when that job starts, and what is
    edited meanwhile must not leak in.
    """
    store = ConfigStore.instance()
    # Hydra copies its sources for every group that --help lists, and all of the store with them: ten seconds. It copies
    # once more what it takes from the store, so that one store can serve all.
    store.__deepcopy__ = lambda memo: store  # type: ignore[attr-defined]
    OmegaConf.register_new_resolver("required", lambda command: MISSING, replace=True)  # see `mmcse.required`
    store.store(name="train_schema", node=TrainSettings)
    store.store(name="eval_schema", node=EvalSettings)
    for file in sorted(config_folder().rglob("*.yaml")):
        _store(file.relative_to(config_folder()).with_suffix("").as_posix(), file, _package(file), "conf")
    for name, file in experiments().items():
        _store(f"experiment/{name}", file, "_global_", "experiments")


def _store(name: str, file: Path, package: str | None, provider: str) -> None:
    group, _, leaf = name.rpartition("/")
    ConfigStore.instance().store(
        group=group or None, name=leaf, node=OmegaConf.load(file), package=package, provider=provider
    )


def _package(file: Path) -> str | None:
    """Where a file's keys go, if it says so in its first line (`# @package PLACE`)."""
    package = re.match(r"#\s*@package\s+(\S+)", file.read_text(encoding="utf-8"))
    return package and package[1]


def experiments() -> dict[str, Path]:
    """Every experiment's name, as `experiment=` takes it, and its file."""
    root = experiment_folder()
    files = (file for file in sorted(root.rglob("*.yaml")) if _is_experiment(file, root))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def compose_config(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose a configuration as the command line does.

    Raises:
        UserError: an override does not fit; the message names the nearest key or option there is.
    """
    check_overrides(overrides)
    try:
        return _compose(name, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain_composition(error, name, overrides)) from error


_MOST_LETTERS, _MOST_DIGITS = 200, 1000
"""Hydra looks for files by keys, and converts numbers."""


def check_overrides(overrides: Sequence[str]) -> None:
    """Check for what Hydra fails on instead of refusing it.

    Raises:
        UserError: a key or a number is too long, or what is chosen by a name is not given one.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if len(key) > _MOST_LETTERS:
            raise UserError(f"There is no key {key[:40]}...: it has {len(key):,} letters. Expected key=value.")
        if re.search(rf"\d{{{_MOST_DIGITS}}}", override):
            raise UserError(f"A number in {override[:40]}... has more than {_MOST_DIGITS} digits.")
        if re.fullmatch(r"null|true|false|[-+.\d]+", value, re.IGNORECASE) and (options := _options(key.lstrip("+"))):
            raise UserError(f"{key} is chosen by a name, not by {value}. Available: {', '.join(options)}.")


def _options(group: str) -> list[str]:
    """The names of a group of configurations; empty where there is no such group."""
    if group == "experiment":
        return list(experiments())
    return sorted(file.stem for file in config_folder().glob("*/*.yaml") if file.parent.name == group)


def explain_composition(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """One paragraph on a failed composition of configuration `name`, with the nearest key or option where one is."""
    text = "\n".join(dict.fromkeys(str(e) for e in (error, error.__cause__) if e is not None))
    if option := re.search(r"Could not find '([^']+)'\s+Available options in '([^']+)':\n((?:\t.+\n?)*)", text):
        options = list(experiments()) if option[2] == "experiment" else option[3].split()
        hint = near_miss(option[1].removeprefix(f"{option[2]}/"), options)
        return f"There is no {option[1]!r}.{hint} Available in {option[2]!r}: {', '.join(options)}."
    if key := re.search(r"Key '[^']+' (?:is not in struct|not in '\w+')\s+full_key: ([\w.]+)", text):
        parent, _, leaf = key[1].rpartition(".")
        known = _keys_below(parent, name, overrides)
        more = f" Another argument of its target is added by +{key[1]}=VALUE." if "_target_" in known else ""
        return (
            f"There is no key {leaf!r} in {parent or 'the configuration'}.{near_miss(leaf, known)} "
            f"It has: {', '.join(known)}.{more}"
        )
    if missing := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return f"{missing[1]} has no default and was not given: add {missing[1]}=VALUE."
    return text


def _compose(name: str, overrides: Sequence[str]) -> DictConfig:
    register()
    running = GlobalHydra.instance().is_initialized()  # within a command
    with nullcontext() if running else initialize(config_path=None, version_base="1.3"):
        return compose(name, list(overrides))


def _keys_below(parent: str, name: str, overrides: Sequence[str]) -> list[str]:
    """Keys of a node, after the choices of groups among the overrides and without the values among them."""
    choices = [o for o in overrides if "." not in o.partition("=")[0] and not o.startswith("-")]
    for kept in (choices, []):
        try:
            config = _compose(name, kept)
            node = OmegaConf.select(config, parent) if parent else config
            return [str(key) for key in node]
        except (HydraException, OmegaConfBaseException, TypeError):
            continue
    return []


def _shipped(name: str) -> Path:
    package = Path(mmcse.__file__).parent
    inside, beside = package / name, package.parents[1] / name
    return inside if inside.is_dir() else beside


def _is_experiment(file: Path, root: Path) -> bool:
    """Experiments lie in table folders or at the top; `results` and the files of tables and facts are data."""
    parts = file.relative_to(root).parts
    return parts[0] not in ("results", "paper.yaml", "suite.yaml", "parity.yaml", "zoo.yaml")
