"""Keras, loaded once on one backend: quiet, and with a fixed number of threads so that runs repeat."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from kd2mobile.errors import MissingExtraError


def load_keras() -> None:
    """Loads Keras on the backend that KERAS_BACKEND names, else TensorFlow if it is installed, else JAX.

    Raises MissingExtraError where Keras or both backends are not installed.
    """
    if not find_spec("keras"):
        raise MissingExtraError("training", "keras", "train")
    if not (find_spec("tensorflow") or find_spec("jax")):
        raise MissingExtraError("training", "tensorflow or jax", "train")
    os.environ.setdefault("KERAS_BACKEND", backend_name())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for kind in ("INTRA", "INTER"):
        os.environ.setdefault(f"TF_NUM_{kind}OP_THREADS", str(os.cpu_count() or 1))
    with _chatter_kept_back():
        import keras  # noqa: F401


def backend_name() -> str | None:
    """The backend that Keras would use: KERAS_BACKEND, else TensorFlow before JAX; None where there is neither."""
    installed = (name for name in ("tensorflow", "jax") if find_spec(name))
    return os.environ.get("KERAS_BACKEND") or next(installed, None)


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
