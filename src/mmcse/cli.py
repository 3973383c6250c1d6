"""The command line: `mmcse COMMAND ...`.

`train` and `eval` are Hydra applications and take `key=value` overrides; the other commands take options.
"""

import argparse
import logging
import os
import sys

from mmcse import __version__
from mmcse.commands import (
    bench,
    breakdown,
    collect,
    dashboard,
    data,
    efficiency,
    extract,
    figures,
    floors,
    import_,
    label_embeddings,
    parse,
    pseudo_label,
    report,
    score,
    segment_labels,
    status,
)
from mmcse.errors import UserError, disk_failure

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
    except OSError as error:
        if (failure := disk_failure(error)) is None:
            raise
        print(f"mmcse: {failure}", file=sys.stderr)
        return EXIT_MISTAKE


def _train(argv: list[str]) -> int:
    from omegaconf import DictConfig

    from mmcse.application import run_application
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
        status = run_application("train", job, argv, journaled)
    except OSError as error:
        if Journal.folder is None:
            raise
        raise UserError(f"The sweep's folder {Journal.folder} cannot be made. Choose another run.root.") from error
    finally:
        Journal.close()
    if Journal.folder:
        print(f"\n{conclude(Journal.folder)}")
    return status


def _eval(argv: list[str]) -> int:
    from omegaconf import DictConfig

    from mmcse.application import run_application

    def job(config: DictConfig) -> None:
        from mmcse.evaluate import evaluate

        evaluate(config)

    return run_application("eval", job, argv)


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
    for command in (
        score,
        parse,
        extract,
        pseudo_label,
        segment_labels,
        label_embeddings,
        floors,
        data,
        import_,
        efficiency,
        bench,
        collect,
        report,
        breakdown,
        figures,
        status,
        dashboard,
    ):
        command.add(commands)
    return parser
