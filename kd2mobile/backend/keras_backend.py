"""Keras, loaded once on one backend: quiet, with a fixed number of threads so that runs repeat, and as we set it.

What a user's keras.json or environment says for other projects must not change a result:
docs/decisions/0010-the-environment.md.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from kd2mobile.errors import InstallationError, MissingExtraError
from kd2mobile.files import read_json

BACKENDS = ("tensorflow", "jax", "torch")
"""What Keras can train on."""
FLOATX, EPSILON, DATA_FORMAT = "float32", 1e-7, "channels_last"
_OFF = "|0|false|off|no|f|n"
HARMLESS = {
    "JAX_DEFAULT_MATMUL_PRECISION": "|default|high|highest|float32|tensorfloat32",
    "JAX_DEFAULT_PRNG_IMPL": "threefry2x32",
    "JAX_ENABLE_X64": _OFF,
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_THREEFRY_PARTITIONABLE": "1|true|on|yes|t|y",
    "KERAS_MAX_EPOCHS": "",
    "KERAS_MAX_STEPS_PER_EPOCH": "",
    "ONEDNN_DEFAULT_FPMATH_MODE": "|strict",
    "TF_ENABLE_AUTO_MIXED_PRECISION": "|0",
    "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE": "|0",
    "TF_SET_ONEDNN_FPMATH_MODE": "|strict",
    "XLA_FLAGS": r"(?!.*fast_math(=true|=1)?(\s|$)).*",
}
"""Variables that change what is computed (its precision, its random numbers, how long it trains), and which values of
them, in any capitals, do not. What only chooses a kernel is in the record: `artifact.made_with`."""


class _KerasJson(msgspec.Struct):
    """What of keras.json Keras refuses to load with; all of it is set again after that."""

    floatx: Literal["float16", "float32", "float64"] = "float32"
    epsilon: int | float = EPSILON
    image_data_format: Literal["channels_last", "channels_first"] = "channels_last"


def load_keras() -> None:
    """Loads Keras on the backend that KERAS_BACKEND names, else TensorFlow if it is installed, else JAX.

    Precision, data format and epsilon are set, whatever keras.json says.
    Raises MissingExtraError where Keras or all backends are not installed, InstallationError as `check_environment`.
    """
    if not find_spec("keras"):
        raise MissingExtraError("training", "keras", "train")
    name = backend_name()
    if name is None:
        raise MissingExtraError("training", "tensorflow or jax", "train")
    check_backend(name)
    check_environment()
    os.environ["KERAS_BACKEND"] = name
    os.environ["KERAS_NNX_ENABLED"] = "false"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for kind in ("INTRA", "INTER"):
        os.environ.setdefault(f"TF_NUM_{kind}OP_THREADS", str(os.cpu_count() or 1))
    with _chatter_kept_back():
        import keras  # noqa: F401
    set_precision()


def backend_name() -> str | None:
    """The backend that Keras would use: KERAS_BACKEND, else TensorFlow before JAX; None where there is neither."""
    installed = (name for name in ("tensorflow", "jax") if find_spec(name))
    return os.environ.get("KERAS_BACKEND") or next(installed, None)


def check_backend(name: str) -> None:
    """Raises InstallationError for a backend that Keras has not or that is not installed, as KERAS_BACKEND may say."""
    next_step = "Unset KERAS_BACKEND, or install that package."
    if name not in BACKENDS:
        must = f"must be one of {', '.join(BACKENDS)}"
        raise InstallationError("KERAS_BACKEND", must, repr(name), "Unset KERAS_BACKEND, or name one of them.")
    if not find_spec(name):
        raise InstallationError("KERAS_BACKEND", "must name an installed package", repr(name), next_step)


def check_environment() -> None:
    """Raises InstallationError for what would change results behind our back, or keep Keras from loading.

    That is a variable of HARMLESS with another value, and a keras.json that Keras cannot read.
    """
    for name, harmless in HARMLESS.items():
        value = os.environ.get(name)
        if value is not None and not re.fullmatch(harmless, value.strip(), re.IGNORECASE):
            must = "must not have this value, which changes results without appearing in a record"
            raise InstallationError(name, must, repr(value), f"Unset {name}.")
    file = keras_home() / "keras.json"
    if os.path.lexists(file):
        next_step = "Repair or remove it: kd2mobile sets these itself."
        settings = read_json(file, _KerasJson, next_step, error=InstallationError)
        if isinstance(settings.epsilon, int):
            raise InstallationError(
                f"{file}: epsilon", "must be a number with a decimal point", settings.epsilon, next_step
            )


def keras_home() -> Path:
    """The folder in which Keras keeps keras.json and what it downloads, by Keras's own rule."""
    if "KERAS_HOME" in os.environ:
        return Path(os.environ["KERAS_HOME"]).expanduser()
    home = Path.home()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"


def set_precision() -> None:
    """Sets float32, channels last and epsilon in the Keras, of either generation, that this process has loaded."""
    for module in (sys.modules.get("keras"), sys.modules.get("tf_keras")):
        if module is not None:
            module.backend.set_floatx(FLOATX)
            module.backend.set_epsilon(EPSILON)
            module.backend.set_image_data_format(DATA_FORMAT)
            module.mixed_precision.set_global_policy(FLOATX)


@contextmanager
def _chatter_kept_back() -> Iterator[None]:
    """Keeps what libraries write to stderr while they load, and shows it only if loading fails.

    TensorFlow 2.21 writes some lines before any setting of its own can silence them.
    """
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(real, kept.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
