"""kd2mobile: distil big image classifiers into tiny ones and prove them on the phone.

`kd2mobile.distill(data="photos/", temperature=4)`, `.check`, `.label`, `.export`, `.benchmark`, `.predict`, `.inspect`
and `.show` are the verbs of the command line; each returns a typed result.
"""

__version__ = "0.1.0"
__all__ = ["benchmark", "check", "distill", "export", "inspect", "label", "predict", "show"]


def __dir__():
    return sorted({*globals(), *__all__})


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'kd2mobile' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("kd2mobile.api.pipeline"), name)
