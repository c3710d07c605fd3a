"""What a student is trained to make small. Listing the losses loads no framework."""

from kd2mobile.losses.registry import LOSSES, make_loss, split_predictions

__all__ = ["LOSSES", "make_loss", "split_predictions"]
