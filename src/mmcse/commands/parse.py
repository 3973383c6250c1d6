"""`mmcse parse`: the events of videos."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmcse.commands.shared import Subcommands, add_encoder_options, encoder_options

if TYPE_CHECKING:
    from mmcse.video.events import Parsing


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "parse",
        help="find the events of a video",
        description="Find what is heard and what is seen in videos, and when, with a trained network. Which features "
        "are extracted is told by the widths of the network. A video longer than the network's windows is parsed in "
        "windows that overlap; what they say of a segment is averaged.",
        epilog="example: mmcse parse party.mp4 --checkpoint RUN/checkpoints/best.ckpt --html party.html. With several "
        "videos, the FILE of an option is a folder that gets one file for each. Exit status 1 where a video failed.",
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="a video, or a folder of videos")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a run's checkpoint, or a folder written by `mmcse import`"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="events, and probabilities of all segments")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="events, one a row")
    parser.add_argument("--html", type=Path, metavar="FILE", help="page that plays the video with its events")
    parser.add_argument("--embed", action="store_true", help="with --html: put the video into the page (up to 50 MB)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="timeline as a picture: .svg, .png or .pdf")
    parser.add_argument("--threshold", type=float, help="least probability of an event (default: the checkpoint's)")
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="share of a window that the next one covers again (default: 0.5)"
    )
    parser.add_argument(
        "--features",
        choices=("clip_clap", "vggish_resnet"),
        help="features the network was trained on (default: those with the widths of the network)",
    )
    add_encoder_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import sys

    from mmcse.errors import UserError
    from mmcse.video.events import timeline_text
    from mmcse.video.extract import find_videos
    from mmcse.video.parse import FileParser

    videos = find_videos(arguments.videos)
    places = _places(arguments, videos)
    _check(arguments, videos)
    parser = FileParser(
        arguments.checkpoint,
        features=arguments.features,
        threshold=arguments.threshold,
        overlap=arguments.overlap,
        **encoder_options(arguments),
    )
    failures = 0
    for video in videos:
        try:
            parsing = parser.parse(video, progress=True)
        except UserError as error:
            if len(videos) == 1:
                raise
            failures += 1
            print(f"mmcse: {error}", file=sys.stderr)
            continue
        print(timeline_text(parsing))
        for option, file in places[video].items():
            _write(option, file, parsing, arguments.embed)
            print(f"{option}: {file}")
    return 1 if failures else 0


def _check(arguments: argparse.Namespace, videos: list[Path]) -> None:
    """Find out before the long work what would fail after it."""
    from mmcse.errors import UserError
    from mmcse.video.page import require_embeddable

    if arguments.embed and not arguments.html:
        raise UserError("--embed puts the video into a page: give --html too.")
    if arguments.embed:
        for video in videos:
            require_embeddable(video)
    if arguments.figure:
        from mmcse.figures.style import FORMATS

        if len(videos) == 1 and arguments.figure.suffix[1:] not in FORMATS:
            raise UserError(f"{arguments.figure}: figures are written as {', '.join(FORMATS)}.")


def _places(arguments: argparse.Namespace, videos: list[Path]) -> dict[Path, dict[str, Path]]:
    """The file that each option writes for each video."""
    from mmcse.errors import UserError

    options = {name: place for name in _ENDINGS if (place := getattr(arguments, name))}
    if len(videos) == 1:
        return {videos[0]: options}
    stems = [video.stem for video in videos]
    if options and (repeated := [stem for stem in stems if stems.count(stem) > 1]):
        raise UserError(f"Several videos are called {repeated[0]!r}: their files would overwrite each other.")
    if taken := [folder for folder in options.values() if folder.is_file()]:
        raise UserError(f"{taken[0]} is a file. With {len(stems)} videos, expected a folder for a file of each.")
    return {
        video: {name: folder / f"{video.stem}{_ENDINGS[name]}" for name, folder in options.items()} for video in videos
    }


_ENDINGS = {"json": ".json", "csv": ".csv", "html": ".html", "figure": ".png"}


def _write(option: str, file: Path, parsing: "Parsing", embed: bool) -> None:
    from mmcse.video import events

    match option:
        case "json":
            events.write_events_json(file, parsing)
        case "csv":
            events.write_events_csv(file, parsing)
        case "html":
            from mmcse.video.page import write_events_page

            write_events_page(file, parsing, embed=embed)
        case "figure":
            from mmcse.figures.style import save_figure
            from mmcse.figures.timeline import timeline

            decided = {parsing.parser["network"]: parsing.present}
            save_figure(timeline(decided, None, parsing.classes, kind=parsing.kind, title=parsing.video.name), file)
