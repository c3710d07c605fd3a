"""An Android phone over adb: `--device adb:SERIAL`."""

from pathlib import Path
from typing import Annotated

from kd2mobile.measure.device import Device, NoOptions, Program, says


class Options(NoOptions):
    """benchmark_binary: the program that measures on the phone; without one its browser does."""

    benchmark_binary: Annotated[
        Path | None, says("The benchmark_model program of TensorFlow Lite. [measure in the phone's browser]")
    ] = None


DEVICE = Device(
    name="adb",
    form="adb:SERIAL",
    options=Options,
    programs=(
        Program(
            "adb",
            "benchmark --device adb",
            "Install Android's platform tools, for example `sudo apt-get install adb`.",
        ),
    ),
)
