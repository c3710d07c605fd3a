"""How long .tflite files take beside each other, in turn in one run:

    python benchmarks/latency.py FILE.tflite FILE.tflite [...] [--threads 1] [--rounds 21]

Each round times every file once, as `kd2mobile benchmark` does (benchmarks/RULES.md), in a process of its own, so that
whatever else the machine does meets all of them alike. The ratio is that of a round's two medians, to the first file;
the median over the rounds counts. Writes one record to benchmarks/results/.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

from kd2mobile.artifact import made_with, sha256_of, write_json
from kd2mobile.measure.device import device_words
from kd2mobile.measure.protocol import Setting
from kd2mobile.measure.worker import profile_file
from kd2mobile.progress import bar

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.tflite")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    profiles = {file: [] for file in options.files}
    with bar("timing", options.rounds * len(profiles), "files") as advance:
        for _ in range(options.rounds):
            for file, timed in profiles.items():
                timed.append(profile_file(file, Setting(options.threads, True)))
                advance(1)
    first = [profile.latency_ms.p50 for profile in profiles[options.files[0]]]
    record = {
        "suite": "latency",
        "command": f"python benchmarks/latency.py {' '.join(file.name for file in options.files)}"
        f" --threads {options.threads} --rounds {options.rounds}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made_with": made_with(),
        "device": device_words(),
        "runtime": profiles[options.files[0]][0].runtime,
        "threads": options.threads,
        "rounds": options.rounds,
        "load_before": round(load, 2),
        "files": [compared(file, [p.latency_ms for p in timed], first) for file, timed in profiles.items()],
    }
    out = HERE / "results" / f"latency-{time.strftime('%Y%m%d-%H%M', time.gmtime())}.json"
    write_json(out, record)
    for file in record["files"]:
        print(f"{file['file']:<40} p50 {file['p50_ms']['median']:.3f} ms, {file['ratio']['median']:.2f} of the first")
    print(f"Written: {out}. Next: python benchmarks/table.py")


def compared(file: Path, timed: list, first: list[float]) -> dict:
    p50 = [latency.p50 for latency in timed]
    return {
        "file": file.name,
        "sha256": sha256_of(file),
        "size_bytes": file.stat().st_size,
        "p50_ms": spread(p50),
        "p90_ms": spread([latency.p90 for latency in timed]),
        "ratio": spread([mine / reference for mine, reference in zip(p50, first, strict=True)]),
    }


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


if __name__ == "__main__":
    main()
