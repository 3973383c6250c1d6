"""The classes of events and their order: the only place where a class name of LLP is spelled.

Everything else takes the vocabulary as a tuple of names, so a data set with other classes needs other names and
nothing more.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcse.errors import MissingFileError, UserError

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

LSLD_PHRASES: tuple[str, ...] = (
    "Speeching",
    "Car",
    "Cheering",
    "Dog",
    "Cat",
    "Frying food",
    "playing basketball",
    "Fire alarm ringing",
    "Chainsaw",
    "playing the Cello",
    "playing the Banjo",
    "Singing",
    "Chicken",
    "playing the Violin",
    "Vacuum cleaner",
    "Baby laughter",
    "playing the Accordion",
    "Lawn-mower",
    "Motorcycle",
    "Helicopter",
    "playing the guitar",
    "Telephone bell ringing",
    "Baby cry",
    "Blender",
    "Clapping",
)
"""The classes of LLP as the prompts of LSLD (Fan et al., NeurIPS 2023) word them, in the same order."""

LEAP_WORDINGS: Mapping[str, str] = {
    "Frying_(food)": "Fry food",
    "Baby_cry_infant_cry": "Baby cry infancy cry",
}
"""The classes of LLP that LEAP (Zhou et al., ECCV 2024) embeds by other words than those of their names, as far as
is known."""


def read_vocabulary(path: Path | str) -> dict[str, Any]:
    """Read the classes of a yaml file: what stands under `classes`, a list of names or a mapping from names.

    Args:
        path: the file; a recipe of pseudo labels is one.

    Returns:
        The K names in order, with what the file says of each; None for the names of a list.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no yaml file, or holds no classes, or a name that label files could not hold.
    """
    from omegaconf import OmegaConf  # unlike PyYAML's own loader, it refuses a name that stands there twice
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = Path(path)
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (FileNotFoundError, IsADirectoryError):
        raise MissingFileError(f"There is no file {path}. Expected a yaml file with classes.") from None
    except (YAMLError, UnicodeDecodeError, OSError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not a yaml file with classes: {' '.join(str(error).split())}.") from None
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, (dict, list)) or not classes:
        raise UserError(f"{path} has no classes. Expected `classes:` with a list of names, or names with prompts.")
    for name in classes:
        if not isinstance(name, str) or name != name.strip() or not name or set(name) & set(",\t\r\n"):
            raise UserError(
                f"{path}: {name!r} cannot be the name of a class. Expected text without commas and tabs, in quotes "
                'where yaml takes it for something else ("1", "yes").'
            )
    if repeated := [name for i, name in enumerate(classes) if name in list(classes)[:i]]:
        raise UserError(f"{path}: the class {repeated[0]!r} stands there twice. Remove one.")
    return classes if isinstance(classes, dict) else dict.fromkeys(classes)


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


def display_name(name: str) -> str:
    """A class's name as people write it: `Frying_(food)` becomes `Frying (food)`."""
    return name.replace("_", " ")
