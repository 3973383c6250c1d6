"""Decoding ahead in threads, while something else works on what is decoded."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmcse.video.decode import Clip


def decoded_ahead(
    videos: Mapping[str, Path], decode: Callable[[Path], Iterable[Clip]], *, workers: int, ahead: int
) -> Generator[tuple[str, Clip | Exception | None], None, None]:
    """Windows of videos as they get decoded, those of several videos mixed.

    Args:
        videos: files by name.
        decode: gives the windows of a file.
        workers: threads, each with a video of its own.
        ahead: windows that may wait for their consumer; no more are in memory but those the threads are at.

    Yields:
        Name of a video with its next window, or in the end with None, or with the exception that ended it.
    """
    waiting = iter(videos.items())
    items: queue.Queue[tuple[str, Any]] = queue.Queue(max(ahead, 1))
    lock, stop = threading.Lock(), threading.Event()

    def put(name: str, item: Any) -> bool:
        while not stop.is_set():
            try:
                items.put((name, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        while not stop.is_set():
            with lock:
                name, path = next(waiting, (None, None))
            if name is None or path is None:
                return
            try:
                if not all(put(name, clip) for clip in decode(path)):
                    return
                put(name, None)
            except Exception as error:  # one file's fault, whatever it is, must not stop the others
                put(name, error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(workers, len(videos))))]
    for thread in threads:
        thread.start()
    try:
        open_videos = len(videos)
        while open_videos:
            name, item = items.get()
            open_videos -= not isinstance(item, Clip)
            yield name, item
    finally:
        stop.set()
        for thread in threads:
            thread.join()
