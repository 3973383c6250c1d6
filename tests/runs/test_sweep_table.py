"""A sweep's table: what it shows of a journal, in a terminal while the sweep runs, and from elsewhere."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import time

import pytest
from filelock import FileLock

import tiny
from mmcse import cli
from mmcse.errors import MissingFileError, UserError
from mmcse.runs.record import read_record
from mmcse.runs.sweep_table import clock, read_sweep, sweep_state, sweep_table

ROWS, COLUMNS = 30, 70


def journal(folder, jobs, entries=(), name="mine"):
    """A folder of a sweep with some entries: state, seconds (since the start, or that it took), value."""
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"name": name, "jobs": jobs, "live": False}))
    for number, (state, seconds, value) in enumerate(entries):
        entry = {"name": name, "overrides": jobs[number], "state": state, "started": time.time() - seconds}
        entry |= {"seconds": seconds, "value": value} if state != "running" else {}
        entry |= {"error": "it broke"} if state == "failed" else {}
        (folder / f"{number}.json").write_text(json.dumps(entry))
    return folder


JOBS = [[f"experiment=table3/{row}", f"data.bank.world={world}", f"seed={seed}"]
        for row in ("full", "no_secm") for world in (0, 1) for seed in (0, 1)]  # fmt: skip
ENTRIES = (("done", 100, 61.5), ("failed", 5, None), ("done", 140, 62.25), ("running", 61, None))


def test_rows_are_experiments_and_columns_are_seeds_and_worlds(tmp_path):
    sweep = read_sweep(journal(tmp_path, JOBS, ENTRIES))
    lines = [line.split() for line in sweep_table(sweep, alive=True)]
    assert lines == [
        ["seed", "0", "1", "0", "1"],
        ["world", "0", "0", "1", "1"],
        ["table3/full", "61.50", "failed", "62.25", ">1:01"],
        ["table3/no_secm", ".", ".", ".", "."],
    ]
    assert len({len(line) for line in sweep_table(sweep, alive=True)}) == 1
    assert sweep_table(sweep)[2].split()[-1] == "stopped"


def test_other_overrides_make_rows_behind_the_experiment(tmp_path):
    jobs = [[f"model.num_layers={n}", f"seed={s}", "experiment=table3/full"] for n in (1, 4) for s in (0, 1)]
    lines = [line.split("  ")[1] for line in sweep_table(read_sweep(journal(tmp_path, jobs)))]
    assert lines[1:] == ["table3/full num_layers=1", "table3/full num_layers=4"]
    _, row = sweep_table(read_sweep(journal(tmp_path, [["seed=0"], ["seed=1"]])))
    assert row.split() == ["mine", ".", "."]
    [row] = sweep_table(read_sweep(journal(tmp_path, [["experiment=a"]])))
    assert row.split() == ["a", "."]


def test_the_time_left_comes_from_what_is_done(tmp_path, monkeypatch):
    def state(name, entries, alive=True):
        return sweep_state(read_sweep(journal(tmp_path / name, JOBS, entries)), alive=alive)

    monkeypatch.setattr("time.time", lambda: 1e9)
    assert state("one", ENTRIES, alive=False) == "2 of 8 done, 1 stopped, 1 failed"
    one_at_a_time = (120 - 61) + 4 * 120
    assert state("one", ENTRIES) == f"2 of 8 done, 1 running, 1 failed; about {clock(one_at_a_time)} left"
    two_at_a_time = ((120 - 50) + (120 - 30) + 3 * 120) / 2
    running = (("running", 50, None), ("running", 30, None))
    assert state("two", (*ENTRIES[:3], *running)).endswith(f"2 running, 1 failed; about {clock(two_at_a_time)} left")
    known = (("done", 0.3, 60.0), *ENTRIES[:1], ("running", 200, None))  # the first had finished in an earlier sweep
    assert state("known", known) == f"2 of 8 done, 1 running; about {clock(5 * 100)} left"
    assert state("first", ENTRIES[3:]) == "0 of 8 done, 1 running"


@pytest.mark.parametrize(("seconds", "shown"), [(0.2, "0:00"), (61, "1:01"), (3599.7, "1:00:00"), (36610, "10:10:10")])
def test_durations_are_written_as_on_a_clock(seconds, shown):
    assert clock(seconds) == shown


def test_what_is_no_sweep_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"there is no sweep\.json"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"jobs": 4, "varying": []}')
    with pytest.raises(UserError, match="an earlier version"):
        read_sweep(tmp_path)


class TestStatus:
    def test_shows_the_latest_sweep_and_whether_it_runs(self, tmp_path, capsys):
        journal(tmp_path / "first", JOBS)
        os.utime(tmp_path / "first" / "sweep.json", (0, 0))
        folder = journal(tmp_path / "second", JOBS, ENTRIES)
        with FileLock(folder / ".lock", thread_local=False):
            assert self.elsewhere(tmp_path, capsys) == 1
            shown = capsys.readouterr().out
        assert shown.splitlines()[0] == str(folder)
        assert ">1:0" in shown
        assert "1 running" in shown
        assert cli.main(["status", str(folder)]) == 1
        shown = capsys.readouterr().out
        assert "stopped" in shown
        assert "running" not in shown

    def elsewhere(self, folder, capsys):
        """The command in another thread: a lock knows its own."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(cli.main, ["status", str(folder)]).result()

    def test_is_a_success_where_nothing_has_failed(self, tmp_path, capsys):
        journal(tmp_path, JOBS[:1], ENTRIES[:1])
        assert cli.main(["status", str(tmp_path)]) == 0
        assert "1 of 1 done" in capsys.readouterr().out

    def test_of_nothing_says_so(self, tmp_path, capsys):
        assert cli.main(["status", str(tmp_path)]) == 2
        assert "There is no sweep at or below" in capsys.readouterr().err


class Screen:
    """A terminal of a given size with a program in it."""

    def __init__(self, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["OMP_NUM_THREADS"] = "1"
            os.execv(sys.executable, (sys.executable, "-m", "mmcse", *words))
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.written = ""

    def read_until(self, found=lambda written: False):
        """Read what the program writes until something is found in it, or it ends."""
        while not found(self.written):
            try:
                self.written += os.read(self.fd, 4096).decode()
            except OSError:  # how a terminal ends
                break
        return self.written

    def status(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self):
        """What stands on the screen, with each table drawn over the one before."""
        lines = [""]
        for part in re.split(r"(\x1b\[\d+F\x1b\[J)", self.written.replace("\r\n", "\n")):
            if back := re.match(r"\x1b\[(\d+)F", part):
                del lines[-int(back[1]) - 1 :]
                lines.append("")
            else:
                first, *others = part.split("\n")
                lines[-1] += first
                lines += others
        return lines


def words(bank, root, *overrides):
    settings = (*tiny.data(bank), *tiny.NETWORK, *tiny.TRAINING, "run.progress=auto", "threads=1", f"run.root={root}")
    return "train", "-m", *settings, *overrides


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_in_a_terminal_a_table_is_all_there_is_to_see(launcher, smoke_bank, tmp_path):
    screen = Screen(*words(smoke_bank, tmp_path, "seed=0,1", "model.num_heads=2,3", f"launcher={launcher}"))
    screen.read_until()
    assert screen.status() == 2
    assert "\x1b[" in screen.written
    text = "\n".join(screen.lines())
    assert "epoch 1/2" not in screen.written
    assert "SIMULATED" not in screen.written
    assert text.count("2 of 4 done, 2 failed") == 1
    assert all(len(line) < COLUMNS for line in text.partition("mmcse:")[0].splitlines())
    [folder] = {plan.parent for plan in tmp_path.rglob("sweep.json")}
    output = (folder / "0.log").read_text()
    assert "epoch 2/2" in output
    assert "SIMULATED" in output
    avgs = [read_record(file.parent)["scores"]["test"]["Avg"] for file in sorted(tmp_path.rglob("checkpoints"))]
    [row] = (line for line in text.splitlines() if line.startswith("  num_heads=2"))
    assert sorted(row.split()[1:]) == sorted(f"{avg:.2f}" for avg in avgs)


@pytest.mark.slow
def test_a_table_leaves_the_terminal_to_what_came_of_it(smoke_bank, tmp_path):
    screen = Screen(*words(smoke_bank, tmp_path, "seed=0,1"))
    screen.read_until()
    assert screen.status() == 0
    lines = [line for line in screen.lines() if line]
    assert [line.split()[0] for line in lines] == ["Avg", "seed", "mmcse"]


@pytest.mark.slow
def test_ctrl_c_leaves_the_table_as_it_was(smoke_bank, tmp_path):
    screen = Screen(*words(smoke_bank, tmp_path, "seed=0,1", "trainer.max_epochs=500"))
    screen.read_until(lambda written: ">0:0" in written)
    time.sleep(3)
    os.kill(screen.pid, signal.SIGINT)
    screen.read_until()
    assert screen.status() == 130
    text = "\n".join(screen.lines())
    assert "stopped" in text
    assert "0 of 2 done, 1 stopped" in text
    assert "mmcse: stopped. What was complete is kept" in text
    assert "Traceback" not in text
