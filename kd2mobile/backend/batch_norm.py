"""The BatchNormalizations of a network, teacher or student: where they are and how long their statistics remember."""

import keras


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Every BatchNormalization of the model, those of models inside it too."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layers += batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layers.append(layer)
    return layers


def shorten_memory(model: keras.Model, momentum: float) -> None:
    """Lowers the momentum of every BatchNormalization's statistics to at most this, in 0..1; lower ones stay.

    Of 1 - 1 / n, n steps of training are what the statistics remember.
    """
    for layer in batch_norms(model):
        layer.momentum = min(layer.momentum, momentum)
