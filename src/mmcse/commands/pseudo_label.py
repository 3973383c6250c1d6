"""`mmcse pseudo-label`: weak labels of videos to labels of their segments."""

import argparse
from pathlib import Path
from typing import Any

from mmcse.commands.shared import Subcommands, add_encoder_options, encoder_options


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "pseudo-label",
        help="label the segments of weakly labelled videos",
        description="Label the segments of weakly labelled videos by VALOR's recipe: an event is marked where the "
        "video's label names it and CLAP (audio) or CLIP (visual) finds that the segment fits the event's prompt "
        "better than its threshold. What the two make of a segment is kept in the folder of features: with another "
        "recipe, the videos need not be named again. Where splits are annotated densely, the labels are scored.",
        epilog="example: mmcse pseudo-label videos/ --annotations labels --recipe recipe.yaml --out features",
    )
    parser.add_argument("videos", type=Path, nargs="*", metavar="VIDEO", help="a video, or a folder of videos")
    parser.add_argument("--annotations", type=Path, required=True, metavar="DIR", help="folder with AVVP_*.csv files")
    parser.add_argument(
        "--recipe", required=True, help="yaml file of classes, prompts and thresholds; valor_llp is VALOR's for LLP"
    )
    parser.add_argument("--template", action=_Template, nargs=0, help="print a recipe to begin with, and exit")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of features")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help="write no labels, but a recipe whose thresholds are the best on the validation split",
    )
    parser.add_argument(
        "--splits", nargs="+", choices=("train", "val", "test"), help="default: those with a file of weak labels"
    )
    parser.add_argument("--skip-missing", action="store_true", help="leave out annotated videos that are not there")
    parser.add_argument("--window", type=int, default=10, help="seconds of a video, its segments (default: 10)")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode (default: 2)")
    add_encoder_options(parser)
    parser.set_defaults(run=_run)


class _Template(argparse.Action):
    """Prints a recipe that comes with the package; as `--version`, it needs no other option."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from mmcse.video.recipe import RECIPES

        print((RECIPES / "template.yaml").read_text(encoding="utf-8"), end="")
        parser.exit()


def _run(arguments: argparse.Namespace) -> int:
    from mmcse.video import labelling
    from mmcse.video.extract import extract_features, find_videos
    from mmcse.video.recipe import Recipe

    recipe = Recipe.find(arguments.recipe)
    labels = labelling.read_splits(arguments.annotations, recipe, arguments.splits, arguments.window)
    if arguments.calibrate:
        labelling.require_validation(labels)
    find_videos(arguments.videos)  # a mistyped name is said before gigabytes are loaded
    teachers = labelling.SegmentEmbedder(window=arguments.window, **encoder_options(arguments))
    failed = False
    if arguments.videos:
        report = extract_features(arguments.videos, arguments.out, teachers, workers=arguments.workers)
        print("\n".join(report.lines()))
        failed = not report.ok
    splits = labelling.segment_logits(arguments.out, labels, recipe, teachers, skip_missing=arguments.skip_missing)
    if arguments.calibrate:
        calibrated = labelling.calibrate(recipe, splits)
        calibrated.write(arguments.calibrate, _comment(arguments))
        for split in splits:
            _show(split.labels.split, "before", labelling.describe(split, recipe))
            _show(split.labels.split, "after", labelling.describe(split, calibrated))
        print(f"\n{arguments.calibrate}: thresholds chosen on val; only test shows what they are worth")
        print(f"use them: --recipe {arguments.calibrate}")
    else:
        written = labelling.write_labels(arguments.out, recipe, splits)
        for name, split in written["splits"].items():
            _show(name, arguments.recipe, split)
            if "quality" in split:
                print(_classes(recipe.classes, split["quality"]))
        print(
            f"\nlabels: {arguments.out / 'CLAP'}, {arguments.out / 'CLIP'}; report: {arguments.out / labelling.REPORT}"
        )
    return 1 if failed else 0


def _comment(arguments: argparse.Namespace) -> str:
    return (
        f"Thresholds chosen by `mmcse pseudo-label --calibrate` on the validation split of {arguments.annotations},\n"
        f"for the highest F-score of each class. Prompts are those of {arguments.recipe}."
    )


def _show(split: str, recipe: str, found: dict[str, Any]) -> None:
    """Print what is marked in a split, and the scores where there are some."""
    from mmcse.evaluation.table import score_table

    marked = ", ".join(f"{count} {name}" for name, count in found["marked"].items())
    print(f"\n{split}, {recipe}: {found['videos']} videos, {marked} segment labels")
    if "quality" in found:
        print(score_table(found["quality"]["scores"], kind="real", title="pseudo labels against the annotation"))


def _classes(classes: tuple[str, ...], quality: dict[str, Any]) -> str:
    """Precision, recall and F of each class over all segments."""
    width = max(map(len, classes))
    measures = [(modality, name) for modality in ("audio", "visual") for name in ("precision", "recall", "F")]
    lines = [f"  {'':{width}}" + "".join(f"{f'{m[0].upper()} {name}':>13}" for m, name in measures)]
    for k, name in enumerate(classes):
        cells = (quality[m][measure][k] for m, measure in measures)
        lines.append(f"  {name:{width}}" + "".join(f"{'-' if cell != cell else f'{cell:.1f}':>13}" for cell in cells))
    return "\n".join(lines)
