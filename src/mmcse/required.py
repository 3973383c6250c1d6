"""Values that an experiment leaves to its user, with the command that makes them.

    data:
      segment_labels: ${required:mmcse segment-labels CLAP_CLIP_BANK --out SEGMENT_LABELS}

stands for a value that has to be given; the last word of the command names what is given. (A plain `???`, as for the
folders of LLP, would not do: composing configurations keeps an earlier value in its place.)
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mmcse.configuration import experiments
from mmcse.errors import UserError


@cache
def required_values(experiment: str) -> Mapping[str, str]:
    """What an experiment requires, as `required_of` has it; the folders that its data ask for are not in it."""
    return required_of(OmegaConf.load(experiments()[experiment]))  # type: ignore[arg-type]


def required_of(config: DictConfig) -> dict[str, str]:
    """Commands that make the values which a configuration still requires, by dotted key."""
    return dict(_required(OmegaConf.to_container(config), ""))


def assignment(key: str, command: str) -> str:
    """How a required value is given on the command line."""
    return f"{key}={command.split()[-1]}"


def require_values(config: DictConfig) -> None:
    """Check, before the work begins, that everything was given that a configuration leaves to its user.

    Raises:
        UserError: something was not; the message names all of it, and the commands that make it.
    """
    made = required_of(config)
    given = {key: f"{key}=VALUE" for key in sorted(OmegaConf.missing_keys(config))}
    given |= {key: assignment(key, command) for key, command in made.items()}
    if given:
        verb = "has no default and was" if len(given) == 1 else "have no defaults and were"
        makers = (f"`{command}` makes what {key} names." for key, command in made.items())
        raise UserError(" ".join((f"{', '.join(given)} {verb} not given: add {' '.join(given.values())}.", *makers)))


def _required(node: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(node, dict):
        return [found for key, child in node.items() for found in _required(child, f"{path}.{key}".lstrip("."))]
    command = re.fullmatch(r"\$\{required:(.+)\}", node) if isinstance(node, str) else None
    return [(path, command[1])] if command else []
