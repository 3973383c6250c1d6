"""The page on the methods of the suite: what is reproduced of each, how to train it, where it is not as its paper."""

from functools import cache
from inspect import signature
from typing import Any

import torch
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from mmcse.configuration import compose_config, experiment_folder
from mmcse.data.layouts import layout_named
from mmcse.markdown import markdown_table
from mmcse.models import count_parameters
from mmcse.required import assignment, required_of, required_values
from mmcse.runs.paper import PaperRow, paper_tables

_HEAD = """\
# Model zoo

Written by `mmcse report --model-zoo docs/model-zoo.md`; do not edit. CI checks that it is what configurations and tests
say.

Every method has its network, its losses and label rules, its recipe, its gate and its rule of selection, on the data
path, the evaluator and the statistics that all of them share. "Reproduced" is what tests hold against numbers of the
authors' own code, for the same weights and inputs; that training leads to the paper's scores is **not shown here**: it
needs LLP's features. Parameters are those of inference on VGGish/ResNet-152 features (of LSLD, as its row of Table 1;
of DHHN, one of the two networks that it is tested as). Of epochs with the same score the last is kept, of DHHN's pair
the first. Of the licences of the authors' code, "none stated" is a repository without a licence file and without a word
of one in its read-me file, "unknown" one that we have not seen; this suite is written anew, under its own licence.
"""

_COMMANDS = """
Commands, given LLP's features; `mmcse train model=NAME` trains a method on simulated ones.
"""
_SWITCHES = """
`...` stands for `data.bank.features=FEATURES data.bank.annotations=ANNOTATIONS`.

A checkpoint of the authors is made readable by `mmcse import FILE --out IMPORTED`, and `mmcse eval checkpoint=IMPORTED`
scores it by its method's protocol, on the features it was made for. CMPAE's reads all frames, and its authors tested it
with thresholds of each class: `mmcse eval checkpoint=IMPORTED thresholds=cmpae data=llp_vggish_resnet_frames ...`.

## Where released code and paper differ

The released behaviour is the default, but for selection on test and for CMPAE's noise ratios. A switch has the other.
"""
_DEPARTURES = """
## Where this suite does otherwise

What was released, and what is done here; there is no switch.
"""


def zoo() -> dict[str, Any]:
    """What is known of the methods, as `experiments/zoo.yaml` has it."""
    return OmegaConf.to_container(OmegaConf.load(experiment_folder() / "zoo.yaml"))  # type: ignore[return-value]


def model_zoo() -> str:
    """The page, in Markdown; the same configurations give the same bytes."""
    content = zoo()
    methods = content["methods"]
    costs = markdown_table(
        ("method", "paper", "reproduced", "to", "parameters", "paper's Avg", "licence of the original"),
        (
            (
                method["label"],
                method["paper"],
                f"{method['reproduced']} (`{method['test']}`)",
                content["tolerance"] if "golden" in method["test"] else "-",
                f"{_parameters(_rows(method)[0]):,}",
                ", ".join(f"{row.values[-1]}" for row in _rows(method)),
                method["licence"],
            )
            for method in methods
        ),
    )
    commands = markdown_table(
        ("method", "model", "command"),
        ((method["label"], f"`{method['model']}`", _commands(method)) for method in methods),
    )
    switches = markdown_table(
        ("method", "released", "switch", "then"),
        (
            (method["label"], switch["released"], f"`{switch['switch']}`", switch["instead"])
            for method in methods
            for switch in method.get("switches", ())
        ),
    )
    departures = markdown_table(
        ("method", "released", "here"),
        (
            (method["label"], each["released"], each["here"])
            for method in methods
            for each in method.get("departures", ())
        ),
    )
    return "\n".join((_HEAD, costs, _COMMANDS, commands, _SWITCHES, switches, _DEPARTURES, departures, ""))


def _commands(method: dict[str, Any]) -> str:
    """What trains the rows of a method, and what comes first."""
    names = [_experiment(row) for row in _rows(method)]
    first = [f"`{command}`" for command in required_values(names[0]).values()]
    first += map(str, _config(_rows(method)[0]).stages or ())
    return "<br>".join(map(_command, names)) + (f" (first: {', '.join(first)})" if first else "")


def _command(experiment: str) -> str:
    given = (assignment(*value) for value in required_values(experiment).items())
    return f"`{' '.join((f'mmcse train experiment={experiment} ...', *given))}`"


def _rows(method: dict[str, Any]) -> list[PaperRow]:
    return [paper_tables()[table].rows[row] for table, row in (name.split("/") for name in method["rows"])]


def _experiment(row: PaperRow) -> str:
    """The experiment that is called like the row, of several that are the same."""
    return next((name for name in row.runs if name.endswith(f"/{row.name}")), row.runs[0])


@cache
def _config(row: PaperRow) -> DictConfig:
    return compose_config("train", [f"experiment={_experiment(row)}"])


def _parameters(row: PaperRow) -> int:
    """Parameters at inference of an experiment's network, without the files that its user gives it."""
    config = _config(row)
    files = dict.fromkeys(required_of(config.model))
    with torch.device("meta"):  # without memory
        network = instantiate(config.model, **_sizes(config.data.bank), **files)
    return count_parameters(network)[0]


def _sizes(bank: DictConfig) -> dict[str, int]:
    """The arguments of a network that the data decide, as the bank of a configuration would have them."""
    settings: Any = OmegaConf.to_container(bank)
    made = signature(get_method(settings.pop("_target_"))).bind(**settings)
    made.apply_defaults()
    widths = {f"{stream.name}_dim": stream.width for stream in layout_named(made.arguments["layout"]).features}
    return widths | {"num_classes": len(made.arguments["classes"]), "num_segments": made.arguments["num_segments"]}
