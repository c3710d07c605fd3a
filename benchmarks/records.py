"""What the scripts' records have in common, and where they go: results/<suite>-<time>.json."""

import time
from pathlib import Path
from typing import Any

from kd2mobile.files import write_json
from kd2mobile.recipe.schema import Data
from kd2mobile.store.artifact import made_with

RESULTS = Path(__file__).parent / "results"


def write_record(suite: str, command: str, **fields: Any) -> None:
    """Writes a record of the suite and says where: {suite, command, finished, made_with, groups, what was found}.

    groups: whether near duplicates stay in one split where a recipe does not say (no suite's does): what was measured
    on drawn splits before there were groups has no such field, and TABLE.md marks it.

    command: that makes the record again, with $NAMES for places.
    """
    now = time.gmtime()
    head = {"suite": suite, "command": command, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", now)}
    out = RESULTS / f"{suite}-{time.strftime('%Y%m%d-%H%M', now)}.json"
    write_json(out, head | {"made_with": made_with(), "groups": Data().groups} | fields)
    print(f"Written: {out}. Next: python benchmarks/table.py")
