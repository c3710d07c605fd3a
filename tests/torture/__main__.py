"""`make torture`: everything that may happen to the store and to the files that it reads, for as long as one likes.

`python -m tests.torture [--minutes N]` goes on where the last call stopped, and writes a record once all is tried;
`--small` is what `make test` runs: fewer trials of each kind, in less than three minutes, without a record.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.files import read_json, write_json
from tests.torture import mutations, store

ROOT = Path(__file__).parents[2]
STATE = ROOT / "build" / "torture.json"
MUTATIONS, SMALL_MUTATIONS = 10_000, 60
TOGETHER, SMALL_TOGETHER = 100, 1
SLOW = ("keras", "tflite_run")
SMALL_SLOW = 6
STEP = 250
"""Mutations between two looks at the clock."""
MOST_SHOWN = 20
Tried = tuple[str, str, int, list[dict]]
"""What was tried (`kill`, an error, `together`, `mutated`), on what, how many, and the failures: {number, why}."""
T, U = TypeVar("T"), TypeVar("U")


def main(arguments: list[str]) -> int:
    """Returns 0 if all that was tried held."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after that long; go on the next time")
    parser.add_argument("--small", action="store_true", help="few trials of each kind, and no record")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="trials at once (all cores)")
    asked = parser.parse_args(arguments)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    before = {"commits": {}, "seconds": 0.0, "tried": {}, "positions": {}, "failed": []}
    if not asked.small and STATE.is_file():
        before = read_json(STATE, dict, "Remove it.")
    end = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="kd2mobile-torture-") as place:
        ended = _try_all(Path(place), before, commit, end, asked.small, asked.jobs)
    for failure in before["failed"][:MOST_SHOWN]:
        print(f"FAILED {failure['what']} {failure['on']} {failure['number']}: {failure['why']}", file=sys.stderr)
    for what, count in sorted(before["tried"].items()):
        failed = sum(f"{one['what']} {one['on']}" == what for one in before["failed"])
        print(f"{what:<24} {count:>7,} tried {failed:>5,} failed")
    if asked.small:
        return bool(before["failed"])
    if not ended:
        print(f"Stopped after {asked.minutes:g} minutes. The same command goes on from there.")
        return bool(before["failed"])
    from benchmarks.records import write_record

    counts = {what: {"tried": count, "failed": sum(f"{f['what']} {f['on']}" == what for f in before["failed"])}
              for what, count in sorted(before["tried"].items())}  # fmt: skip
    write_record("torture", "make torture", commits=before["commits"], seconds=round(before["seconds"]), counts=counts,
                 failed=before["failed"])  # fmt: skip
    STATE.unlink(missing_ok=True)
    return bool(before["failed"])


def _try_all(place: Path, kept: dict, commit: str, end: float, small: bool, jobs: int) -> bool:
    """Whether all was tried before the end. kept: what was tried so far, on which commits, noted as it goes on."""
    load_keras()  # once: the trials run in forked children
    import tensorflow  # noqa: F401

    store.register_tiny_teacher()
    for trials in (
        _of_the_store(place / "store", kept, small, jobs),
        _of_files(place / "files", kept, small, jobs),
    ):
        begun = time.monotonic()
        for what, on, tried, failures in trials:
            kept["tried"][f"{what} {on}"] = kept["tried"].get(f"{what} {on}", 0) + tried
            kept["commits"][commit] = kept["commits"].get(commit, 0) + tried
            kept["failed"] += [{"what": what, "on": on, **failure} for failure in failures]
            kept["seconds"] += time.monotonic() - begun
            begun = time.monotonic()
            if not small:
                STATE.parent.mkdir(exist_ok=True)
                write_json(STATE, kept)
            if begun > end:
                return False
    return True


def _of_the_store(place: Path, kept: dict, small: bool, jobs: int) -> Iterator[Tried]:
    """Each change of each command in an order of its own, which stays the same.

    A command that makes other changes than when its trials began has them tried anew.
    """
    tried = kept["tried"]
    commands = ["check", "label", "distill", "export"] if small else list(store.COMMANDS)
    few = {"check": 5, "label": 5, "distill": 2, "export": 1}
    chain = store.Chain(place, commands)
    for fault in ("kill", *store.FAULTS):
        for name in commands:
            order = chain.positions(name, fault)
            if kept["positions"].setdefault(f"{fault} {name}", order) != order:
                kept["positions"][f"{fault} {name}"], tried[f"{fault} {name}"] = order, 0
            order = random.Random(f"{fault} {name}").sample(order, len(order))
            count = (few[name] if fault == "kill" else few[name] // 2) if small else len(order)
            rest = order[tried.get(f"{fault} {name}", 0) : count]
            attempt = partial(chain.disturbed, name, fault=fault)
            yield from _tried_again(kept, fault, name, attempt)
            for at, why in _in_turn(jobs, rest, attempt):
                yield fault, name, 1, [{"number": at, "why": why}] if why else []
    yield from _tried_again(kept, "together", "all", chain.together)
    for seed in range(tried.get("together all", 0), SMALL_TOGETHER if small else TOGETHER):
        why = chain.together(seed)
        yield "together", "all", 1, [{"number": seed, "why": why}] if why else []
    shutil.rmtree(place)


def _of_files(place: Path, kept: dict, small: bool, jobs: int) -> Iterator[Tried]:
    for kind, make in mutations.KINDS.items():
        first = kept["tried"].get(f"mutated {kind}", 0)
        most = (SMALL_SLOW if kind in SLOW else SMALL_MUTATIONS) if small else MUTATIONS
        if first >= most and not any(one["what"] == "mutated" and one["on"] == kind for one in kept["failed"]):
            continue
        (place / kind).mkdir(parents=True)
        made = make(place / kind)
        steps = [range(start, min(most, start + STEP)) for start in range(first, most, STEP)]
        attempt = partial(_mutated, kind, place=place / kind, made=made)
        yield from _tried_again(
            kept, "mutated", kind, lambda number, attempt=attempt: attempt(range(number, number + 1))
        )
        for numbers, failures in _in_turn(jobs, steps, attempt):
            yield "mutated", kind, len(numbers), failures


def _mutated(kind: str, numbers: range, place: Path, made: tuple) -> list[dict]:
    failures = mutations.torture(kind, numbers, place, *made)
    return [{"number": one["number"], "why": one["fault"]} for one in failures]


def _tried_again(kept: dict, what: str, on: str, attempt: Callable) -> Iterator[Tried]:
    """What failed in an earlier call, which may be mended since."""
    for failure in [one for one in kept["failed"] if (one["what"], one["on"]) == (what, on)]:
        kept["failed"].remove(failure)
        if why := attempt(failure["number"]):
            yield what, on, 0, why if isinstance(why, list) else [{"number": failure["number"], "why": why}]


def _in_turn(jobs: int, over: Sequence[T], attempt: Callable[[T], U]) -> Iterator[tuple[T, U]]:
    """Each of them with what the attempt returned, in their order; jobs at once, in forked processes."""
    if jobs == 1 or len(over) < 2:
        yield from ((one, attempt(one)) for one in over)
        return
    _attempts.append(attempt)  # a closure: the forked processes have it, nothing pickles it
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from zip(over, pool.imap(_attempt, over), strict=True)
    _attempts.pop()


_attempts: list[Callable] = []


def _attempt(one):
    return _attempts[-1](one)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
