"""`mmcse segment-labels`: weak labels of training videos to LSLD's labels of their segments."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmcse.commands.shared import Subcommands, add_encoder_options, encoder_options

if TYPE_CHECKING:
    from mmcse.video.texts import TextEmbeddings


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "segment-labels",
        help="make LSLD's soft labels of training segments",
        description="Label the segments of a bank's training videos as LSLD does: each chooses the combination of its "
        "video's events whose prompt it is most like, by CLAP for what is heard and by CLIP for what is seen; then "
        "visual labels that the other segments of the training set make doubtful become soft. Training takes the "
        "folder as data.segment_labels=DIR, with this bank or another one of the same videos.",
        epilog="Where the weights of CLAP and CLIP are elsewhere, embed the texts there, and bring the file: "
        "mmcse segment-labels --annotations LLP/annotations --texts texts.npz; then here: "
        "mmcse segment-labels data/llp-clip-clap --texts texts.npz --out data/lsld-labels",
    )
    parser.add_argument(
        "bank", type=Path, nargs="?", metavar="BANK", help="bank of CLAP and CLIP features, or with --embeddings any"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the labels")
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="embeddings of texts, an .npz file: read where it exists, else made and kept there",
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="DIR",
        help="in place of a bank, a folder with AVVP_train.csv: only the texts are embedded",
    )
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="with --annotations: yaml file of classes (default: those of LLP)"
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="DIR",
        help="what `mmcse pseudo-label` keeps of the videos, each second by itself (default: the features of the bank)",
    )
    parser.add_argument(
        "--phrases",
        type=Path,
        metavar="FILE",
        help="yaml file of the classes and how prompts name them, classes: {Dog: a barking dog, ...} (default: LSLD's "
        "phrases for the classes of LLP, other classes by their names)",
    )
    parser.add_argument(
        "--event-ratio",
        type=float,
        default=4.0,
        metavar="R",
        help="a doubtful visual label becomes R times the cosine (default: 4)",
    )
    parser.add_argument(
        "--noise-ratio", type=float, default=0.4, metavar="R", help="the same where there was no label (default: 0.4)"
    )
    parser.add_argument("--hard", action="store_true", help="leave visual labels as the prompts choose them, 0 or 1")
    add_encoder_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    return _label(arguments) if arguments.bank else _embed(arguments)


def _check(arguments: argparse.Namespace) -> None:
    """Check that the options belong together."""
    from mmcse.errors import UserError

    if (arguments.bank is None) == (arguments.annotations is None):
        raise UserError("Name either a bank, to label its training videos, or --annotations, to embed texts only.")
    if arguments.bank and not arguments.out:
        raise UserError("The labels need a folder: --out DIR.")
    if arguments.bank and arguments.classes:
        raise UserError("A bank has classes of its own: --classes goes with --annotations.")
    if arguments.annotations and not arguments.texts:
        raise UserError("The embeddings of texts need a file: --texts FILE.")
    if arguments.annotations and (arguments.out or arguments.embeddings):
        raise UserError(
            "With --annotations texts are embedded and nothing is labelled: --out and --embeddings need a bank."
        )


def _label(arguments: argparse.Namespace) -> int:
    """Label the training videos of a bank."""
    from mmcse.data import FeatureBank
    from mmcse.data.segment_labels import require_own, write_segment_labels
    from mmcse.video.language_labels import check_ratios, find_phrases, label_segments, require_embeddings

    require_own(arguments.out)  # before long work
    check_ratios(arguments.event_ratio, arguments.noise_ratio)
    bank = FeatureBank.open(arguments.bank)
    videos = bank.split("train")
    if arguments.embeddings:
        require_embeddings(arguments.embeddings, videos.ids)
    phrases = find_phrases(bank.classes, arguments.phrases)
    weak = videos.arrays["weak"]
    labels = label_segments(
        bank,
        _texts(arguments, weak, phrases, bank.classes),
        phrases,
        embeddings=arguments.embeddings,
        soft=not arguments.hard,
        event_ratio=arguments.event_ratio,
        noise_ratio=arguments.noise_ratio,
    )
    write_segment_labels(
        arguments.out, labels.audio, labels.visual, ids=videos.ids, classes=bank.classes, made=labels.made
    )
    head, *details = labels.lines(weak)
    print(f"{arguments.out}: " + ("" if bank.kind == "real" else f"{bank.kind.upper()}, ") + head)
    print("\n".join(f"  {line}" for line in details))
    print(
        f"train on it: mmcse train model=lsld data=bank data.bank={arguments.bank} data.segment_labels={arguments.out}"
    )
    return 0


def _embed(arguments: argparse.Namespace) -> int:
    """Embed the texts that the labels of a training list ask for."""
    from mmcse.data import read_annotations
    from mmcse.video.language_labels import find_phrases
    from mmcse.vocabulary import LLP_CLASSES, read_vocabulary

    classes = tuple(read_vocabulary(arguments.classes)) if arguments.classes else LLP_CLASSES
    weak = read_annotations(arguments.annotations, "train", classes=classes).weak
    texts = _texts(arguments, weak, find_phrases(classes, arguments.phrases), classes)
    print(f"{arguments.texts}: {len(texts.audio.texts):,} texts by CLAP, {len(texts.visual.texts):,} by CLIP")
    print(f"label with it: mmcse segment-labels BANK --texts {arguments.texts} --out DIR")
    return 0


def _texts(arguments: argparse.Namespace, weak, phrases, classes) -> "TextEmbeddings":
    """The embeddings of texts: from the file, or made, and kept where a file is named."""
    import torch

    from mmcse.objectives.lsld import required_texts
    from mmcse.video.labelling import SegmentEmbedder
    from mmcse.video.texts import TextEmbeddings

    required = required_texts(torch.from_numpy(weak > 0), phrases, classes)
    if arguments.texts and arguments.texts.exists():
        texts = TextEmbeddings.read(arguments.texts)
        texts.require(*required, arguments.texts)
        return texts
    texts = TextEmbeddings.encode(SegmentEmbedder(**encoder_options(arguments)), *required)
    if arguments.texts:
        texts.write(arguments.texts)
    return texts
