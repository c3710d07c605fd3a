"""What a student is trained to make small. Listing the losses loads no framework."""

from kd2mobile.losses.functions import LOSSES, describe_losses, make_loss, register
from kd2mobile.losses.loss import Loss, Options

__all__ = ["LOSSES", "Loss", "Options", "describe_losses", "make_loss", "register"]
