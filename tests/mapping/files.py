"""The mapping files of one net, for tests to damage."""

import json
from functools import cache
from hashlib import sha256
from typing import Any

import pytest

from tests.mapping.nets import chip_of, mapped, mnist
from ttfsc.backends import noc
from ttfsc.backends.noc.document import core_hash, head_hash
from ttfsc.ir import TtfsError, codes

Table = dict[str, Any]
Files = dict[str, bytes]


@cache
def good() -> Files:
    """An MNIST-size net on 20 cores."""
    chip = chip_of(1024)
    return noc.emit(mapped(mnist(), chip), chip)


def document() -> Table:
    return json.loads(good()[noc.MAPPING])


def resealed(table: Table, binary: bytes) -> Files:
    """Files with every hash recomputed: what somebody would write who wants to be believed."""
    for core in table["cores"]:
        core["sha256"] = core_hash(core, binary[core["offset"] : core["offset"] + core["bytes"]])
    table["sha256"] = {"head": head_hash(table), "cores.bin": sha256(binary).hexdigest()}
    return {noc.MAPPING: json.dumps(table).encode(), noc.BINARY: binary}


def faults_of(files: Files) -> list[str]:
    with pytest.raises(TtfsError) as e:
        noc.load(files)
    assert {f.code for f in e.value.faults} <= {codes.DAMAGED, codes.MAPPING, codes.FILE}
    return [str(f) for f in e.value.faults]
