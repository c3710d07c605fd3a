"""The dark knowledge of one image, on a run of two tiny networks whose answers NumPy derives again."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.data.split import read_split
from kd2mobile.data.views import read_views
from kd2mobile.errors import ArtifactError, DataError, ImageError, RecipeError
from kd2mobile.pages.plots import bars
from kd2mobile.pages.plots.bars import WIDTH_PX
from kd2mobile.recipe.compose import compose
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import start_run
from tests.made_results import STUDENT

CLASSES, TEACHER_PX, STUDENT_PX = ["ant", "bee", "été 字"], 12, 8
TEMPERATURE = 3.0


def write_teacher(folder, inputs):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Rescaling(0.02), keras.layers.Flatten(), keras.layers.Dense(3)]
    teacher = keras.Sequential([keras.Input((TEACHER_PX, TEACHER_PX, 3)), *layers])
    keras.Model(teacher.inputs, teacher.outputs).save(folder / "teacher.keras")  # as the stage writes it: in lists
    described = {
        "name": "tiny",
        "input_px": TEACHER_PX,
        "preprocess": "none",
        "classes": CLASSES,
        "val": {"n": 2, "top1": 0.5, "logloss": 1.0},
    }
    (folder / "teacher.json").write_text(json.dumps(described))
    return {}


def write_student(folder, inputs):
    keras.utils.set_random_seed(2)
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential([keras.Input((STUDENT_PX, STUDENT_PX, 3)), *layers]).save(folder / "student.keras")
    (folder / "history.jsonl").write_text('{"epoch": 1, "val_top1": 0.5}\n')
    return STUDENT


def make_run(place, given=None):
    """`run/` and `store/` as the stages leave them, the two networks untrained and of one layer; `photos/`.

    given: the teacher's logits instead of a network, as an .npz file in `place`.
    """
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (place / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (9, 14, 3), np.uint8)
            Image.fromarray(pixels).save(place / "photos" / name / f"{number}.png")
    settings = {
        **{"data.source": str(place / "photos"), "data.val": 0.25, "data.test": 0.25, "views.count": 2},
        **({} if given else {"teacher.name": "mobilenet", "teacher.weights": "none", "teacher.input_px": 32}),
        **{"student.name": "small_cnn", "student.weights": "none", "student.input_px": STUDENT_PX},
        **{"distill.temperature": TEMPERATURE},
    }
    if given:
        del settings["views.count"]
        settings |= {"teacher.name": str(place / given)}
    recipe, store = compose(settings=settings), Store(place / "store")
    run, plan = start_run(recipe, place / "run", place / "store"), make_plan(recipe, store)
    steps = {
        "split": plan.steps["split"],
        "views": plan.steps["views"],
        "teacher": plan.steps["teacher"] if given else replace(plan.steps["teacher"], build=write_teacher),
        "transfer": plan.steps["transfer"],
        "student": replace(plan.students["student"], build=write_student),
    }
    run.refer({role: store.make(step).folder for role, step in steps.items()})
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = tmp_path_factory.mktemp("show")
    make_run(made)
    return made


@pytest.fixture
def place(made, tmp_path):
    """The test's own copy."""
    return shutil.copytree(made, tmp_path / "show")


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)
    return place / "run"


@pytest.fixture
def no_teacher(place):
    """The store without the teacher's artifact."""
    folder = next((place / "store" / "teacher").glob("[!.]*"))
    folder.rename(place / "aside")


def samples(place, name):
    return read_split(next((place / "store" / "split").glob("[!.]*"))).samples_of(name)


def derived(place, image, temperature, box=None, flip=False):
    """Teacher's and student's probabilities by NumPy and Pillow: float64 [classes] each, in the order of CLASSES."""
    answers = []
    for stage, px, scale, shift in (("teacher", TEACHER_PX, 0.02, 0), ("student", STUDENT_PX, 1 / 127.5, -1)):
        aside = stage == "teacher" and (place / "aside").exists()
        folder = place / "aside" if aside else next((place / "store" / stage).glob("[!.]*"))
        model = keras.saving.load_model(folder / f"{stage}.keras")
        weights, bias = (np.asarray(w, np.float64) for w in model.get_weights())
        with Image.open(image) as opened:
            width, height = opened.size
            part = None if box is None else (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
            seen = np.asarray(opened.resize((px, px), Image.Resampling.BILINEAR, box=part), np.float64)
        seen = seen[:, ::-1] if flip else seen
        logits = (seen * scale + shift).reshape(-1) @ weights + bias
        powers = np.exp(logits / temperature)
        answers.append(powers / powers.sum())
    return answers


def assert_derived(shown, place, image, tolerance=1e-5, **view):
    for number, temperature in enumerate(shown.temperatures):
        teacher, student = derived(place, image, temperature, **view)
        for row in shown.classes:
            index = CLASSES.index(row.name)
            assert row.teacher[number] == pytest.approx(teacher[index], abs=tolerance), (row.name, temperature)
            assert row.student[number] == pytest.approx(student[index], abs=1e-5), (row.name, temperature)


def test_a_test_image_by_its_id(run, place):
    sample = samples(place, "test")[0]
    shown = kd2mobile.show(sample.path, run=run)
    assert (shown.sample, shown.split, shown.true_class) == (sample.path, "test", CLASSES[sample.label])
    assert shown.temperatures == [1.0, TEMPERATURE] and shown.teacher_from == "teacher.keras"
    assert len(shown.classes) == 3
    firsts = [row.teacher[0] for row in shown.classes]
    assert firsts == sorted(firsts, reverse=True) and shown.others is None
    assert_derived(shown, place, place / "photos" / sample.path)


def test_an_image_from_elsewhere_and_the_classes_added_after_the_top(run, place, tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (30, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    shown = kd2mobile.show(tmp_path / "mine.png", run=run, top=1, temperatures=[2, 8])
    assert shown.temperatures == [1, 2, 8] and shown.sample is shown.true_class is None
    assert_derived(shown, place, tmp_path / "mine.png")
    teacher, student = derived(place, tmp_path / "mine.png", 1)
    assert {row.name for row in shown.classes} == {CLASSES[teacher.argmax()], CLASSES[student.argmax()]}
    rest = 1 - sum(row.teacher[2] for row in shown.classes)
    assert shown.others is not None and shown.others.teacher[2] == pytest.approx(rest, abs=1e-6)


def test_a_file_of_the_run_is_known_by_its_content_and_shown_in_a_view(run, place, tmp_path):
    sample = samples(place, "train")[1]
    shutil.copy(place / "photos" / sample.path, tmp_path / "copy.png")
    shown = kd2mobile.show(tmp_path / "copy.png", run=run, view=1, png=tmp_path / "v.png")
    assert (shown.sample, shown.split, shown.view) == (sample.path, "train", 1)
    view = read_views(next((place / "store" / "views").glob("[!.]*")), "train")[1, 1]
    assert_derived(shown, place, tmp_path / "copy.png", box=view["box"].tolist(), flip=bool(view["flip"]))


def test_without_the_teacher_its_stored_logits_answer(run, place, no_teacher):
    sample = samples(place, "val")[0]
    shown = kd2mobile.show(place / "photos" / sample.path, run=run)
    assert shown.teacher_from == "transfer set" and shown.sample == sample.path
    assert_derived(shown, place, place / "photos" / sample.path, tolerance=2e-3)  # they are float16
    train = samples(place, "train")[2]
    shown = kd2mobile.show(train.path, run=run, view=0)
    view = read_views(next((place / "store" / "views").glob("[!.]*")), "train")[2, 0]
    box, flip = view["box"].tolist(), bool(view["flip"])
    assert_derived(shown, place, place / "photos" / train.path, tolerance=2e-3, box=box, flip=flip)


def test_the_command_prints_the_table_and_draws_the_image(run, place, capsys):
    sample = samples(place, "test")[0]
    assert main_status(["show", sample.path, "--run", str(run), "--quiet"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == sample.path and lines[1].startswith(f"test image, true class {CLASSES[sample.label]};")
    assert "T = 1" in lines[4] and lines[4].count("T = 3") == 2
    assert sum(line.count("(true)") for line in lines) == 1 and len(lines) == 10
    file = run / f"show-{(place / sample.path).stem}.png"
    assert lines[-1] == f"Written: {file}." and "Traceback" not in said.err
    with Image.open(file) as drawn:
        assert drawn.format == "PNG" and drawn.width == WIDTH_PX and 300 < drawn.height < 500
        pixels = np.asarray(drawn.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    assert not [p for p in run.iterdir() if p.name.endswith(".part")]


def test_json_and_many_temperatures(run, place, tmp_path, capsys):
    sample = samples(place, "test")[1]
    arguments = ["show", sample.path, "--run", str(run), "--json", "--png", str(tmp_path / "row.png"), "--top", "2"]
    assert main_status([*arguments, "--temperatures", "1,2,4,8,16,32,64"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["temperatures"] == [1, 2, 4, 8, 16, 32, 64] and shown["png"] == str(tmp_path / "row.png")
    assert all(len(row["teacher"]) == len(row["student"]) == 7 for row in shown["classes"])
    with Image.open(tmp_path / "row.png") as drawn:
        assert drawn.width > WIDTH_PX, "narrow columns cannot be read: the image grows"


def bar_lengths(shown, tmp_path, colour):
    """How many pixels of that colour each column has in its middle line, from left to right."""
    with Image.open(shown.png) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    found = (pixels == colour).all(axis=2)
    line = found[found.sum(axis=1).argmax()].astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line, [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_bars_are_as_long_as_their_probabilities(run, place, tmp_path):
    """Of the teacher's first class, whose colour is (10, 98, 196): at T = 1, at T = 3, then the student's likewise."""
    shown = kd2mobile.show(samples(place, "test")[0].path, run=run, png=tmp_path / "bars.png")
    first = shown.classes[0]
    wanted = [*first.teacher, *first.student]
    assert min(wanted) > 0.02, "each has a bar to measure"
    lengths = bar_lengths(shown, tmp_path, (10, 98, 196))
    whole = lengths[0] / wanted[0]
    assert lengths == pytest.approx([whole * value for value in wanted], abs=1.01)


def test_names_that_no_font_has_are_escaped():
    assert bars._readable("plain", 17)[0] is bars._fonts(17)[0]
    assert bars._readable("été", 17)[1] == "été", "matplotlib's font has it"
    assert bars._readable("été \ue123", 17)[1] == "été \\ue123"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.png"], "nothing.png: must be an image file or the id of a sample of the run, got no such file and"),
        (["photos"], "photos: must be an image file or the id of a sample of the run, got a folder. A sample's id is"),
        (["ant/99.png"], "Did you mean 'ant/"),
        (["broken.png"], "broken.png: must be a readable image, got UnidentifiedImageError"),
        (["mine.png", "--temperatures", "0,2"], "temperatures: must be finite numbers above 0, got 0.0. For example"),
        (
            ["mine.png", "--temperatures", "nan"],
            "--temperatures: must be a list of finite numbers separated by commas, got 'nan'.",
        ),
        (
            ["mine.png", "--temperatures", "a"],
            "kd2mobile show, --temperatures: must be a list of finite numbers separated by",
        ),
        (
            ["mine.png", "--temperatures", "2,3,4,5,6,7,8,9"],
            "temperatures: must be at most 8, with 1 among them, got 9",
        ),
        (["mine.png", "--top", "0"], "top: must be 1 to 50, got 0."),
        (["mine.png", "--view", "0"], "view: must be of a training image, got an image that is not of the run."),
        (["TRAIN", "--view", "2"], "view: must be 0 to 1, got 2."),
        (["TEST", "--view", "0"], "view: must be of a training image, got one of test."),
        (["mine.png", "--png", "no/x.png"], "--png: must be a file in an existing folder, got no/x.png."),
        (["mine.png", "--png", "x.jpg"], "png: must be a .png file in an existing folder, got x.jpg."),
        (["mine.png", "--run", "gone"], "gone: must hold a run, got none. Make one with `kd2mobile distill`"),
        ([], "kd2mobile show: must be given IMAGE, got none. See `kd2mobile show --help`."),
    ],
)
def test_bad_input(run, place, capsys, arguments, said):
    Image.new("RGB", (9, 9), "red").save(place / "mine.png")
    (place / "broken.png").write_text("no image")
    known = {"TRAIN": samples(place, "train")[0].path, "TEST": samples(place, "test")[0].path}
    arguments = [known.get(argument, argument) for argument in arguments]
    assert main_status(["show", "--run", str(run), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err.splitlines()[-1] and "Traceback" not in err


def test_without_the_teacher_it_says_which_images_can_be_shown(run, place, no_teacher, capsys):
    Image.new("RGB", (9, 9), "red").save(place / "mine.png")
    assert main_status(["show", "mine.png", "--run", str(run)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "mine.png: must be an image of the run, because its teacher is not in the store (it would be " in said
    assert "store/teacher/" in said and "Give one such as" in said
    train = samples(place, "train")[0].path
    with pytest.raises(ArtifactError, match="must be shown in a stored view.*Give --view 0 to --view 1"):
        kd2mobile.show(train, run=run)


def test_a_teacher_given_as_logits_shows_each_image_of_the_run_whole(tmp_path, monkeypatch, capsys):
    ids = [f"{name}/{number}.png" for name in CLASSES for number in range(8)]
    logits = np.random.default_rng(3).normal(0, 2, (len(ids), 3)).astype(np.float32)
    logits += 4 * np.repeat(np.eye(3, dtype=np.float32), 8, axis=0)  # it knows its classes, or it would be refused
    np.savez(tmp_path / "mine.npz", sample_ids=ids, class_names=CLASSES, logits=logits)
    run = make_run(tmp_path, given="mine.npz")
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        sample = samples(tmp_path, name)[0]
        shown = kd2mobile.show(tmp_path / "photos" / sample.path, run=run.folder)
        assert (shown.sample, shown.split, shown.view) == (sample.path, name, None)
        assert shown.teacher_from == "transfer set"
        powers = np.exp(logits[ids.index(sample.path)].astype(np.float64))
        wanted = dict(zip(CLASSES, powers / powers.sum(), strict=True))
        assert {row.name: row.teacher[0] for row in shown.classes} == pytest.approx(wanted, abs=2e-3)
    capsys.readouterr()
    Image.new("RGB", (9, 9), "red").save("other.png")
    assert main_status(["show", "other.png", "--run", "run"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "must be an image of the run, because its teacher, mine.npz, was given as logits of the run's" in said
    assert "or distill a run with the teacher as a .keras file" in said and "store" not in said


def test_a_damaged_or_missing_artifact_is_said(run, place):
    Image.new("RGB", (9, 9), "red").save(place / "mine.png")
    student = next((place / "store" / "student").glob("[!.]*")) / "student.keras"
    whole = student.read_bytes()
    student.write_bytes(whole[:-1])
    with pytest.raises(ArtifactError, match="must be undamaged, got damaged student.keras. `kd2mobile distill"):
        kd2mobile.show("mine.png", run=run)
    with pytest.raises(ArtifactError, match="must be in the store, got no such artifact"):
        kd2mobile.show("mine.png", run=run, store=place / "elsewhere")
    half = make_half_run(place)
    with pytest.raises(ArtifactError, match="half: must have a split, got none. `kd2mobile distill --recipe"):
        kd2mobile.show("mine.png", run=half)


def test_a_loss_without_a_temperature_is_said(run, place, capsys):
    shutil.copytree(place / "run", place / "logits")
    recipe = place / "logits" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('loss = "kd"', 'loss = "logits"'))
    record = json.loads((place / "logits" / "run.json").read_text())
    (place / "logits" / "run.json").write_text(json.dumps(record | {"recipe_sha256": None}))
    shown = kd2mobile.show(samples(place, "test")[0].path, run=place / "logits")
    assert shown.temperatures == [1.0, TEMPERATURE]
    assert "temperature 3: the recipe's; the loss logits does not use it" in capsys.readouterr().err


def make_half_run(place):
    """A run whose distill was stopped before anything was referred to."""
    shutil.rmtree(place / "half", ignore_errors=True)
    (place / "half").mkdir()
    shutil.copy(place / "run" / "recipe.toml", place / "half")
    record = json.loads((place / "run" / "run.json").read_text())
    (place / "half" / "run.json").write_text(json.dumps(record | {"artifacts": {}}))
    return place / "half"


def test_the_errors_are_of_their_kinds(run, place):
    (place / "broken.png").write_text("no image")
    with pytest.raises(ImageError):
        kd2mobile.show("broken.png", run=run)
    with pytest.raises(DataError):
        kd2mobile.show("gone.png", run=run)
    with pytest.raises(RecipeError):
        kd2mobile.show("broken.png", run=run, temperatures=[-1])
