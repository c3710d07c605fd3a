"""A trial device: `--device wire:PORT`."""

from typing import Annotated

from kd2mobile.measure.device import Device, NoOptions, says


class Options(NoOptions):
    """baud: speed of the line in bits per second."""

    baud: Annotated[int, says("Speed of the line in bits per second. [115200]", ge=1, le=4_000_000)] = 115_200


DEVICE = Device(name="wire", form="wire:PORT", options=Options)
