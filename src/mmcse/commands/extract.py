"""`mmcse extract`: videos to feature files."""

import argparse
from pathlib import Path

from mmcse.commands.shared import Subcommands, add_encoder_options, encoder_options


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "extract",
        help="extract features from videos",
        description="Extract features from videos into a folder that `mmcse data prepare` packs, one .npy file per "
        "video and stream. A video is cut into windows of 10 seconds; one that is longer has an entry <id>_<start> "
        "for each. Videos that are complete are left out, so the same command goes on after an interruption; one that "
        "cannot be decoded is reported and does not stop the others (exit status 1).",
        epilog="The first use downloads the weights: CLIP 1.7 GB, CLAP 1.9 GB, R(2+1)D-18 126 MB, ResNet-152 242 MB, "
        "VGGish 289 MB. With --weights they come from a folder instead: clip-vit-large-patch14/, clap-htsat-fused/ "
        "with 630k-fusion-best.pt in it or beside it, r2plus1d_18-91a641e6.pth, resnet152-b121ed2d.pth, "
        "vggish-10086976.pth. Example: mmcse extract videos/ --features clip_clap --out features",
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="a video, or a folder of videos")
    parser.add_argument(
        "--features",
        choices=("clip_clap", "vggish_resnet"),
        required=True,
        help="clip_clap: CLAP, CLIP, R(2+1)D (layout valor); vggish_resnet: VGGish, ResNet-152, R(2+1)D (layout llp)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of features")
    parser.add_argument("--window", type=int, default=10, help="seconds of a window, its segments (default: 10)")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode (default: 2)")
    add_encoder_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from mmcse.video.extract import extract_features, find_videos
    from mmcse.video.extractor import FeatureExtractor

    find_videos(arguments.videos)  # a mistyped name is said before gigabytes are loaded
    extractor = FeatureExtractor(arguments.features, window=arguments.window, **encoder_options(arguments))
    report = extract_features(arguments.videos, arguments.out, extractor, workers=arguments.workers)
    print("\n".join(report.lines()))
    print(f"report: {report.file}")
    print(f"next: mmcse data prepare {arguments.out} --layout {extractor.layout.name} --annotations DIR --out BANK")
    return 0 if report.ok else 1
