"""A Keras model from a file that someone else wrote: .keras, or Keras 2's .h5. No code from the file ever runs."""

import copy
import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from kd2mobile.backend.model_files import CONFIG, check_config_size, check_model_file
from kd2mobile.errors import Kd2MobileError, TeacherError

PACKAGES = ("keras", "builtins", "keras_hub", "keras_cv", "keras_nlp")
"""Where Keras itself looks for the classes that a file names."""
CARRIES_CODE = {
    "Lambda": "a Lambda layer, which carries Python code",
    "__lambda__": "a lambda, which carries Python code",
    "TFOpLambda": "a TFOpLambda: Keras 2's name for a call of TensorFlow between two layers",
    "SlicingOpLambda": "a SlicingOpLambda: Keras 2's name for a slice between two layers",
}
UNUSED_IN_KERAS_2 = {
    "DepthwiseConv2D": ("groups",),
    "SeparableConv2D": ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
}
"""What Keras 2 wrote of these layers from their base class, though they have only one group and no such kernel."""
OTHER_WAYS = "Build it from standard layers, or give its logits: see docs/how-to/own-teacher.md."
BUILT_IN_FUNCTIONS = ("activations", "initializers", "constraints", "regularizers", "losses", "metrics")


def load_keras_file(path: Path) -> keras.Model:
    """The model, uncompiled, loaded in safe mode. Its configuration is checked before Keras opens the file.

    Entries without effect that Keras 2 wrote into .h5 files and Keras 3 refuses are repaired: see `_repaired`.
    Raises TeacherError if the file is damaged, would unpack to more than `model_files` allows, declares other weights
    than it holds, holds weights alone, or names a layer or function that Keras does not have.
    """
    try:
        config = _config(path)
        if custom := _custom_code(config):
            must = "must be a model of Keras's own layers, because custom code is never run"
            raise TeacherError(path, must, custom, OTHER_WAYS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of what it then refuses, on a line of its own
            _check_weights(path, config)
            model = _load(path, config)
    except Kd2MobileError:
        raise
    except Exception as fault:  # zipfile, h5py and every layer's own from_config, on whatever the file says
        raise _unloadable(path, fault) from fault
    if not isinstance(model, keras.Model):
        raise TeacherError(path, "must be a model", f"a {type(model).__name__}", OTHER_WAYS)
    return model


def _config(path: Path) -> dict[str, Any]:
    """The model's configuration. Raises TeacherError for a file that unpacks to too much or holds weights alone."""
    check_model_file(path, TeacherError)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as file:
            text = file.read(CONFIG)
    else:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    if text is None:
        step = "Save the whole model with `model.save(...)`; weights of a known network go with --teacher-weights."
        raise TeacherError(path, "must be a complete model", "a file of weights alone", step)
    check_config_size(path, len(text), TeacherError)
    config = json.loads(text)  # not msgspec: a layer's bound may be infinite
    if not isinstance(config, dict):
        must = "must be an object, as `model.save` writes it"
        raise TeacherError(f"{path}, its configuration", must, type(config).__name__, OTHER_WAYS)
    return config


def _check_weights(path: Path, config: dict[str, Any]) -> None:
    """Raises Keras's error for weights that do not fit the configuration, before memory is allocated for them.

    Within the scope variables are only shapes. Keras would allocate them at the end of the next such scope, so the
    session is cleared.
    """
    try:
        with keras.StatelessScope(initialize_variables=False):
            _load(path, config)
    finally:
        keras.utils.clear_session(free_memory=False)


def _load(path: Path, config: dict[str, Any]) -> Any:
    if path.suffix != ".keras" and (repaired := _repaired(config)) != config:
        return _load_repaired(path, repaired)
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _custom_code(config: Any) -> str | None:
    """The first custom class or function in a model's configuration, in words; None if there is none."""
    for node in _nodes(config):
        name, module = node["class_name"], node.get("module", "keras")
        module = None if module is None else str(module)
        if name in CARRIES_CODE:
            return CARRIES_CODE[name]
        if module is None or module.partition(".")[0] not in PACKAGES:
            return f"the class {node.get('registered_name') or name!r} of its author"
        if module == "builtins" and name == "function" and not _is_built_in(node.get("config")):
            return f"the function {node.get('config')!r} of its author"
    return None


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _nodes(value)


def _is_built_in(name: Any) -> bool:
    return any(hasattr(getattr(keras, module), str(name)) for module in BUILT_IN_FUNCTIONS)


def _repaired(config: Any) -> Any:
    """The configuration of a Keras 2 model without the entries that Keras 3 refuses.

    Removed are UNUSED_IN_KERAS_2 and the list around BatchNormalization's one axis; slashes in layers' names become
    underscores.
    """
    config = copy.deepcopy(config)
    slashed = set()
    for node in _nodes(config):
        settings = node.get("config")
        if not isinstance(settings, dict):
            continue
        for name in UNUSED_IN_KERAS_2.get(node["class_name"], ()):
            settings.pop(name, None)
        if node["class_name"] == "BatchNormalization" and isinstance(settings.get("axis"), list):
            (settings["axis"],) = settings["axis"]
        if "/" in str(settings.get("name")):
            slashed.add(settings["name"])
    return _renamed(config, slashed) if slashed else config


def _renamed(config: Any, names: set[str]) -> Any:
    if isinstance(config, dict):
        return {key: _renamed(value, names) for key, value in config.items()}
    if isinstance(config, list):
        return [_renamed(value, names) for value in config]
    return config.replace("/", "_") if isinstance(config, str) and config in names else config


def _load_repaired(path: Path, config: Any) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        repaired = Path(folder) / "repaired.h5"
        shutil.copyfile(path, repaired)
        with h5py.File(repaired, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
        return keras.saving.load_model(repaired, compile=False, safe_mode=True)


def _unloadable(path: Path, fault: Exception) -> TeacherError:
    return TeacherError(
        path,
        "must be a Keras model of standard layers that loads in safe mode",
        first_line(fault),
        "Save it with Keras 3 as `model.save('teacher.keras')`, without Lambda or custom layers, "
        "or give its logits: see docs/how-to/own-teacher.md.",
    )


def first_line(fault: Exception) -> str:
    """The first line of a framework's error, which may be pages long, with the type of the error."""
    return f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0][:200]}"
