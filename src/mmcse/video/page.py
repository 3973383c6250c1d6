"""The events of a video as a page that plays it."""

import base64
import math
import mimetypes
import os
from pathlib import Path
from urllib.parse import quote

from mmcse.data.npy import size_text
from mmcse.errors import UserError
from mmcse.files import atomic_write
from mmcse.pages import render_page
from mmcse.video.events import NOTES, VERBS, Event, Parsing

EMBED_LIMIT = 50 * 2**20
"""Bytes of a video that is embedded, at most: browsers are slow with larger pages."""

Track = tuple[str, dict[str, list[Event]]]
"""What is told of the events, and those of each class."""


def write_events_page(file: str | os.PathLike[str], parsing: Parsing, *, embed: bool = False) -> None:
    """Write a page with the video and two tracks of events, completely or not at all.

    Args:
        file: the .html file. It refers to the video by its place relative to the page, so that both can be moved
            together.
        parsing: what to show.
        embed: put the video into the page instead, so that the page is all there is to pass on.

    Raises:
        UserError: the video is too large to be embedded, jinja2 is missing, or the disk is full.
    """
    tracks: list[Track] = [("Heard", _by_class(parsing, "audio")), ("Seen", _by_class(parsing, "visual"))]
    page = render_page(
        "parse.html",
        parsing=parsing,
        kind=parsing.kind,
        note=NOTES.get(parsing.kind),
        tracks=tracks,
        verbs=VERBS,
        ticks=_ticks(parsing.duration),
        embedded=embed,
        source=_embedded(parsing.video) if embed else _relative(parsing.video, Path(file)),
    )
    with atomic_write(file) as handle:
        handle.write(page.encode())


def _ticks(duration: float) -> range:
    """Seconds to write along the tracks, about eight; more along those that are wider than a page."""
    step = next((step for step in (1, 2, 5, 10) if step >= duration / 8), 30)
    return range(0, math.ceil(duration), step)


def _by_class(parsing: Parsing, modality: str) -> dict[str, list[Event]]:
    """The events of a modality, by class in the order of the vocabulary."""
    events = [event for event in parsing.events if event.modality == modality]
    found = {name: [event for event in events if event.label == name] for name in parsing.classes}
    return {name: spans for name, spans in found.items() if spans}


def _relative(video: Path, page: Path) -> str:
    """Address of the video as seen from the page; every character that could mean something in it is escaped."""
    try:
        return quote(Path(os.path.relpath(video.resolve(), page.resolve().parent)).as_posix())
    except ValueError:  # on another drive
        return video.resolve().as_uri()


def require_embeddable(video: Path) -> None:
    """Check that a video is small enough to be put into a page.

    Raises:
        UserError: it is not.
    """
    size = video.stat().st_size
    if size > EMBED_LIMIT:
        raise UserError(
            f"{video} has {size_text(size)}, and more than {size_text(EMBED_LIMIT)} are not embedded: browsers are "
            "slow with such pages. Leave the video beside its page, without --embed."
        )


def _embedded(video: Path) -> str:
    require_embeddable(video)
    kind = mimetypes.guess_type(video.name)[0] or "video/mp4"
    return f"data:{kind};base64,{base64.b64encode(video.read_bytes()).decode()}"
