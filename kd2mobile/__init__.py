"""kd2mobile: distil big image classifiers into tiny ones and prove them on the phone.

The Python API: `kd2mobile.distill(data="photos/", temperature=4)`, and so on, one function per command of the command
line (`names` is the command `list`). Each stands in the file of its name under `api/` and returns a typed result of
`api/results.py`.
"""

__version__ = "0.1.0"
__all__ = ["benchmark", "check", "distill", "export", "inspect", "label", "names", "predict", "report", "show"]


def __dir__():
    return sorted({*globals(), *__all__})


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'kd2mobile' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"kd2mobile.api.{name}"), name)
