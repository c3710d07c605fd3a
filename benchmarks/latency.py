"""How long .tflite files take beside each other, in turn in one run, and what the timing itself costs:

    python benchmarks/latency.py FILE.tflite [FILE.tflite ...] [--threads 1] [--rounds 21] [--litert-benchmark]

Each round times every file once, as `kd2mobile benchmark` does (benchmarks/RULES.md), in a process of its own, so that
whatever else the machine does meets all of them alike. The ratio is that of a round's two medians, to the first file;
the median over the rounds counts. --litert-benchmark: each round also asks the tool of that name, which comes with
ai-edge-litert. loop: the mean of timed runs over the mean of as many in a bare loop, block by block in one process, the
median of the blocks.
Writes one record to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from records import write_record

from kd2mobile.files import sha256_of
from kd2mobile.measure.host.machine import device_words
from kd2mobile.measure.latency import measure_latency
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.measure.litert.worker import profile_file
from kd2mobile.measure.protocol import Setting
from kd2mobile.progress import bar

TOOL = Path(sys.executable).with_name("litert-benchmark")
TOOL_RUNS, TOOL_WARMUP = 300, 50
BLOCKS, BLOCK_MS = 20, 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.tflite")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--litert-benchmark", action="store_true", dest="tool")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    timed = {file: {"latency": [], "tool_p50": [], "loop": []} for file in options.files}
    with bar("timing", options.rounds * len(timed), "files") as advance:
        for _ in range(options.rounds):
            for file, of_file in timed.items():
                profile = profile_file(file, Setting(options.threads, True))
                of_file["latency"].append(profile.latency_ms)
                of_file["loop"].append(loop_ratio(file, options.threads))
                if options.tool:
                    of_file["tool_p50"].append(ask_tool(file, options.threads))
                advance(1)
    first = [latency.p50 for latency in timed[options.files[0]]["latency"]]
    flags = f" --threads {options.threads} --rounds {options.rounds}" + " --litert-benchmark" * options.tool
    files = [compared(file, of_file, first) for file, of_file in timed.items()]
    for file in files:
        text = f"p50 {file['p50_ms']['median']:.3f} ms, {file['ratio']['median']:.2f} of the first file's, "
        text += f"{file['loop']['median']:.3f} of a bare loop"
        if options.tool:
            text += f", {file['against_tool']['median']:.2f} of litert-benchmark's"
        print(f"{file['file']:<34} {text}")
    write_record(
        "latency",
        f"python benchmarks/latency.py {' '.join(file.name for file in options.files)}{flags}",
        device=device_words(),
        runtime=profile.runtime,
        threads=options.threads,
        rounds=options.rounds,
        load_before=round(load, 2),
        files=files,
    )


def loop_ratio(file: Path, threads: int) -> float:
    """The mean of timed runs over that of as many in a loop without a clock: the median of blocks in turn."""
    classifier = Classifier(file, threads)
    classifier.set_pixels(np.zeros((classifier.input_px, classifier.input_px, 3), np.uint8))
    runs = max(1, round(BLOCK_MS / measure_latency(classifier.run).p50))
    ratios = []
    for _ in range(BLOCKS):
        timed_ms = measure_latency(classifier.run, runs, warmup=0, seconds=0).mean
        start = time.perf_counter_ns()
        for _ in range(runs):
            classifier.run()
        ratios.append(timed_ms / ((time.perf_counter_ns() - start) / runs / 1e6))
    return statistics.median(ratios)


def ask_tool(file: Path, threads: int) -> float:
    """The p50 in milliseconds that litert-benchmark writes for the file."""
    counts = [f"--num_runs={TOOL_RUNS}", f"--warmup_runs={TOOL_WARMUP}", f"--num_threads={threads}"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [TOOL, f"--model={file}", *counts, f"--result_json={out}"]
        subprocess.run(command, check=True, capture_output=True)
        return json.loads(out.read_text("utf-8"))["latency"]["median_ms"]


def compared(file: Path, of_file: dict[str, list], first: list[float]) -> dict:
    p50 = [latency.p50 for latency in of_file["latency"]]
    summary = {
        "file": file.name,
        "sha256": sha256_of(file),
        "size_bytes": file.stat().st_size,
        "p50_ms": spread(p50),
        "p90_ms": spread([latency.p90 for latency in of_file["latency"]]),
        "ratio": spread([mine / reference for mine, reference in zip(p50, first, strict=True)]),
        "loop": spread(of_file["loop"]),
    }
    if of_file["tool_p50"]:
        summary["tool_p50_ms"] = spread(of_file["tool_p50"])
        summary["against_tool"] = spread([mine / tool for mine, tool in zip(p50, of_file["tool_p50"], strict=True)])
    return summary


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


if __name__ == "__main__":
    main()
