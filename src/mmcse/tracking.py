"""Mirrors of runs elsewhere: Weights & Biases.

A run's folder is what counts. A mirror shows the same to people who look at many runs; what goes wrong with it is said,
and never stops the run.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from torch import distributed

from mmcse.callbacks.history import Mirror, Rows, read_history
from mmcse.data.bank import FeatureBank
from mmcse.data.manifest import MANIFEST
from mmcse.errors import UserError
from mmcse.runs.folder import CHECKPOINTS, is_first_process
from mmcse.runs.record import RECORD_FILE
from mmcse.runs.sweep import sweep_folder
from mmcse.selection import selected

Mode = Literal["auto", "online", "offline"]

FAILED, INTERRUPTED = 1, 130

log = logging.getLogger(__name__)


def mirrored(
    logger: Callable[..., AbstractContextManager[Mirror]] | None,
    folder: Path,
    record: dict[str, Any],
    bank: FeatureBank,
) -> AbstractContextManager[Mirror | None]:
    """Open the mirror that a configuration asks for, if any; of several processes, only the first has one.

    Args:
        logger: `wandb_mirror`, or anything that is called like it.
        folder: the run's.
        record: of the run; at the end it is complete.
        bank: what the run is trained on.
    """
    return logger(folder, record, bank) if logger and is_first_process() else nullcontext()


@contextmanager
def wandb_mirror(
    folder: Path,
    record: dict[str, Any],
    bank: FeatureBank,
    *,
    project: str = "mmcse",
    entity: str | None = None,
    group: str | None = None,
    mode: Mode = "auto",
    figures: bool = True,
    checkpoint: bool = True,
    patience: float = 300,
) -> Iterator[Mirror]:
    """Mirror a run at Weights & Biases: curves while it lasts; scores, tables, figures and files when it has succeeded.

    A run that goes on after an interruption goes on there too. Without an API key nothing is asked and nothing is sent:
    the mirror lies in `<folder>/wandb`, from where `wandb sync` sends it.

    Args:
        folder: the run's.
        record: of the run; complete, with status, at the end.
        bank: what the run is trained on.
        project: at Weights & Biases.
        entity: user or team; None is the API key's own.
        group: what runs are grouped by; None is the sweep, for each of its runs.
        mode: "auto" is online where there is an API key.
        figures: also send pictures of the finished run, where matplotlib is there.
        checkpoint: also send the best epoch's checkpoint.
        patience: seconds to wait for the network at the start, and again at the end.

    Yields:
        What is to be called with all rows after each epoch.

    Raises:
        UserError: wandb is not installed, or `mode` is none of the three.
    """
    if mode not in ("auto", "online", "offline"):
        raise UserError(f"logger.mode is {mode!r}; expected auto, online or offline.")
    options = {
        "project": project,
        "entity": entity,
        "group": group or _sweep_name(record),
        "job_type": "train",
        "id": run_id(record),
        "name": f"{record['name']} seed {record['seed']}",
        "tags": _tags(record),
        "config": {**record["config"], "identity": record["identity"], "data_kind": bank.kind},
        "dir": str(folder),
    }
    resumes = (folder / CHECKPOINTS / "last.ckpt").is_file()
    wandb = _wandb()
    run = _start(wandb, options, mode, patience, resumes)
    mirror = _WandbMirror(wandb, run, record["config"]["evaluation"])
    status = FAILED
    try:
        yield mirror.add_epoch
        mirror.add_outcome(record, bank.classes)
        if figures:
            mirror.add_figures(folder, record)
        mirror.add_files(folder, record, bank, checkpoint)
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
        raise
    finally:
        mirror.finish(status, folder)


def run_id(record: dict[str, Any]) -> str:
    """Id of a run at Weights & Biases: the same when the same run goes on."""
    return f"{record['name'].replace('/', '-')}-{record['identity']}-seed{record['seed']}"


def _sweep_name(record: dict[str, Any]) -> str | None:
    """What the runs of a sweep are grouped by: its folder, as far as it says when and not where."""
    if (folder := sweep_folder()) is None:
        return None
    below = Path(record["config"]["run"]["root"]) / "sweeps"
    return "-".join(folder.relative_to(below).parts) if folder.is_relative_to(below) else folder.name


def _tags(record: dict[str, Any]) -> list[str]:
    """Table and row, the user's own, and what the data are; W&B takes tags of 1 to 64 characters, each once."""
    kind = record["data"]["kind"]
    tags = [*record["name"].split("/"), *record["tags"], "real data" if kind == "real" else kind.upper()]
    return list(dict.fromkeys(tag[:64] for tag in tags if tag))


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError("logger=wandb needs wandb: pip install 'mmcse[wandb]'") from error
    return wandb


def _start(wandb: Any, options: dict[str, Any], mode: Mode, patience: float, resumes: bool) -> Any:
    """A run of W&B: online if that is wanted and comes about, else offline, else one that does nothing."""
    settings = wandb.Settings(
        silent=True,  # what there is to say, we say
        reinit="create_new",  # a run of the user's own, in a notebook, is left alone
        init_timeout=patience,
        finish_timeout=patience,
        finish_timeout_raises=True,
    )
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's reports on itself, which it sends offline too
    wandb.setup(wandb.Settings(silent=True))
    if mode == "online" or (mode == "auto" and os.environ.get("WANDB_MODE", "online") == "online"):
        try:
            # verified here, within seconds: what `init` has given up for lack of a network blocks the id for good
            if wandb.login(prompt=False, verify=True):
                run = wandb.init(**options, settings=settings, mode="online", resume="allow" if resumes else None)
                log.warning("W&B: %s", run.url)
                return run
            if mode == "online":
                log.warning("W&B has no API key (`wandb login`); this run is kept offline.")
        except Exception as error:
            log.warning("W&B cannot be reached; this run is kept offline. (%s)", error)
    try:
        run = wandb.init(**options, settings=settings, mode="offline")
        log.warning("W&B, offline: `wandb sync %s` sends it.", Path(run.dir).parent)
        return run
    except Exception as error:
        log.warning("W&B does not work; this run goes without. (%s)", error)
        return wandb.init(mode="disabled", settings=settings)


class _WandbMirror:
    """What is sent to a run of W&B, and when. The first thing that goes wrong is said; none stops anything.

    Args:
        wandb: the library.
        run: as its `init` returns it.
        evaluation: that part of the configuration: it says which epoch counts.
    """

    def __init__(self, wandb: Any, run: Any, evaluation: Mapping[str, Any]) -> None:
        self.wandb, self.run, self.evaluation, self.failed = wandb, run, evaluation, False
        with self._forgiven():
            for names in ("lr", "train/*"):
                run.define_metric(names, step_metric="epoch")
            run.define_metric("val/*", step_metric="epoch", summary="none")  # the summary has those of the best epoch

    def add_epoch(self, rows: Rows) -> None:
        """Send the last of the epochs, and keep the best in the summary."""
        with self._forgiven():
            self.run.log(rows[-1], step=int(rows[-1]["epoch"]))
            best, _ = selected(rows, self.evaluation)
            scores = {name: value for name, value in best.items() if name.startswith("val/")}
            self.run.summary.update({"best_epoch": best["epoch"], **scores})

    def add_outcome(self, record: dict[str, Any], classes: Sequence[str]) -> None:
        """Send the test scores, all videos together and by class."""
        with self._forgiven():
            scores = {f"test/{name}": score for name, score in record["scores"]["test"].items()}
            self.run.summary.update(scores)
            table = self.wandb.Table(*per_class_rows(record["per_class"], classes))
            self._log_last({**scores, "per_class": table}, record)

    def add_figures(self, folder: Path, record: dict[str, Any]) -> None:
        """Send a picture of every figure of the run."""
        with self._forgiven(), TemporaryDirectory() as place:
            pictures = _figures(folder, record, Path(place))
            self._log_last({f"figures/{p.stem}": self.wandb.Image(str(p)) for p in pictures}, record)

    def add_files(self, folder: Path, record: dict[str, Any], bank: FeatureBank, checkpoint: bool) -> None:
        """Send the manifest of the data, the run's record and configuration, and its checkpoint."""
        with self._forgiven():
            kind = {"kind": bank.kind}
            self._keep(f"bank-{bank.digest[:10]}", "dataset", [bank.folder / MANIFEST], kind)
            files = [folder / name for name in (RECORD_FILE, "config.yaml", "history.csv")]
            files += [folder / CHECKPOINTS / "best.ckpt"] if checkpoint else []
            self._keep(self.run.id, "model", files, kind | record["scores"]["test"])

    def finish(self, status: int, folder: Path) -> None:
        """End the run with an exit status, waiting for what is still on its way."""
        with self._forgiven(f" What was not sent lies in {folder / 'wandb'}, for `wandb sync`."):
            self.run.finish(exit_code=status)

    def _log_last(self, media: dict[str, Any], record: dict[str, Any]) -> None:
        """Log behind the last epoch, so that nothing is added to the curves."""
        self.run.log(media, step=record["config"]["trainer"]["max_epochs"] + 1)

    def _keep(self, name: str, kind: str, files: Sequence[Path], metadata: dict[str, Any]) -> None:
        artifact = self.wandb.Artifact(name, kind, metadata=metadata)
        for file in files:
            artifact.add_file(str(file), policy="immutable")  # the file itself: no copy in between
        self.run.log_artifact(artifact)

    @contextmanager
    def _forgiven(self, more: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self.failed:
                what = str(error) or type(error).__name__
                log.warning("W&B has failed, and the run goes on without it: %s%s", what, more)
            self.failed = True


def per_class_rows(
    per_class: Mapping[str, Mapping[str, np.ndarray]], classes: Sequence[str]
) -> tuple[list[str], list[list[Any]]]:
    """Columns, and a row for each class: F-scores, and how many segments and events are annotated."""
    scores = {f"F {name}": [None if np.isnan(f) else float(f) for f in table["F"]] for name, table in per_class.items()}
    counts = {f"true {name}": (table["TP"] + table["FN"]).tolist() for name, table in per_class.items()}
    columns = {"class": list(classes), **scores, **counts}
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _figures(folder: Path, record: dict[str, Any], out: Path) -> Iterator[Path]:
    """Pictures of every figure of a run, written to a folder; none, and a word, where they cannot be drawn."""
    if not find_spec("matplotlib"):
        log.warning("W&B gets no figures of this run: they need pip install 'mmcse[plots]'.")
        return
    if distributed.is_initialized():  # each process would parse its own part of the videos
        log.warning("W&B gets no figures of this run, which several processes trained: see `mmcse figures %s`.", folder)
        return
    from mmcse.figures import run_figures, save_figure
    from mmcse.runs.outputs import parse_split

    packages = ",".join(record["config"]["packages"])
    outputs = parse_split(folder / CHECKPOINTS / "best.ckpt", overrides=[f"packages=[{packages}]"])
    history = read_history(folder / "history.csv")
    for name, figure in run_figures(outputs, history, best_epoch=record["selection"]["epoch"]):
        save_figure(figure, file := out / f"{name.replace('/', '_')}.png")
        yield file
