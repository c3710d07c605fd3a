"""`show`: what teacher and student answer to one image: found in a run, run, softened and drawn.

The student is the run's student.keras, whose logits can be softened at any temperature; a .tflite answers with
probabilities at temperature 1 alone, and rounded ones if it is quantized. The teacher is teacher.keras where its
artifact stands in the store, else its stored logits, which know the run's own images only. A teacher that was given
as logits has no other, and knows each image whole.
"""

import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from kd2mobile import pixels
from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.data.split import Sample, Split, read_split
from kd2mobile.data.views import read_views
from kd2mobile.errors import ArtifactError, DataError, RecipeError
from kd2mobile.files import disk_errors, replaced, sha256_of, system_errors
from kd2mobile.losses import LOSSES
from kd2mobile.measure.roles import STUDENT
from kd2mobile.metrics import likeliest, softmax
from kd2mobile.pages.plots.bars import LIVE, STORED, ClassAnswers, DarkKnowledge, draw
from kd2mobile.progress import say
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import RECORD, fingerprint_of, open_artifact
from kd2mobile.store.output_files import check_apart, check_output, is_drawing, signature
from kd2mobile.store.run import Run, check_outside_data, check_outside_results, open_run
from kd2mobile.teachers.kinds import model_name, title, whole_images_only
from kd2mobile.text import count_of, did_you_mean
from kd2mobile.training.results import STUDENT_FILE
from kd2mobile.transfer.store import Transfer

MOST_TEMPERATURES, MOST_CLASSES = 8, 50


@dataclass(frozen=True)
class _Shown:
    """One image as both networks see it. sample: if it is one of the run's; view: a stored one, None: the whole.

    range: of the run's data, for a file of more than 8 bits.
    """

    file: Path
    sample: Sample | None
    view: int | None
    box: pixels.Box
    flip: bool
    range: pixels.Range | None


@system_errors()
def show(
    image: str | Path,
    *,
    run: Path | None = None,
    temperatures: list[float] | None = None,
    top: int = 5,
    view: int | None = None,
    png: Path | None = None,
    store: Path | None = None,
) -> DarkKnowledge:
    """The dark knowledge of one image: the teacher's top classes, softened, beside the student's; drawn as a PNG.

    image: an image file, or the id of a sample of the run, `class/name.png`. run: its folder, by default the newest.
    temperatures: 1 and the run's by default; 1 is always among them. top: classes of the teacher; the student's
    likeliest and the true one come after them if they are others. view: which stored view of a training image,
    from 0, instead of the whole. png: the file drawn, by default `<run>/show-<image>.png`. store: another one than
    the run's own. Raises Kd2MobileError.
    """
    opened = open_run(run, store)
    softened = _temperatures(opened, temperatures)
    _check_top(top)
    split = read_split(opened.artifact("split").folder)
    shown_image = _look(opened, split, image, view)
    target = _target(opened, shown_image, png)
    teacher, source = _teacher_logits(opened, split, shown_image)
    student = _student_logits(opened, shown_image)
    true = None if shown_image.sample is None else _true_class(split, shown_image.sample)
    rows, others = _rows(split.classes, teacher, student, softened, top, true)
    shown = DarkKnowledge(
        image=str(image),
        sample=shown_image.sample.path if shown_image.sample else None,
        split=shown_image.sample.split if shown_image.sample else None,
        view=shown_image.view,
        true_class=true,
        teacher=model_name(opened.recipe.teachers),
        teacher_from=source,
        student=opened.recipe.student.name,
        temperatures=softened,
        classes=rows,
        others=others,
        png=str(target),
    )
    drawn = draw(shown, _visible(shown_image))
    with disk_errors(target), replaced(target) as half:
        drawn.save(half, "png", optimize=True, pnginfo=signature())
    return shown


def _temperatures(run: Run, given: list[float] | None) -> list[float]:
    """At which temperatures the answers are shown: 1, which every network answers at, always among them."""
    distill = run.recipe.distill
    if given is None and "temperature" not in LOSSES[distill.loss].uses:
        say(f"temperature {distill.temperature:g}: the recipe's; the loss {distill.loss} does not use it")
    temperatures = [distill.temperature] if given is None else [float(number) for number in given]
    for number in temperatures:
        if not (math.isfinite(number) and number > 0):
            raise RecipeError("temperatures", "must be finite numbers above 0", number, "For example 1,2,4,8.")
    temperatures = list(dict.fromkeys(temperatures if 1.0 in temperatures else [1.0, *temperatures]))
    if len(temperatures) > MOST_TEMPERATURES:
        must = f"must be at most {MOST_TEMPERATURES}, with 1 among them"
        raise RecipeError("temperatures", must, len(temperatures), "Leave some out.")
    return temperatures


def _check_top(top: int) -> None:
    if not 1 <= top <= MOST_CLASSES:
        raise RecipeError("top", f"must be 1 to {MOST_CLASSES}", top, "The default is 5.")


def _look(run: Run, split: Split, image: str | Path, view: int | None) -> _Shown:
    file, sample = _find(run, split, image)
    if view is None:
        width, height = pixels.open_image(file, run.recipe.data.range).size
        return _Shown(
            file, sample, None, pixels.whole_box(width, height, run.recipe.data.resize), False, run.recipe.data.range
        )
    if sample is None or sample.split != "train":
        got = "an image that is not of the run" if sample is None else f"one of {sample.split}"
        raise RecipeError("view", "must be of a training image", got, "Leave it out: the whole image is shown.")
    views = read_views(run.artifact("views").folder, "train")
    if not 0 <= view < views.shape[1]:
        raise RecipeError(
            "view", f"must be 0 to {views.shape[1] - 1}", view, "It is one of the stored views of each image."
        )
    drawn = views[split.samples_of("train").index(sample), view]
    return _Shown(file, sample, view, pixels.Box(*drawn["box"].tolist()), bool(drawn["flip"]), run.recipe.data.range)


def _find(run: Run, split: Split, image: str | Path) -> tuple[Path, Sample | None]:
    """The image's file, and which sample of the run it is, by its content or by its id."""
    name = Path(image).as_posix()
    if Path(image).is_file():
        digest = sha256_of(Path(image))
        same = [sample for sample in split.samples if sample.sha256 == digest]
        own = [sample for sample in same if f"/{name}".endswith(f"/{sample.path}")]
        return Path(image), (own or same or [None])[0]
    sample = next((sample for sample in split.samples if sample.path == name), None)
    if sample is None:
        got = "a folder" if Path(image).is_dir() else "no such file and no such sample"
        hint = did_you_mean(name, (sample.path for sample in split.samples), cutoff=0.6)
        next_step = f"{hint}A sample's id is its path in the data, such as {split.samples_of('test')[0].path!r}."
        raise DataError(name, "must be an image file or the id of a sample of the run", got, next_step)
    return make_plan(run.recipe, run.store).root / sample.path, sample


def _true_class(split: Split, sample: Sample) -> str | None:
    return split.classes[sample.label] if sample.label in range(len(split.classes)) else None


def _target(run: Run, shown_image: _Shown, png: Path | None) -> Path:
    if png is None:
        suffix = "" if shown_image.view is None else f"-view{shown_image.view}"
        return run.folder / f"show-{PurePath(shown_image.file.name).stem}{suffix}.png"
    if Path(png).suffix.lower() != ".png" or not Path(png).parent.is_dir():
        raise RecipeError("png", "must be a .png file in an existing folder", png, "Create its folder first.")
    check_output(Path(png), "png", is_drawing)
    check_apart(Path(png), "png", {"the image": shown_image.file} if isinstance(shown_image.file, Path) else {})
    check_outside_results(Path(png), "png")
    check_outside_data(run.recipe, {"png": png})
    return Path(png)


def _teacher_logits(run: Run, split: Split, shown_image: _Shown) -> tuple[np.ndarray, str]:
    """float [classes], and where they come from: the teacher itself, or the transfer set."""
    transfer = run.artifact("transfer")
    folders = _teacher_folders(run, transfer.record["spec"]["inputs"])
    if folders and all((folder / RECORD).is_file() and (folder / "teacher.keras").is_file() for folder in folders):
        return _live_logits(run, folders, shown_image), LIVE
    given = [title(teacher.name) for teacher in run.recipe.teachers if whole_images_only(teacher.name)]
    if shown_image.sample is None and given:
        raise ArtifactError(
            shown_image.file,
            f"must be an image of the run, because its teacher, {given[0]}, was given as "
            "logits of the run's own images alone",
            "another image",
            f"Give one such as {split.samples_of('test')[0].path!r}, or distill a run with the teacher as a .keras "
            "file.",
        )
    if shown_image.sample is None:
        where = f" (it would be {' and '.join(folder.as_posix() for folder in folders)})" if folders else ""
        raise ArtifactError(
            shown_image.file,
            f"must be an image of the run, because its teacher is not in the store{where}",
            "another image",
            f"Give one such as {split.samples_of('test')[0].path!r}, or copy the teacher's artifact there.",
        )
    stored = Transfer(transfer.folder).logits(shown_image.sample.split)
    if shown_image.sample.split not in ("val", "test") and shown_image.view is None and not given:
        raise ArtifactError(
            shown_image.sample.path,
            "must be shown in a stored view, because it is a training image and the teacher is not in the store",
            "the whole image",
            f"Give --view 0 to --view {stored.shape[1] - 1}.",
        )
    index = split.samples_of(shown_image.sample.split).index(shown_image.sample)
    say(f"teacher   from its stored logits: {transfer.folder.as_posix()}")
    return np.asarray(stored.take(np.array([index]), np.array([shown_image.view or 0]))[0], np.float64), STORED


def _teacher_folders(run: Run, inputs: dict[str, Any]) -> list[Path]:
    """Where the artifact of each teacher stands, or would. inputs: the specs by name of what a transfer set is made of:
    a teacher, or several transfer sets that were combined."""
    members = [
        inputs[f"transfer-{number}"]["inputs"] for number in range(1, len(inputs)) if f"transfer-{number}" in inputs
    ]
    specs = [one["teacher"] for one in (members or [inputs]) if "teacher" in one]
    return [run.store.root / "teacher" / fingerprint_of(spec) for spec in specs]


def _live_logits(run: Run, folders: list[Path], shown_image: _Shown) -> np.ndarray:
    """float [classes]: what the teacher answers, or several combined by the run's mean."""
    load_keras()
    from kd2mobile.teachers.preprocess import preprocess
    from kd2mobile.teachers.teacher import check_logits, open_teacher
    from kd2mobile.transfer.combine import mixture_of

    answers = []
    for folder in folders:
        whole = open_artifact(folder, f"Remove {folder.as_posix()} and run `kd2mobile distill` again.")
        teacher, described = open_teacher(whole.folder)
        say(f"teacher   evaluated: {described.name} at {teacher.input_px} px, {whole.folder.as_posix()}")
        answers.append(_outputs(teacher.model, preprocess(_pixels(shown_image, teacher.input_px), teacher.preprocess)))
        check_logits(answers[-1][None], [str(shown_image.file)], teacher.where, teacher.known_logits)
    if len(answers) == 1:
        return answers[0]
    return mixture_of(run.artifact("transfer").folder).of(answers)


def _student_logits(run: Run, shown_image: _Shown) -> np.ndarray:
    """float [classes], of student.keras."""
    load_keras()
    import keras

    made = run.artifact(STUDENT.name)
    say(f"student   evaluated: {run.recipe.student.name} at {run.recipe.student.input_px} px, {made.folder.as_posix()}")
    model = keras.saving.load_model(made.folder / STUDENT_FILE, compile=False, safe_mode=True)
    return _outputs(model, pixels.to_student_input(_pixels(shown_image, run.recipe.student.input_px)))


def _outputs(model: Any, eaten: np.ndarray) -> np.ndarray:
    """float32 [classes]: what the Keras model says of one image. `predict` would compile it, for one answer.

    A file may have its one input in a list, and Keras warns of a tensor there: the model is called by its tensors.
    """
    import keras

    called = keras.Model(model.inputs[0], model.outputs[0])
    return keras.ops.convert_to_numpy(called(eaten[None], training=False))[0].astype(np.float32)


def _pixels(shown_image: _Shown, px: int) -> np.ndarray:
    return pixels.render(pixels.open_image(shown_image.file, shown_image.range), shown_image.box, px, shown_image.flip)


def _visible(shown_image: _Shown) -> Any:
    """The PIL image that is drawn: the whole one, or the part that the view shows."""
    image = pixels.open_image(shown_image.file, shown_image.range)
    if shown_image.view is None:
        return image
    sides = (image.width, image.height) * 2
    part = image.crop(tuple(round(end * side) for end, side in zip(shown_image.box, sides, strict=True)))
    return part.transpose(0) if shown_image.flip else part


def _rows(
    classes: list[str],
    teacher: np.ndarray,
    student: np.ndarray,
    temperatures: list[float],
    top: int,
    true: str | None,
) -> tuple[list[ClassAnswers], ClassAnswers | None]:
    """The classes shown, the teacher's likeliest first, and what is left for the others together."""
    by_teacher = np.stack([softmax(teacher / temperature) for temperature in temperatures])
    by_student = np.stack([softmax(student / temperature) for temperature in temperatures])
    order = likeliest(teacher, len(teacher)).tolist()
    added = {int(student.argmax())} | ({classes.index(true)} if true is not None else set())
    shown = [*order[:top], *(index for index in order[top:] if index in added)]
    rest = [index for index in order if index not in shown]

    def answer(name: str, indices: list[int]) -> ClassAnswers:
        return ClassAnswers(
            name, by_teacher[:, indices].sum(axis=1).tolist(), by_student[:, indices].sum(axis=1).tolist()
        )

    others = answer(count_of(len(rest), "other"), rest) if rest else None
    return [answer(classes[index], [index]) for index in shown], others
