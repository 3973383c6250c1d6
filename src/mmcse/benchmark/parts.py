"""What is timed, part by part: both ways in turns."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from torch import nn

from mmcse.application import quieten_lightning
from mmcse.benchmark.floor import profile_step
from mmcse.benchmark.memory import training_memory
from mmcse.benchmark.timing import take_turns
from mmcse.benchmark.ways import (
    PRECISIONS,
    Precision,
    Sizes,
    Way,
    at_home,
    build,
    build_compiled,
    inference,
    literal_modules,
    one_after_another,
    random_batch,
    recipe,
    training_step,
)
from mmcse.data import FeatureBank, simulated_bank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.evaluation.metric import ParsingMetric
from mmcse.models import kernels
from mmcse.parser import VideoParser

WAYS: tuple[Way, ...] = ("literal", "ours")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    sizes: Sizes = field(default_factory=Sizes)
    """Of networks and batches."""
    evaluated: int = 1200
    """Videos of the evaluation and the metric; LLP's test split has as many."""
    loaded: int = 640
    """Videos of the loader."""
    matrix: int = 2048
    """Rows and columns of the matrices whose product gives the machine's rate."""
    repeats: int = 9
    """Rounds of what takes a second or two."""
    slow_repeats: int = 3
    """Rounds of what takes a minute."""
    warm_up: int = 1
    """Rounds before them that do not count."""


QUICK = Scale(
    sizes=Sizes(videos=4, num_layers=1, micro_batch=2),
    evaluated=6,
    loaded=8,
    matrix=256,
    repeats=2,
    slow_repeats=1,
    warm_up=0,
)
"""Only to see that it works."""


@dataclass(frozen=True)
class Comparison:
    """A part that was measured in several ways.

    `costs` are seconds, or bytes where `unit` says so; the n-th of all ways belong to the same round. `pairs` name the
    ways whose ratio is of interest, the slow one first; `videos` are those that a measurement covers, where it does.
    """

    part: str
    costs: Mapping[str, Sequence[float]]
    pairs: list[tuple[str, str]]
    videos: int | None = None
    unit: str = "s"


def comparisons(scale: Scale) -> Iterator[tuple[str, Callable[[], list[Comparison]]]]:
    """Every part by name, and what measures it."""
    yield "peak memory", lambda: [_memory(scale)]
    yield "training step", lambda: [_training(scale)]
    yield "inference", lambda: [_inference(scale, videos) for videos in (1, scale.sizes.videos)]
    yield "evaluation, loader and metric", lambda: list(_on_data(scale))
    yield "start-up", lambda: [_start_up(scale)]


def _name(way: Way, precision: Precision) -> str:
    return f"{way}, {precision}"


_COMPARED: tuple[tuple[Precision, Precision], ...] = (
    ("float32", "float32"),
    ("float32", "bfloat16"),
    ("bfloat16", "bfloat16"),
)
_PAIRS = [(_name("literal", slow), _name("ours", fast)) for slow, fast in _COMPARED]
_COMPILED = "ours, bfloat16, compiled"
_COMPILED_PAIRS = [(_name("literal", "float32"), _COMPILED), (_name("ours", "bfloat16"), _COMPILED)]
_IN_KERNELS: dict[Precision, str] = {p: f"{_name('ours', p)}, kernels" for p in PRECISIONS}
_KERNEL_PAIRS = [
    (slow, way) for p, way in _IN_KERNELS.items() for slow in (_name("literal", "float32"), _name("ours", p))
]


def floors(scale: Scale) -> dict[str, dict[str, Any]]:
    """What a training step has to compute and to pass (`profile_step`), and its precision, for each of our ways."""
    batch, floors = random_batch(scale.sizes), {}
    for name, (way, precision, in_kernels) in _ways().items():
        if way == "ours":
            step = training_step(build(way, scale.sizes), batch, precision, scale.sizes.micro_batch)
            floor = profile_step(at_home(way, step, in_kernels), scale.slow_repeats)
            floors[name] = {**floor, "parts": [asdict(part) for part in floor["parts"]], "precision": precision}
    return floors


def _ways() -> dict[str, tuple[Way, Precision, bool]]:
    """All that are not compiled, by name: way, precision, and whether in C++; not in C++ where that cannot be built."""
    ways: dict[str, tuple[Way, Precision, bool]] = {_name(way, p): (way, p, False) for p in PRECISIONS for way in WAYS}
    if kernels.use(True):
        ways |= {name: ("ours", p, True) for p, name in _IN_KERNELS.items()}
    return ways


def _training(scale: Scale) -> Comparison:
    sizes, batch = scale.sizes, random_batch(scale.sizes)
    steps = {
        name: at_home(
            way,
            training_step(build(way, sizes), batch, precision, sizes.micro_batch if way == "ours" else None),
            in_kernels,
        )
        for name, (way, precision, in_kernels) in _ways().items()
    }
    if compiled := build_compiled(sizes):
        steps[_COMPILED] = at_home("ours", training_step(compiled, batch, "bfloat16", sizes.micro_batch))
    seconds = take_turns(steps, scale.repeats, scale.warm_up, settle=1)
    return Comparison("training step", seconds, _pairs(steps), sizes.videos)


def _inference(scale: Scale, videos: int) -> Comparison:
    """Passes of one network follow each other until all videos are through, as they do where they are needed."""
    networks = {way: build(way, scale.sizes) for way in WAYS}
    batches = random_batch(scale.sizes).split(videos)

    def through(way: Way, network: nn.Module, precision: Precision, in_kernels: bool = False) -> Callable[[], object]:
        passes = one_after_another([inference(network, b, precision) for b in batches], precision)
        return at_home(way, passes, in_kernels)

    ways = {name: through(way, networks[way], p, in_kernels) for name, (way, p, in_kernels) in _ways().items()}
    if compiled := build_compiled(scale.sizes):
        ways[_COMPILED] = through("ours", compiled, "bfloat16")
    seconds = take_turns(ways, scale.repeats, scale.warm_up, settle=1)
    return Comparison(f"inference, batch {videos}", seconds, _pairs(ways), scale.sizes.videos)


def _pairs(ways: Mapping[str, object]) -> list[tuple[str, str]]:
    return [pair for pair in _PAIRS + _KERNEL_PAIRS + _COMPILED_PAIRS if ways.keys() >= set(pair)]


def _memory(scale: Scale) -> Comparison:
    costs = {
        name: [training_memory(*way, sizes=scale.sizes)["step"] for _ in range(scale.slow_repeats)]
        for name, way in _ways().items()
    }
    return Comparison("peak memory of training, more than before", costs, _pairs(costs), unit="bytes")


def _on_data(scale: Scale) -> Iterator[Comparison]:
    """What needs videos on disk: they lie in the system's cache, where a second epoch finds them too."""
    _, literal, _ = literal_modules()
    with tempfile.TemporaryDirectory(prefix="mmcse-bench-") as place:
        folder = Path(place)
        bank = simulated_bank(folder / "bank", train=scale.loaded, val=1, test=scale.evaluated)
        for split in ("train", "test"):
            literal.write_video_files(bank.split(split), folder / split)
        yield _loader(scale, bank, folder / "train")
        yield _metric(scale, bank)
        yield _evaluation(scale, bank, folder / "test")


def _loader(scale: Scale, bank: FeatureBank, files: Path) -> Comparison:
    _, literal, _ = literal_modules()
    batch = scale.sizes.videos
    loaders = {
        "literal": literal.literal_loader(literal.LiteralDataset(files, len(bank.classes)), batch),
        "ours": AVVPDataModule(bank, batch_size=batch).train_dataloader(),
    }
    epochs = {name: lambda loader=loader: [None for _ in loader] for name, loader in loaders.items()}
    return Comparison(
        "loader", take_turns(epochs, scale.slow_repeats, scale.warm_up), [("literal", "ours")], scale.loaded
    )


def _metric(scale: Scale, bank: FeatureBank) -> Comparison:
    """Pseudo labels as predictions: about as many events as a parser finds."""
    _, literal, oracle = literal_modules()
    arrays = bank.split("test").arrays
    names = ("pseudo_audio", "pseudo_visual", "true_audio", "true_visual")
    numbers = [arrays[name].astype(float) for name in names]
    booleans = [arrays[name] > 0 for name in names]
    tensors = [torch.from_numpy(array) for array in booleans]

    def ours() -> None:
        metric = ParsingMetric(len(bank.classes))
        for pieces in zip(*(tensor.split(scale.sizes.videos) for tensor in tensors), strict=True):
            metric.update(*pieces)
        metric.compute()

    ways = {
        "literal": lambda: literal.literal_scores(*numbers),
        "oracle of the tests": lambda: oracle.oracle_scores(*booleans),
        "ours": ours,
    }
    pairs = [(slow, "ours") for slow in ways if slow != "ours"]
    return Comparison("metric", take_turns(ways, scale.slow_repeats, scale.warm_up), pairs, scale.evaluated)


def _evaluation(scale: Scale, bank: FeatureBank, files: Path) -> Comparison:
    _, literal, _ = literal_modules()
    sizes = replace(scale.sizes, widths=tuple(bank.dims.values()), num_classes=len(bank.classes))
    dataset, network = literal.LiteralDataset(files, len(bank.classes), maps=False), build("literal", sizes)
    ways = {_name("literal", "float32"): at_home("literal", lambda: literal.literal_evaluation(network, dataset))}
    for name, (way, precision, in_kernels) in _ways().items():
        if way == "ours":
            ways[name] = at_home(way, _tested(build(way, sizes), bank, sizes.videos, precision), in_kernels)
    seconds = take_turns(ways, scale.slow_repeats, scale.warm_up)
    return Comparison("whole evaluation", seconds, _pairs(ways), scale.evaluated)


def _tested(network: torch.nn.Module, bank: FeatureBank, batch: int, precision: Precision) -> Callable[[], object]:
    """A test as `mmcse eval` runs it."""
    config = recipe()
    parser = VideoParser(network, lambda out, batch: {}, len(bank.classes), gate=config.evaluation.gate)
    loader = AVVPDataModule(bank, eval_batch_size=batch).test_dataloader()
    quieten_lightning()
    numbers = "32-true" if precision == "float32" else "bf16-mixed"
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu", "precision": numbers}
    trainer: L.Trainer = instantiate(config.trainer, **options)
    return lambda: trainer.test(parser, loader, verbose=False)


def _start_up(scale: Scale) -> Comparison:
    commands = {
        "python": ["-c", "pass"],
        "python -c 'import torch'": ["-c", "import torch"],
        "mmcse --help": ["-m", "mmcse", "--help"],
        "mmcse train --cfg job": ["-m", "mmcse", "train", "--cfg", "job"],
    }
    starts = {
        name: lambda words=words: subprocess.run([sys.executable, *words], capture_output=True, check=True)
        for name, words in commands.items()
    }
    return Comparison("start-up", take_turns(starts, scale.slow_repeats, scale.warm_up), [])


@contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """That many threads for PyTorch, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
