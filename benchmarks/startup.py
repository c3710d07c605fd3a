"""Start-up of the command line against a bare interpreter, interleaved in one run:    python benchmarks/startup.py

Prints the medians and their ratio; `kd2mobile --help` should stay within 25 starts of a bare interpreter.
"""

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "bare": [sys.executable, "-c", "pass"],
    "help": [sys.executable, "-m", "kd2mobile", "--help"],
    "distill help": [sys.executable, "-m", "kd2mobile", "distill", "--help"],
    "list teachers": [sys.executable, "-m", "kd2mobile", "list", "teachers"],
}
ROUNDS = 21


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: round(median / medians["bare"], 1) for name, median in medians.items()}
    print(json.dumps({"median_ms": {n: round(1000 * m, 1) for n, m in medians.items()}, "ratio": ratios}, indent=1))


if __name__ == "__main__":
    main()
