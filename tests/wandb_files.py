"""What an offline run of W&B has written, read back from its transaction log (LevelDB's log format)."""

import json
import struct
from types import SimpleNamespace

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
FULL, LAST = 1, 4


def records(file):
    """The protocol buffers of a log, in order."""
    from wandb.proto import wandb_internal_pb2

    raw = file.read_bytes()
    assert raw[:4] == b":W&B"
    place, parts = FILE_HEADER, []
    while place < len(raw):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, place)
        parts.append(raw[place + HEADER : place + HEADER + length])
        place += HEADER + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def read_run(file):
    """A log as a person would tell it: run, config, history, summary, metrics, artifacts, exit_code."""
    told = SimpleNamespace(run=None, config={}, history=[], summary={}, metrics={}, artifacts={}, exit_code=None)
    for record in records(file):
        match record.WhichOneof("record_type"):
            case "run":
                told.run = record.run
                told.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                told.history.append(_items(record.history.item))
            case "summary":
                told.summary |= _items(record.summary.update)
            case "metric":
                told.metrics[record.metric.glob_name or record.metric.name] = record.metric
            case "artifact":
                told.artifacts[record.artifact.type, record.artifact.name] = record.artifact
            case "exit":
                told.exit_code = record.exit.exit_code
    return told


def _items(items):
    """Values by name; the name of a value within a value is joined with dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
