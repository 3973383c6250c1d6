"""Where configurations lie, what types their values have, and what is said about a mistake in them."""

import inspect
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from mmcse.errors import UserError, one_line
from mmcse.vocabulary import near_miss

TRUSTED = (
    "mmcse.artefacts", "mmcse.callbacks", "mmcse.data", "mmcse.models", "mmcse.objectives", "mmcse.schedules",
    "mmcse.tracking",
    "torch.nn", "torch.optim",
    "lightning.Trainer", "lightning.pytorch.Trainer", "lightning.pytorch.trainer", "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers", "lightning.pytorch.plugins", "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
)  # fmt: skip
"""What a configuration may call: names, or modules and packages with all that is defined in them; `packages=[...]` adds
a user's own. Not whole libraries: `torch.hub.load` downloads code and runs it."""


@dataclass
class RunSettings:
    """Where a run goes and how it is shown."""

    name: str = MISSING
    """Folder of this run's kind, below `root`: the experiment, or else the model."""
    root: str = "runs"
    """Folder of all runs."""
    force: bool = False
    """Start anew, even where the same run has finished or can be resumed."""
    progress: str = "auto"
    """"bar", "lines", "none", or "auto": a bar in a terminal, lines elsewhere."""
    tags: list[str] = field(default_factory=list)
    """Free words that are kept in the record."""


@dataclass
class EvaluationSettings:
    """How probabilities become decisions, and which epoch is kept."""

    gate: str = MISSING
    """Video-level probabilities that gate audio/visual segments; belongs to the method."""
    threshold: float = 0.5
    """Least probability of a decision."""
    gate_threshold: float | None = None
    """Least video-level probability of the gate; None: the threshold."""
    search_thresholds: int | None = None
    """After this epoch (from 1), thresholds of the visual gate are searched for each class, on validation (CMPAE)."""
    test_pair: bool | None = None
    """Test two copies of the network, of the epochs that were best for audio and for visual (DHHN)."""
    patience: int | None = None
    """Training ends after so many epochs without a better score, the one of `select` (CVCMS); None: never."""
    select: str = "val/segment/Type"
    """The score whose best epoch is tested, or "last". On validation, never on test."""
    select_on_test: bool = False
    """As published by some: validate, and so select, on the test videos. The record, and all that is made of it, says
    so. Such scores are no estimate of anything."""


@dataclass
class TrainSettings:
    """The keys of a training configuration; those that hold objects are checked against their signatures."""

    seed: int = MISSING
    threads: int | None = None
    micro_batch: int | None = 32
    """Videos that go through the network at a time when training on a CPU; the gradient is the whole batch's."""
    compile: bool = False
    """Train with the network compiled by PyTorch, where that is seen to give the same."""
    kernels: bool = False
    """Compute MM-CSE on a CPU with operators in C++, which are built once (`mmcse.models.kernels`)."""
    packages: list[str] = field(default_factory=list)
    run: RunSettings = field(default_factory=RunSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    data: Any = MISSING
    model: Any = MISSING
    objective: Any = MISSING
    optimizer: Any = MISSING
    rates: Any = None
    """Learning rates of parts of the network, by the name of the module; the rest has the optimizer's."""
    scheduler: Any = None
    trainer: Any = MISSING
    stages: Any = None
    """What a method of several stages does before its own training, see `mmcse.stages`."""
    logger: Any = None


@dataclass
class EvalSettings:
    """The keys of an evaluation configuration; what is None comes from the checkpoint."""

    checkpoint: str = MISSING
    """A checkpoint of a run, or a folder that `mmcse import` wrote."""
    split: str = "test"
    """"val" or "test"."""
    gate: str | None = None
    threshold: float | None = None
    gate_threshold: float | None = None
    """Least video-level probability of the gate, also in place of thresholds of each class."""
    visual_thresholds: list[float] | None = None
    """One for each class in the gate of the visual segments (CMPAE); conf/thresholds has the released ones."""
    durations: bool = False
    """Also score events by their duration; on with `json` and `predictions`."""
    json: str | None = None
    """File for all scores in full precision."""
    predictions: str | None = None
    """File (.npz) for the decisions of every video, as `mmcse score` reads them."""
    kernels: bool = False
    """As in training."""
    packages: list[str] = field(default_factory=list)
    seed: int = 0
    data: Any = None
    trainer: Any = MISSING


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


def check_calls(config: DictConfig) -> None:
    """Check every node with a `_target_` before anything is built, against the signature of its target.

    A target is imported only where its name is trusted, and called only where it is also defined in what is trusted:
    modules hold names from elsewhere too.

    Raises:
        UserError: a target cannot be imported or is not trusted, or does not take an argument or a value.
    """
    trusted = (*TRUSTED, *(config.get("packages") or ()))
    try:
        calls = _calls(config, "")
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        raise UserError(one_line(error)) from error
    for path, node in calls:
        target = str(node["_target_"])
        _require_trust(target, target, trusted, path)
        called = _resolve(target, path)
        _require_trust(f"{called.__module__}.{called.__qualname__}", target, trusted, path)
        parameters = inspect.signature(called).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        hints = get_type_hints(called.__init__ if inspect.isclass(called) else called)
        for name, value in OmegaConf.to_container(node, resolve=True).items():  # type: ignore[union-attr]
            if str(name).startswith("_"):
                continue
            if name not in parameters:
                raise UserError(
                    f"{target} takes no argument {name!r} (set at {path}.{name}).{near_miss(str(name), parameters)} "
                    f"It takes: {', '.join(parameters)}."
                )
            if expected := _mismatch(value, hints.get(str(name))):
                raise UserError(f"{path}.{name} is {value!r}; expected {expected}.")


def _shipped(name: str) -> Path:
    package = Path(__file__).parent
    inside, beside = package / name, package.parents[1] / name
    return inside if inside.is_dir() else beside


def _is_experiment(file: Path, root: Path) -> bool:
    """Experiments lie in table folders or at the top; `results` and the files of tables and facts are data."""
    parts = file.relative_to(root).parts
    return parts[0] not in ("results", "paper.yaml", "suite.yaml", "parity.yaml", "zoo.yaml")


def _calls(node: Any, path: str) -> list[tuple[str, DictConfig]]:
    """Every node with a `_target_`, and its place; in lists too, because Hydra calls those as well."""
    if isinstance(node, DictConfig):
        found = [(path, node)] if "_target_" in node else []
        children = [(str(key), node[key]) for key in node if not OmegaConf.is_missing(node, key)]
    elif isinstance(node, ListConfig):
        found = []
        children = [(str(i), node[i]) for i in range(len(node)) if not OmegaConf.is_missing(node, i)]
    else:
        return []
    for key, child in children:
        found += _calls(child, f"{path}.{key}".lstrip("."))
    return found


def _require_trust(name: str, target: str, trusted: Sequence[str], path: str) -> None:
    if not any(name == trust or name.startswith(f"{trust}.") for trust in trusted):
        package = name.partition(".")[0]
        raise UserError(
            f"{path}._target_ is {target!r}, which is outside the trusted packages ({', '.join(trusted)}). If "
            f"{package} is your own code: packages=[{package}]. If it came with a file from elsewhere, do not."
        )


def _mismatch(value: Any, hint: Any) -> str:
    """What a plain type hint expects, where the value is something else; empty where it fits or cannot be told."""
    options = get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    expected = []
    for option in options:
        if get_origin(option) is Literal:
            fits, words = value in get_args(option), " or ".join(map(repr, get_args(option)))
        elif option in (bool, int, float, str, NoneType):
            fits, words = _is_a(value, option), "nothing" if option is NoneType else option.__name__
        elif option is Tensor:  # cannot be written in a configuration
            continue
        else:
            return ""
        if fits:
            return ""
        expected.append(words)
    return " or ".join(expected)


def _is_a(value: Any, kind: type) -> bool:
    """`isinstance` of a number, where an integer is a float too, but a truth value is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _resolve(target: str, path: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        called = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{path}._target_ is {target!r}, which cannot be imported: {error}.") from error
    if not (inspect.isclass(called) or inspect.isfunction(called)):
        raise UserError(f"{path}._target_ is {target!r}, a {type(called).__name__}; expected a class or a function.")
    return called
