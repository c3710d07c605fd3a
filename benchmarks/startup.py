"""Start-up of the command line against a bare interpreter, interleaved in one run:    python benchmarks/startup.py

`kd2mobile --help` should stay within 25 starts of a bare interpreter. Writes one record to benchmarks/results/: the
medians of the time and of the processor's time alone, which other work stretches less, their ratios to the bare
interpreter's, and the system's load before. Linux and macOS.
"""

import os
import resource
import statistics
import subprocess
import sys
import time

from records import write_record

from kd2mobile.measure.host.machine import device_words

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "kd2mobile --help": ["-m", "kd2mobile", "--help"],
    "kd2mobile distill --help": ["-m", "kd2mobile", "distill", "--help"],
    "kd2mobile list teachers": ["-m", "kd2mobile", "list", "teachers"],
}
BARE = "python -c pass"
ROUNDS = 21
KINDS = ("elapsed", "processor")


def main() -> None:
    load = os.getloadavg()[0]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            begun = time.perf_counter(), processor_s()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - begun[0], processor_s() - begun[1]))
    medians = {
        name: [statistics.median(column) for column in zip(*pairs, strict=True)] for name, pairs in times.items()
    }
    started = [
        {"name": name}
        | {
            kind: {"median_ms": round(1000 * median, 1), "ratio": round(median / bare, 1)}
            for kind, median, bare in zip(KINDS, medians[name], medians[BARE], strict=True)
        }
        for name in COMMANDS
    ]
    for line in started:
        kinds = (f"{kind} {line[kind]['median_ms']:7.1f} ms {line[kind]['ratio']:5.1f}" for kind in KINDS)
        print(f"{line['name']:<26}", *kinds)
    write_record(
        "startup",
        "python benchmarks/startup.py",
        device=device_words(),
        rounds=ROUNDS,
        load_before=round(load, 2),
        started=started,
    )


def processor_s() -> float:
    """What the finished child processes have taken of the processor so far, user and system, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
