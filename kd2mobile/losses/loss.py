"""What a loss is: its function, what it needs and its own options. Loads no framework."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, get_type_hints

import msgspec

from kd2mobile.errors import RecipeError, UnknownNameError
from kd2mobile.recipe.schema import Distill, Table, type_in_words
from kd2mobile.recipe.toml import in_toml, in_words

Tensor: TypeAlias = Any
TENSORS = ("student_logits", "teacher_logits", "one_hot")
SHARED = ("temperature", "hard_label_weight")
"""The fields of [distill] that a loss may use or not."""
SEE = "kd2mobile list losses"


class Options(Table):
    """A loss's own numbers, set by `[distill.loss_options]` and `--loss-option` and checked by their types.

    A field has a type with its description and bounds (`says`), and a default:

        beta: Annotated[float, says("Weight of the classes that are not the label.", ge=0, le=100)] = 1.0
    """


@dataclass(frozen=True)
class Loss:
    """A loss: what `[distill]` needs to know of it stands here, and nowhere else.

    function: (student_logits, teacher_logits, one_hot, *, ...) -> [batch], of a whole batch of float
    [batch, classes] tensors of any backend of Keras 3. It takes logits and never probabilities. Its keywords are
    the fields of [distill] that it uses (`temperature`, `hard_label_weight`) and its own options; no others are
    passed. It returns one number per row, so that the weight of an image still applies to it; a term that relates
    the examples of a batch is added equally to each row. A row without a label has a one_hot of zeros: there what
    the labels teach must be zero, as a cross-entropy with it is, and what the teacher teaches stays. Without a teacher
    teacher_logits are zeros.
    needs_teacher: whether it looks at teacher_logits. rest_to_teacher: whether the teacher's part weighs
    1 - hard_label_weight, so that at 1 the labels alone teach. options: its own, with their defaults.

    Raises TypeError for a function of another form.
    """

    function: Callable[..., Tensor]
    needs_teacher: bool = True
    rest_to_teacher: bool = False
    options: type[Options] = Options

    def __post_init__(self) -> None:
        allowed = {*SHARED, *self.options.__struct_fields__}
        names = tuple(inspect.signature(self.function).parameters)
        missing = set(self.options.__struct_fields__) - self._keywords
        if names[: len(TENSORS)] != TENSORS or self._keywords - allowed or missing:
            form = f"({', '.join(TENSORS)}, *, {', '.join(sorted(allowed))})"
            raise TypeError(f"{self.function.__name__} must be a function of {form}")

    @property
    def _keywords(self) -> set[str]:
        parameters = inspect.signature(self.function).parameters.values()
        return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}

    @property
    def uses(self) -> tuple[str, ...]:
        """The fields of [distill] that can change it: those of SHARED that are keywords of its function."""
        return tuple(field for field in SHARED if field in self._keywords)

    @property
    def ignores(self) -> tuple[str, ...]:
        """The fields of [distill] that cannot change it: the others of SHARED."""
        return tuple(field for field in SHARED if field not in self._keywords)

    def keywords(self, distill: Distill) -> dict[str, Any]:
        """What its function is called with: the fields that it uses, and every option of its own.

        Raises RecipeError, UnknownNameError for options that it does not have or that cannot be.
        """
        return {field: getattr(distill, field) for field in self.uses} | self.own_options(distill)

    def own_options(self, distill: Distill) -> dict[str, Any]:
        """Its own options by name, given or by default. Raises RecipeError, UnknownNameError."""
        given, known = distill.loss_options, self.options.__struct_fields__
        where = "distill.loss_options"
        if given and not known:
            must = f"must be left out: the loss {distill.loss} has no options of its own"
            raise RecipeError(where, must, ", ".join(given), f"See `{SEE}`.")
        for name, value in given.items():
            if name not in known:
                raise UnknownNameError(f"{where}, options of {distill.loss}", name, list(known), see=SEE)
            _check_option(self.options, name, value, f"{where}, {name}")
        return msgspec.to_builtins(msgspec.convert(given, self.options))

    def describe_options(self) -> list[str]:
        """A line about each option: how it is given with its default, what it is and what it takes.

        >>> from typing import Annotated
        >>> from kd2mobile.recipe.schema import says
        >>> class Softened(Options):
        ...     beta: Annotated[float, says("Weight of the rest.", ge=0)] = 1.0
        >>> def loss(student_logits, teacher_logits, one_hot, *, beta): ...
        >>> Loss(loss, options=Softened).describe_options()
        ['--loss-option beta=1.0: Weight of the rest. Takes a number from 0.']
        """
        hints = get_type_hints(self.options, include_extras=True)
        return [
            f"--loss-option {field.name}={in_toml(field.default)}: {_description(hints[field.name])} "
            f"Takes {type_in_words(hints[field.name])}."
            for field in msgspec.structs.fields(self.options)
        ]


def _check_option(options: type[Options], name: str, value: Any, where: str) -> None:
    try:
        msgspec.convert({name: value}, options)
    except msgspec.ValidationError as fault:
        hint = get_type_hints(options, include_extras=True)[name]
        default = in_toml(getattr(options(), name))
        next_step = f"{_description(hint)} The default is {default}."
        raise RecipeError(where, f"must be {type_in_words(hint)}", in_words(value), next_step) from fault


def _description(hint: Any) -> str:
    return next(meta.description for meta in hint.__metadata__ if meta.description)
