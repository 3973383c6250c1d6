"""The command line: `mmcse COMMAND ...`.

`train` and `eval` are Hydra applications and take `key=value` overrides; the other commands take options.
"""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from mmcse import __version__
from mmcse.commands import collect, data, efficiency, floors, import_, report, score
from mmcse.errors import UserError

EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED = 1, 2, 130


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
    except BrokenPipeError:  # whoever read our output, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit fails in writing the rest
        return EXIT_FAILED


def _train(argv: list[str]) -> int:
    from omegaconf import DictConfig

    from mmcse.runs.sweep import Journal, conclude, journaled

    def job(config: DictConfig) -> float:
        from mmcse.runs.folder import is_first_process
        from mmcse.train import summary, train

        run = train(config)
        if is_first_process():
            print(summary(run))
        return run.record["scores"]["test"]["Avg"]

    Journal.folder = None
    try:
        status = _hydra("train", job, argv, journaled)
    except OSError as error:
        if Journal.folder is None:
            raise
        raise UserError(f"The sweep's folder {Journal.folder} cannot be made. Choose another run.root.") from error
    if Journal.folder:
        print(f"\n{conclude(Journal.folder)}")
    return status


def _eval(argv: list[str]) -> int:
    from omegaconf import DictConfig

    def job(config: DictConfig) -> None:
        from mmcse.evaluate import evaluate

        evaluate(config)

    return _hydra("eval", job, argv)


def _hydra(name: str, job: Callable, argv: list[str], wrapper: Callable[[Callable], Callable] | None = None) -> int:
    """Run a Hydra application, and say what is wrong in one paragraph where the user can mend it."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from mmcse.configuration import register

    mistakes: list[UserError] = []

    def guarded(config: DictConfig) -> Any:
        """The job, keeping its mistakes from Hydra, which would list every override."""
        _quieten_lightning()  # here, because jobs of a sweep may run in processes of their own
        try:
            return job(config)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            mistake = _mistake(error, name, argv)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise mistake from None
            return mistakes.append(mistake)

    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to us
    ordered = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))  # argparse knows it among words only so
    program, sys.argv = sys.argv, [f"mmcse {name}", *ordered]
    try:
        hydra.main(version_base="1.3", config_path=None, config_name=name)(wrapper(guarded) if wrapper else guarded)()
    except (HydraException, OmegaConfBaseException) as error:
        raise _mistake(error, name, argv) from error
    finally:
        sys.argv = program
    if mistakes:
        raise mistakes[0]
    return 0


def _mistake(error: Exception, name: str, argv: list[str]) -> UserError:
    """The mistake behind an error: the one it was raised from, or else what is wrong with the configuration."""
    from mmcse.configuration import explain_composition

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__
    return UserError(explain_composition(error, name, argv))


def _quieten_lightning() -> None:
    """Leave its warnings, and drop its remarks on devices, checkpoints and its own deprecated calls."""
    import lightning  # sets the levels that are changed here

    for name in (lightning.__name__, "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # scores are those of all processes already


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
    for command in (score, floors, data, import_, efficiency, collect, report):
        command.add(commands)
    return parser
