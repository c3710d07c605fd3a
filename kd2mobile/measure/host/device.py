"""This machine."""

from kd2mobile.measure.device import Device

DEVICE = Device(name="host", form="host")
