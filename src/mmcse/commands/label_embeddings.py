"""`mmcse label-embeddings`: GloVe's word vectors to the embeddings of class names that LEAP reads."""

import argparse
from pathlib import Path

from mmcse.commands.shared import Subcommands


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "label-embeddings",
        help="make LEAP's embeddings of class names",
        description="Look up the names of the classes in GloVe's word vectors, and write a .npy file with an embedding "
        "for each, in the order of the classes and not normalised. LEAP's authors used GloVe 6B with 300 numbers: "
        "glove.6B.300d.txt, of glove.6B.zip at https://nlp.stanford.edu/projects/glove. A name of several words gets "
        "the mean of their vectors, which is our choice: how the authors combine them is not said. Of LLP's names "
        "two are worded as the authors have them: 'fry food' and 'baby cry infancy cry'. Training takes the file as "
        "model.label_embeddings=FILE.",
        epilog="example: mmcse label-embeddings glove.6B.300d.txt --out glove.npy; then: mmcse train "
        "experiment=table7/leap model.label_embeddings=glove.npy ...",
    )
    parser.add_argument("glove", type=Path, metavar="GLOVE.txt", help="word vectors in GloVe's text format")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npy", help="file of the embeddings")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="yaml file of the classes, classes: [Dog, ...], or with words to look up in place of a name, "
        "classes: {Doorbell: door bell, ...} (default: those of LLP)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from mmcse.data.glove import class_embeddings, words_of
    from mmcse.files import atomic_write
    from mmcse.vocabulary import LEAP_WORDINGS, LLP_CLASSES, read_vocabulary

    said = read_vocabulary(arguments.classes) if arguments.classes else {}
    wordings = {
        name: wording if isinstance(wording := said.get(name), str) else LEAP_WORDINGS.get(name, name)
        for name in said or LLP_CLASSES
    }
    table = class_embeddings(arguments.glove, wordings)
    with atomic_write(arguments.out) as file:
        np.save(file, table)
    norms = np.linalg.norm(table, axis=1)
    print(f"{arguments.out}: {table.shape[0]} classes, {table.shape[1]} numbers each")
    print(f"  norms from {norms.min():.1f} to {norms.max():.1f} (of the authors' table: 4.3 to 7.9)")
    means = [f"{name} ({' + '.join(words)})" for name, text in wordings.items() if len(words := words_of(text)) > 1]
    if means:
        print(f"  means of several words: {', '.join(means)}")
    print(f"train on it: mmcse train model=leap model.label_embeddings={arguments.out} ...")
    return 0
