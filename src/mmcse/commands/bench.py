"""`mmcse bench`: speed and memory against the literal implementation, and how they grow."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcse.commands.shared import Subcommands

if TYPE_CHECKING:
    from mmcse.data import FeatureBank


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory against the literal implementation (in a checkout)",
        description="Measure training step, inference, evaluation, loader, metric, start-up and memory, each in turns "
        "with the literal implementation of the tests, and what a training step has to compute at least. Takes about "
        "half an hour, or seconds with --quick; the machine should do nothing else.",
        epilog="example: mmcse bench --threads 2 --out benchmarks",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--growth", action="store_true", help="instead: cost against videos, segments, classes, layers")
    what.add_argument("--full-preset", action="store_true", help="instead: memory and loader on 10,000 videos (1 GB)")
    what.add_argument(
        "--streaming", action="store_true", help="instead: the loader on a bank larger than memory (needs the disk)"
    )
    what.add_argument("--jobs", action="store_true", help="instead: two trainings at once, or in turn with two threads")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only to see that it works")
    parser.add_argument("--threads", type=int, help="threads (default: PyTorch's choice)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also keep every single time in DIR, and write its page README.md anew"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a summary, and write what was asked for."""
    from mmcse.benchmark.machine import come_to_rest, load_average, machine
    from mmcse.benchmark.page import summary, write_page
    from mmcse.benchmark.parts import thread_count
    from mmcse.benchmark.ways import literal_modules
    from mmcse.errors import UserError
    from mmcse.files import write_json

    if arguments.threads is not None and arguments.threads < 1:
        raise UserError(f"--threads is {arguments.threads}; expected 1 or more.")
    literal_modules()  # before anything is measured: only a checkout has them
    kind = next((kind for kind in _MEASURE if getattr(arguments, kind, False)), "ratios")
    if not arguments.quick and not come_to_rest():
        print("mmcse: The machine is busy; times will not be worth much.", file=sys.stderr)
    with thread_count(arguments.threads):
        about = machine()
        results: dict[str, Any] = {"machine": about, "quick": arguments.quick, **_MEASURE[kind](arguments)}
    about["load_at_end"] = load_average()
    print(summary(kind, results))
    if arguments.out:
        write_json(arguments.out / f"{kind}.json", results)
        print(f"\n{write_page(arguments.out)}")
    return 0


def _ratios(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from dataclasses import asdict

    from mmcse.benchmark.machine import rates
    from mmcse.benchmark.parts import QUICK, Scale, comparisons, floors
    from mmcse.benchmark.ways import largest_difference

    scale = QUICK if arguments.quick else Scale()
    measured = [asdict(c) for name, measure in comparisons(scale) for c in _announced(name, measure)]
    return {
        "scale": asdict(scale),
        "comparisons": measured,
        "difference": largest_difference(scale.sizes),
        "rates": _announced("rates of the machine", lambda: rates(scale.matrix, scale.repeats)),
        "floor": _announced("floor", lambda: floors(scale)),
    }


def _growth(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from dataclasses import replace

    from mmcse.benchmark.growth import AXES, QUICK_AXES, grow, map_bytes
    from mmcse.benchmark.page import FIGURE, growth_figure
    from mmcse.benchmark.ways import Sizes, recipe

    axes, repeats = (QUICK_AXES, 2) if arguments.quick else (AXES, 5)
    growth = {name: _announced(name, measure) for name, measure in grow(axes, repeats)}
    large = Sizes(num_classes=400)
    heads = recipe().model.num_heads
    maps = {
        "example": f"B {large.videos}, T {large.num_segments}, K {large.num_classes}, L {large.num_layers}",
        "bytes": map_bytes(replace(large, micro_batch=None), heads),
        "piece": large.micro_batch,
        "of_piece": map_bytes(large, heads),
    }
    if arguments.out:
        from mmcse.figures.style import save_figure

        save_figure(growth_figure(growth), arguments.out / FIGURE)
    return {"growth": growth, "maps": maps, "figure": arguments.out is not None}


def _full_preset(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from mmcse.benchmark.full_preset import measure_full_preset

    with _simulated("smoke" if arguments.quick else "full") as (bank, _):
        return {"full": _announced("full preset", lambda: measure_full_preset(bank))}


def _streaming(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from mmcse.benchmark.streaming import measure_streaming

    preset, num_bytes = ("smoke", 30_000_000) if arguments.quick else ("full", None)
    with _simulated(preset) as (bank, place):
        return {"streaming": _announced("streaming", lambda: measure_streaming(bank, place / "large", num_bytes))}


def _jobs(arguments: argparse.Namespace) -> Mapping[str, Any]:
    from mmcse.benchmark.jobs import measure_jobs

    overrides, repeats = (["model.num_layers=1"], 1) if arguments.quick else ([], 3)
    with _simulated("smoke" if arguments.quick else "small") as (bank, place):
        return {"costs": _announced("jobs", lambda: measure_jobs(bank, place / "runs", overrides, repeats))}


@contextmanager
def _simulated(preset: str) -> "Iterator[tuple[FeatureBank, Path]]":
    """A simulated bank, and a place beside it, for as long as they are needed."""
    import tempfile

    from mmcse.data import simulated_bank

    with tempfile.TemporaryDirectory(prefix="mmcse-bench-") as place:
        yield simulated_bank(Path(place) / "bank", preset=preset), Path(place)


_MEASURE: Mapping[str, Callable[[argparse.Namespace], Mapping[str, Any]]] = {
    "growth": _growth,
    "full_preset": _full_preset,
    "streaming": _streaming,
    "jobs": _jobs,
    "ratios": _ratios,
}


def _announced(name: str, measure: Callable[[], Any]) -> Any:
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    return measure()
