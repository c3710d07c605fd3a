"""What a user's keras.json and environment say for other projects changes no result here."""

import json

import pytest

from kd2mobile.backend import keras_backend as backend
from kd2mobile.backend.child import Child
from kd2mobile.backend.keras_backend import check_environment, keras_home, set_precision
from kd2mobile.cli import doctor
from kd2mobile.cli.commands import main_status
from kd2mobile.errors import InstallationError

OTHERS = {"floatx": "float16", "epsilon": 0.5, "image_data_format": "channels_first", "backend": "torch"}
CHILD = """
import sys
from kd2mobile.backend.child import Child
from kd2mobile.backend.keras_backend import load_keras
load_keras()
import keras
import tf_keras
import msgspec
from kd2mobile.students import build_student
from kd2mobile.backend.tensorflow_process import serve

class Job(msgspec.Struct):
    px: int

def work(job, tell):
    found = {}
    for name, module in (("keras", keras.config), ("tf_keras", tf_keras.backend)):
        found[name] = [module.floatx(), module.epsilon(), module.image_data_format()]
    student = build_student("small_cnn", job.px, 3, "none", 0)
    dtypes = sorted({str(weight.dtype) for weight in student.weights})
    found["student"] = [dtypes, list(student.input_shape), keras.config.backend()]
    found["policies"] = [keras.config.dtype_policy().name, tf_keras.mixed_precision.global_policy().name]
    tell("result", result=found)

serve(work, Job)
"""


@pytest.fixture
def keras_json(monkeypatch, tmp_path):
    """keras_json(text) is the user's keras.json."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def write(text):
        (tmp_path / "keras.json").write_text(text if isinstance(text, str) else json.dumps(text))

    return write


def test_a_keras_json_of_another_project_changes_nothing(keras_json):
    """In a process that loads Keras itself, and in one of TensorFlow's, which takes its job by `serve`."""
    keras_json(OTHERS)
    with Child(["-c", CHILD], "the child", lambda death: RuntimeError(death.how)) as child:
        settings = child.ask({"px": 16}, dict)
    assert settings["keras"] == settings["tf_keras"] == ["float32", 1e-7, "channels_last"]
    assert settings["student"] == [["float32"], [None, 16, 16, 3], "tensorflow"]
    assert settings["policies"] == ["float32", "float32"]


def test_what_a_program_set_before_is_set_again():
    import keras

    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.config.set_image_data_format("channels_first")
    set_precision()
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == ("float32", "float32")
    assert keras.config.image_data_format() == "channels_last"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"floatx": "float8"}, "keras.json: floatx: must be one of"),
        ({"epsilon": "small"}, "keras.json: epsilon: must be a(|n)? .*number"),
        ({"epsilon": 1}, "keras.json: epsilon: must be a number with a decimal point, got 1"),
        ({"image_data_format": None}, "keras.json: image_data_format: must be"),
        ([], "keras.json: must be an object, got a list of 0"),
        ("{", "keras.json: must be JSON"),
        ("[" * 100_000, "keras.json: must be"),
    ],
)
def test_a_keras_json_that_keras_cannot_load_with_is_one_line(keras_json, text, message):
    keras_json(text)
    with pytest.raises(InstallationError, match=f"{message}.* Repair or remove it: kd2mobile sets these itself."):
        check_environment()


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("JAX_ENABLE_X64", ["1", "True"], ["0", "false", ""]),
        ("JAX_DEFAULT_MATMUL_PRECISION", ["bfloat16", "BF16_BF16_F32"], ["highest", "float32"]),
        ("JAX_DEFAULT_PRNG_IMPL", ["rbg"], ["threefry2x32"]),
        ("KERAS_MAX_EPOCHS", ["1", "x"], []),
        ("KERAS_MAX_STEPS_PER_EPOCH", ["10"], [""]),
        ("ONEDNN_DEFAULT_FPMATH_MODE", ["BF16", "any"], ["STRICT"]),
        ("TF_ENABLE_AUTO_MIXED_PRECISION", ["1"], ["0"]),
        (
            "XLA_FLAGS",
            ["--xla_cpu_enable_fast_math=true", "--xla_cpu_enable_fast_math --xla_dump_to=/tmp"],
            ["--xla_force_host_platform_device_count=2", "--xla_cpu_enable_fast_math=false"],
        ),
    ],
)
def test_a_variable_that_changes_results_is_refused(keras_json, monkeypatch, name, bad, good):
    for value in bad:
        monkeypatch.setenv(name, value)
        with pytest.raises(
            InstallationError,
            match=rf"{name}: must not have this value, .*, got '.*'\. Unset {name}\.",
        ):
            check_environment()
    for value in good:
        monkeypatch.setenv(name, value)
        check_environment()
    assert set(backend.HARMLESS) >= {name}


@pytest.mark.parametrize("command", ["distill", "label"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "torch2",
            "KERAS_BACKEND: must be one of tensorflow, jax, torch, got 'torch2'. Unset KERAS_BACKEND, or name one",
        ),
        (
            "numpy",
            "KERAS_BACKEND: must be one of tensorflow, jax, torch, got 'numpy'. Unset KERAS_BACKEND, or name one",
        ),
        (
            "jax",
            "KERAS_BACKEND: must name an installed package, got 'jax'. Unset KERAS_BACKEND, or install that",
        ),
    ],
)
def test_a_backend_that_is_unknown_or_not_installed_is_one_line(monkeypatch, tmp_path, capsys, command, name, message):
    find_spec = backend.find_spec
    monkeypatch.setattr(backend, "find_spec", lambda module: None if module == "jax" else find_spec(module))
    monkeypatch.setenv("KERAS_BACKEND", name)
    assert main_status([command, "--data", str(tmp_path / "photos"), "--store", str(tmp_path / "store")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith(message)
    assert doctor._backend(name, core_alone=False).status == "missing"


def test_doctor_names_what_would_change_results(keras_json, monkeypatch):
    assert doctor._environment().status == "ok"
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    assert doctor._environment().found == "JAX_ENABLE_X64: '1'" and doctor._environment().fix == "Unset JAX_ENABLE_X64."


def test_keras_home_is_that_of_keras(monkeypatch, tmp_path):
    import keras

    assert str(keras_home()) == keras.src.backend.config.keras_home()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert keras_home() == tmp_path
