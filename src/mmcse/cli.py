"""The command line: `mmcse COMMAND ...`.

`train` and `eval` are Hydra applications and take `key=value` overrides; the other commands take options.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable

from mmcse import __version__
from mmcse.commands import data, score
from mmcse.errors import UserError

EXIT_MISTAKE, EXIT_INTERRUPTED = 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when all went well, 1 when something was found or failed, 2 for a mistake the user can mend, 130 after
        Ctrl-C.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    argv = sys.argv[1:] if argv is None else argv
    hydra_commands = {"train": _train, "eval": _eval}
    try:
        if argv and argv[0] in hydra_commands:
            return hydra_commands[argv[0]](argv[1:])
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except UserError as error:
        print(f"mmcse: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("\nmmcse: stopped. What was complete is kept; the same command goes on from there.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _train(argv: list[str]) -> int:
    from omegaconf import DictConfig

    def job(config: DictConfig) -> float:
        from mmcse.train import summary, train

        run = train(config)
        print(summary(run))
        return run.record["scores"]["test"]["Avg"]

    return _hydra("train", job, argv)


def _eval(argv: list[str]) -> int:
    from omegaconf import DictConfig

    def job(config: DictConfig) -> None:
        from mmcse.evaluate import evaluate

        evaluate(config)

    return _hydra("eval", job, argv)


def _hydra(name: str, job: Callable, argv: list[str]) -> int:
    """Run a Hydra application, and say what is wrong in one paragraph where the user can mend it."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from mmcse.configuration import config_folder, explain_composition, register

    register()
    _quieten_lightning()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to us
    program, sys.argv = sys.argv, [f"mmcse {name}", *argv]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise UserError(explain_composition(error, name, argv)) from error
    finally:
        sys.argv = program
    return 0


def _quieten_lightning() -> None:
    """Leave its warnings, and drop its remarks on devices, checkpoints and its own deprecated calls."""
    import lightning  # sets the levels that are changed here

    for name in (lightning.__name__, "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmcse",
        description="Audio-visual video parsing: train, evaluate and compare parsers.",
        epilog="`mmcse train --help` and `mmcse eval --help` show their configuration.",
    )
    parser.add_argument("--version", action="version", version=f"mmcse {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("train", help="train a parser and test its best epoch (Hydra: key=value)")
    commands.add_parser("eval", help="score a checkpoint (Hydra: key=value)")
    for command in (score, data):
        command.add(commands)
    return parser
