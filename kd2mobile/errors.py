"""Every error raised on purpose. The command line prints one on stderr and exits with 2; anything else is a bug."""

from kd2mobile.text import did_you_mean, one_line, shortened

MOST_NAMES_LISTED = 12


class Kd2MobileError(Exception):
    """`<where>: <what must hold>, got <value>. <next step>`

    where: what the message is about: a file, a recipe field, a class, a stage.
    must: what must hold, without a full stop.
    got: the value that was found; `None` leaves the clause out.
    next_step: what to do about it, one or two whole sentences.

    >>> print(Kd2MobileError("pets.toml, distill.temperature", "must be above 0", -1, "Use 1 for unsoftened targets."))
    pets.toml, distill.temperature: must be above 0, got -1. Use 1 for unsoftened targets.
    """

    def __init__(self, where: object, must: str, got: object, next_step: str):
        self.where, self.must, self.got, self.next_step = str(where), must, got, next_step
        found = "" if got is None else f", got {shortened(str(got))}"
        super().__init__(one_line(f"{shortened(self.where)}: {must}{found}. {next_step}"))


class RecipeError(Kd2MobileError):
    """A recipe or a flag that cannot be followed."""


class UnknownNameError(Kd2MobileError):
    """A name that no registry entry has; carries the nearest one. form: of a family of names that was meant."""

    def __init__(self, where: str, name: str, known: list[str], see: str = "kd2mobile list", form: str | None = None):
        listed = ", ".join(known) if len(known) <= MOST_NAMES_LISTED else f"the {len(known)} known names"
        must = f"must be of the form {form}" if form else f"must be one of {listed}"
        super().__init__(where, must, repr(name), f"{did_you_mean(name, known)}See `{see}`.")


class DataError(Kd2MobileError):
    """A folder of photos that cannot be trained or measured on."""


class ImageError(Kd2MobileError):
    """One image that cannot be decoded."""


class ArtifactError(Kd2MobileError):
    """A store that cannot be read or written, or an artifact that is stale or corrupt."""


class WeightsError(Kd2MobileError):
    """Weights that are missing, cannot be downloaded or do not fit the model."""


class TeacherError(Kd2MobileError):
    """A teacher that cannot teach: wrong classes, probabilities for logits, NaN in logits."""


class TrainingError(Kd2MobileError):
    """Training that cannot go on."""


class CompressionError(Kd2MobileError):
    """A student that cannot be compressed as asked."""


class ExportError(Kd2MobileError):
    """A model that does not convert, or a file that does not answer as its student does."""


class ModelFileError(Kd2MobileError):
    """A .tflite that cannot be measured."""


class DeviceError(Kd2MobileError):
    """A device that cannot be reached, or does not do what was asked of it."""


class RecordError(Kd2MobileError):
    """A file of records that cannot be read."""


class InstallationError(Kd2MobileError):
    """A machine on which the main chain cannot run."""


class OutOfMemoryError(Kd2MobileError):
    """Memory that does not suffice for what was requested."""


class WorkerError(Kd2MobileError):
    """A worker process that died at its work."""


class MissingExtraError(Kd2MobileError):
    """A part of the installation that this command needs and that is not there."""

    def __init__(self, where: str, package: str, extra: str):
        from kd2mobile.installation import install_command  # what it imports is needed nowhere else

        super().__init__(
            where,
            f"needs the package {package}",
            "an installation without it",
            f"Install it with `{install_command(extra)}`.",
        )


def raised_elsewhere(error: str, where: str, must: str, got: str | None, next_step: str) -> Kd2MobileError:
    """The error of that class that another process met, from its four parts; of a name that none has the base class.

    >>> raised_elsewhere("DataError", "photos", "must be a folder", None, "Check --data.")
    DataError('photos: must be a folder. Check --data.')
    """
    kinds = {kind.__name__: kind for kind in globals().values() if isinstance(kind, type)}
    kind = kinds.get(error, Kd2MobileError)
    kind = kind if issubclass(kind, Kd2MobileError) else Kd2MobileError
    fault = kind.__new__(kind)
    Kd2MobileError.__init__(fault, where, must, got, next_step)
    return fault
