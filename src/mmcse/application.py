"""Commands that are Hydra applications: composed configurations in, mistakes in one paragraph out."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mmcse.allocator import keep_freed_memory
from mmcse.configuration import check_overrides, explain_composition, register
from mmcse.errors import UserError


def run_application(
    name: str, job: Callable, argv: list[str], wrapper: Callable[[Callable], Callable] | None = None
) -> int:
    """Run a Hydra application on a command's words.

    Args:
        name: the primary configuration, and the command.
        job: what is done with a composed configuration, of each job of a sweep too.
        argv: overrides, and Hydra's own options.
        wrapper: put around the job where there is one.

    Raises:
        UserError: whatever the user can mend, in one paragraph.
    """
    mistakes: list[UserError] = []

    def guarded(config: DictConfig) -> Any:
        """The job, keeping its mistakes from Hydra, which would list every override."""
        quieten_lightning()  # here, because jobs of a sweep may run in processes of their own
        keep_freed_memory()
        try:
            return job(config)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            mistake = _mistake(error, name, argv)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise mistake from None
            return mistakes.append(mistake)

    check_overrides(argv)
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to us
    ordered = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))  # argparse knows it among words only so
    program, sys.argv = sys.argv, [f"mmcse {name}", *ordered]
    try:
        hydra.main(version_base="1.3", config_path=None, config_name=name)(wrapper(guarded) if wrapper else guarded)()
    except (HydraException, OmegaConfBaseException) as error:
        raise _mistake(error, name, argv) from error
    except RuntimeError as error:
        if "srun" not in str(error):  # which Slurm's launcher looks for
            raise
        raise UserError(
            "launcher=slurm needs a Slurm cluster, and there is no `srun` here. Start it on a login node."
        ) from None
    finally:
        sys.argv = program
    if mistakes:
        raise mistakes[0]
    return 0


def _mistake(error: Exception, name: str, argv: list[str]) -> UserError:
    """The mistake behind an error: the one it was raised from, or else what is wrong with the configuration."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__
    return UserError(explain_composition(error, name, argv))


def quieten_lightning() -> None:
    """Leave its warnings, and drop its remarks on devices, checkpoints and its own deprecated calls."""
    import lightning  # here, as --help can do without; it sets the levels that are changed now

    for name in (lightning.__name__, "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # scores are those of all processes already
