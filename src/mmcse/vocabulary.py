"""The classes of events and their order: the only place where a class name of LLP is spelled.

Everything else takes the vocabulary as a tuple of names, so a data set with other classes needs other names and
nothing more.
"""

from collections.abc import Iterable, Sequence

from mmcse.errors import UserError

LLP_CLASSES: tuple[str, ...] = (
    "Speech",
    "Car",
    "Cheering",
    "Dog",
    "Cat",
    "Frying_(food)",
    "Basketball_bounce",
    "Fire_alarm",
    "Chainsaw",
    "Cello",
    "Banjo",
    "Singing",
    "Chicken_rooster",
    "Violin_fiddle",
    "Vacuum_cleaner",
    "Baby_laughter",
    "Accordion",
    "Lawn_mower",
    "Motorcycle",
    "Helicopter",
    "Acoustic_guitar",
    "Telephone_bell_ringing",
    "Baby_cry_infant_cry",
    "Blender",
    "Clapping",
)
"""The 25 event classes of LLP in the order that every label file, checkpoint and table uses."""


def near_miss(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the known word closest to `word`, or an empty string."""
    from difflib import get_close_matches

    lower = {k.lower(): k for k in known}
    found = get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean {lower[found[0]]!r}?" if found else ""


def class_index(name: str, classes: Sequence[str], where: str) -> int:
    """Position of a class name in a vocabulary.

    Args:
        name: class name as spelled in the file.
        classes: the vocabulary, in order.
        where: where the name was read, for the error message.

    Raises:
        UserError: the vocabulary does not hold the name.
    """
    try:
        return classes.index(name)
    except ValueError:
        raise UserError(
            f"{where}: unknown class {name!r}.{near_miss(name, classes)} "
            f"The vocabulary has {len(classes)} classes: {', '.join(classes)}."
        ) from None
