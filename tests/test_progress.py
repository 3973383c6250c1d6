"""Progress: whole lines in a log, a bar in a terminal, nothing for what is quick."""

import io
import re
import sys
import time

import pytest

from mmcse import progress
from mmcse.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.02)


def test_a_log_gets_whole_lines_with_the_time_left(often, capsys):
    started = time.monotonic()
    with progress_bar(total=40, description="packing", unit="videos", initial=10) as bar:
        for _ in range(30):
            time.sleep(0.005)
            bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= (time.monotonic() - started) / progress.EVERY
    found = [re.fullmatch(r"packing: (\d+)/40 videos, \d\d:\d\d left", line) for line in lines]
    assert all(found)
    counts = [int(match[1]) for match in found]
    assert counts == sorted(set(counts))
    assert counts[0] > 10


def test_a_log_gets_nothing_of_what_is_quick(capsys):
    assert list(progress_bar(iter("abc"), total=3, description="reading", unit="files")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in progress_bar(range(3), total=3, description="reading", unit="files"):
        pass
    assert "reading: 100%" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_nobody_gets_anything_where_it_is_off(stream, often, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream())
    with progress_bar(total=5, description="reading", unit="files", enabled=False) as bar:
        for _ in range(5):
            time.sleep(0.01)
            bar.update(1)
    assert sys.stderr.getvalue() == ""
