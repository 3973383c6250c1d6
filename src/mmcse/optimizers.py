"""Learning rates of parts of a network, as groups of parameters for any optimiser of PyTorch."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from mmcse.errors import UserError


def parameter_groups(network: nn.Module, rates: Mapping[str, float] | None = None) -> Iterable[Any]:
    """What an optimiser is made from: all parameters, or groups of them that have rates of their own.

    Args:
        network: whose parameters are optimised.
        rates: name of a module within the network -> its learning rate. The rest, the first group, has the optimiser's
            own. A schedule scales all of them alike.

    Raises:
        UserError: the network has no such module, or one lies within another.
    """
    if not rates:
        return network.parameters()
    own: dict[str, list[nn.Parameter]] = {part: [] for part in ("", *rates)}
    for name, parameter in network.named_parameters():
        parts = [part for part in rates if name.startswith(f"{part}.")]
        if len(parts) > 1:
            raise UserError(f"{name} belongs to several of the rates: {', '.join(parts)}. Leave it to one of them.")
        own[parts[0] if parts else ""].append(parameter)
    for part in rates:
        if not own[part]:
            raise UserError(
                f"The network has no part {part!r} to give a rate. It has: "
                f"{', '.join(name for name, _ in network.named_children())}."
            )
    return [{"params": own[""]}, *({"params": own[part], "lr": rate} for part, rate in rates.items())]
