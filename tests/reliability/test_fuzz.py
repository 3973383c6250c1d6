"""Readers of files that may come from anywhere: whatever is in one, it is read or refused in one paragraph.

Files are good ones with bytes changed, cut out, doubled or cut off, and JSON with any value in any place.
"""

import copy
import json
import os
import resource
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from readers import is_json, readers

from mmcse.configuration import check_calls, compose_config
from mmcse.errors import UserError

NAMES = (
    "weak labels", "dense labels", "array", "mapped array", "manifest", "bank's ids", "record of a run", "results",
    "predictions", "texts", "segment labels", "segment labels' description", "checkpoint", "card of a checkpoint",
    "resumed checkpoint", "authors' checkpoint", "network's config", "network's weights",
)  # fmt: skip
MEMORY = 2 << 30
"""Bytes of address space that reading a file of some kilobytes may take beyond what the process has."""

EXAMPLES = int(os.environ.get("MMCSE_FUZZ_EXAMPLES", 15))

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=30_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from([10**12, -1, 10**400, 1e308]) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=9), values, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory):
    found = readers(tmp_path_factory.mktemp("readers"))
    assert tuple(found) == NAMES
    return found


@pytest.fixture
def bounded_memory():
    """A process that may not take much more memory than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_good(all_readers, name):
    assert all_readers[name].survives(all_readers[name].example)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "card of a checkpoint"])  # which is no file
def test_changed_bytes_are_read_or_refused(all_readers, bounded_memory, evidence, name):
    reader, tried = all_readers[name], Counter()

    @fuzzed
    @given(st.data())
    def fuzz(data):
        tried[reader.survives(data.draw(changed_bytes(reader.example)))] += 1

    fuzz()
    assert tried[False]
    evidence(inputs=tried.total(), refused=tried[False])


@pytest.mark.parametrize(
    "name",
    [
        "manifest",
        "record of a run",
        "segment labels' description",
        "network's config",
        "results",
        "card of a checkpoint",
    ],
)
def test_json_of_any_shape_is_read_or_refused(all_readers, bounded_memory, evidence, name):
    reader, tried = all_readers[name], Counter()
    assert is_json(reader.example)

    @fuzzed
    @given(st.data())
    def fuzz(data):
        tried[reader.survives(data.draw(changed_json(reader.example)))] += 1

    fuzz()
    assert tried[False]
    evidence(inputs=tried.total(), refused=tried[False])


def test_overrides_of_any_kind_are_composed_or_refused(bounded_memory, evidence):
    keys = [f"{group}.{key}" for group, node in compose_config("train", ["data=bank", "data.bank=x"]).items()
            if isinstance(node, DictConfig) for key in node]  # fmt: skip
    word = st.sampled_from([*keys, "seed", "model", "experiment", "data", "hydra.run.dir", "packages", "run"])
    value = st.text(max_size=12) | st.sampled_from(
        [
            "${seed}",
            "${oc.env:NONE}",
            "${nothing}",
            "[1,",
            "{a:{_target_:os.system}}",
            "???",
            "null",
            "9" * 5000,
            "../x",
            "@",
        ]
    )
    override = st.builds(
        "{}{}{}{}".format, st.sampled_from(["", "+", "++", "~"]), word, st.sampled_from(["=", "@=", ""]), value
    )
    tried = Counter()

    @fuzzed
    @given(st.lists(override | st.text(max_size=20), min_size=1, max_size=2))
    def fuzz(overrides):
        with suppress(UserError):
            check_calls(compose_config("train", overrides))
            tried["composed"] += 1
        tried["all"] += 1

    fuzz()
    assert tried["all"] > tried["composed"]
    evidence(inputs=tried["all"], refused=tried["all"] - tried["composed"])


@st.composite
def changed_bytes(draw, example):
    """A good file with a few changes, often near the start, where headers are."""
    data = bytearray(example)
    for _ in range(draw(st.integers(1, 4))):
        limit = draw(st.sampled_from([200, len(data)]))
        start = draw(st.integers(0, min(limit, len(data))))
        stop = min(len(data), start + draw(st.integers(0, 30)))
        match draw(st.sampled_from(["replace", "replace", "insert", "double", "delete", "cut"])):
            case "replace":
                data[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
            case "insert":
                data[start:start] = draw(
                    st.binary(max_size=30) | st.sampled_from([b"9" * 12, b"\n", b"\t", b"\xff" * 8])
                )
            case "double":
                data[start:start] = data[start:stop]
            case "delete":
                del data[start:stop]
            case "cut":
                del data[start:]
    return bytes(data)


@st.composite
def changed_json(draw, example):
    """A JSON document with any value in one or two places."""
    document = json.loads(example)
    for _ in range(draw(st.integers(1, 2))):
        node = document
        while True:
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            child = node[key]
            if not isinstance(child, dict | list) or not child or draw(st.integers(0, 3)) == 0:
                break
            node = child
        if draw(st.booleans()):
            node[key] = draw(ANYTHING)
        elif isinstance(node, dict) and len(node) > 1:
            del node[key]
    return json.dumps(copy.deepcopy(document)).encode("utf-8", "surrogatepass")
