"""What a configuration may call, and with which arguments."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
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
