import pytest

from kd2mobile.api.start import all_settings
from kd2mobile.cli.options import settings as typed_settings
from kd2mobile.errors import RecipeError, UnknownNameError, WeightsError
from kd2mobile.recipe import compose as composing
from kd2mobile.recipe.compose import FLAGS, compose, weights_file
from kd2mobile.recipe.schema import TABLES, fields
from kd2mobile.recipe.toml import assignment, built_in, read_tables, write_recipe
from kd2mobile.store.run import open_run, start_run
from kd2mobile.teachers.kinds import whole_images_only


def test_without_data_it_is_the_demo():
    demo = compose()
    assert (demo.data.source, demo.teacher.name, demo.teacher.weights) == ("digits", "xception", "none")
    assert (demo.teacher.input_px, demo.student.input_px, demo.views.flip) == (71, 32, False)
    assert demo.teacher.epochs <= 4


def test_with_data_the_defaults_are_those_of_the_readme():
    photos = compose(settings={"data.source": "photos/"})
    assert (photos.teacher.name, photos.teacher.weights, photos.teacher.input_px) == ("xception", "imagenet", None)
    assert (photos.student.name, photos.student.weights, photos.student.input_px) == ("mobilenet025", "imagenet", 128)
    assert (photos.views.count, photos.distill.epochs) == (4, 30)


def test_the_file_goes_over_the_built_in_recipe_and_settings_over_both(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text("[distill]\ntemperature = 2\nepochs = 3\n")
    composed = compose(file, {"distill.temperature": 8})
    assert (composed.distill.temperature, composed.distill.epochs, composed.teacher.input_px) == (8.0, 3, 71)


def test_a_written_recipe_is_read_back_the_same(tmp_path):
    for settings in ({}, {"data.source": "photos", "teacher.input_px": 224, "export.precisions": ["int8"]}):
        write_recipe(compose(settings=settings), tmp_path / "r.toml")
        assert compose(tmp_path / "r.toml") == compose(settings=settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"distill.temperature": -1.0},
            "settings, distill.temperature: must be a number from 0.01 to 10,000, got -1.0. "
            "Divides the logits before the softmax: a higher temperature gives softer targets. The default is 4.0.",
        ),
        ({"distill.temperatur": 1}, "Did you mean 'temperature'?"),
        ({"distil.temperature": 1}, "Did you mean 'distill'?"),
        ({"temperature": 1}, "known names, got 'temperature'. Did you mean 'distill.temperature'?"),
        ({"distill.Temperature": 1}, "Did you mean 'temperature'?"),
        (
            {"distill.temperature": float("inf")},
            "settings, distill.temperature: must be a finite number, got inf. Divides",
        ),
        ({"distill.learning_rate": float("nan")}, "settings, distill.learning_rate: must be a finite number, got nan."),
        ({"data.val": float("nan")}, "settings, data.val: must be a finite number, got nan."),
        ({"export.precisions": ["int9"]}, "must be one of fp32, fp16, int8_dynamic, int8, int16x8, got int9."),
        ({"data.resize": "squash"}, "must be one of crop, stretch, pad, got 'squash'"),
        (
            {"teacher.input_px": "big"},
            "settings, teacher.input_px: must be a whole number from 1 to 2,048, or left out, got 'big'",
        ),
        (
            {"teacher.preprocess": "zscore"},
            "settings, teacher.preprocess: must be one of tf, torch, caffe, none, or left out",
        ),
        ({"distill.epochs": 0}, "settings, distill.epochs: must be a whole number from 1 to 100,000, got 0"),
        ({"distill.baseline": 3}, "settings, distill.baseline: must be true or false, got 3"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_to_do(settings, message):
    with pytest.raises((RecipeError, UnknownNameError)) as caught:
        compose(settings=settings)
    assert message in str(caught.value)


def test_a_wrong_file_is_named(tmp_path):
    file = tmp_path / "r.toml"
    with pytest.raises(RecipeError, match=r"r.toml: must be a readable recipe, got No such file"):
        read_tables(file)
    file.write_text("[distill\n")
    with pytest.raises(RecipeError, match=r"r.toml: must be TOML in UTF-8"):
        compose(file)
    file.write_text("distill = 3\n")
    with pytest.raises(RecipeError, match=r"r.toml, distill: must be a table, got 3"):
        compose(file)
    file.write_text("[distill]\nepochs = 'x'\n")
    with pytest.raises(RecipeError, match=r"r.toml, distill.epochs: must be a whole number from 1 to 100,000, got 'x'"):
        compose(file)


def test_a_file_that_notepad_saved_is_read(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text("[distill]\nepochs = 3\n", "utf-8-sig")
    assert compose(file).distill.epochs == 3


def test_a_teacher_from_a_file_takes_nothing_from_the_demo(tmp_path):
    file = tmp_path / "r.toml"
    file.write_text("[teacher]\nname = 'my.keras'\nseed = 5\n")
    for composed in (
        compose(file),
        compose(file, {"data.source": "digits"}),
        compose(settings={"teacher.name": "x.keras"}),
    ):
        assert (composed.teacher.input_px, composed.teacher.weights) == (None, "imagenet")
        assert (composed.student.weights, composed.views.flip) == ("none", False), "the rest is the demo's"
    assert compose(file).teacher.seed == 5
    assert compose(file, {"teacher.name": "mobilenet"}).teacher.input_px == 71
    write_recipe(compose(file), tmp_path / "written.toml")
    assert compose(tmp_path / "written.toml") == compose(file)


def test_none_cannot_unset_a_value_of_the_built_in_recipe(tmp_path):
    with pytest.raises(RecipeError) as caught:
        compose(settings={"teacher.input_px": None})
    assert str(caught.value) == (
        "settings, teacher.input_px: must be a value: the built-in recipe has 71, and no recipe file can say None. "
        "Give a value, or leave it out."
    )
    for settings in ({"data.source": "photos"}, {"teacher.name": "x.keras"}):
        composed = compose(settings=settings | {"teacher.input_px": None})
        write_recipe(composed, tmp_path / "written.toml")
        assert composed.teacher.input_px is None and compose(tmp_path / "written.toml") == composed


def test_a_teacher_of_logits_means_whole_images(tmp_path):
    for settings in ({}, {"data.source": "photos"}, {"views.count": 1, "views.flip": False, "views.smallest_area": 1}):
        composed = compose(None, {"teacher.name": "logits.npz", **settings}, whole_images_only)
        assert (composed.views.count, composed.views.smallest_area, composed.views.flip) == (1, 1.0, False)
        assert (composed.teacher.weights, composed.teacher.input_px) == ("imagenet", None), "nothing of the demo's"
        write_recipe(composed, tmp_path / "r.toml")
        assert compose(tmp_path / "r.toml") == composed


@pytest.mark.parametrize(("field", "value", "only"), [("count", 4, "1"), ("flip", True, "false")])
def test_other_views_of_a_teacher_of_logits_are_refused(tmp_path, field, value, only):
    message = f", views.{field}: must be {only} with the teacher logits.npz, whose logits are of whole images"
    with pytest.raises(RecipeError) as caught:
        compose(None, {"teacher.name": "logits.npz", f"views.{field}": value}, whole_images_only)
    assert str(caught.value).startswith(f"settings{message}") and f"got {value}. Leave it out" in str(caught.value)
    file = tmp_path / "r.toml"
    file.write_text(f"[views]\n{field} = {str(value).lower()}\n[teacher]\nname = 'logits.npz'\n")
    with pytest.raises(RecipeError, match=f"r.toml{message}"):
        compose(file, None, whole_images_only)


def test_a_weights_field_is_a_word_or_a_file(tmp_path):
    (tmp_path / "body.h5").touch()
    assert weights_file("teacher.weights", "imagenet") is weights_file("student.weights", "none") is None
    assert weights_file("student.weights", str(tmp_path / "body.h5")) == tmp_path / "body.h5"
    for weights, got in ((str(tmp_path), "a folder"), ("imagnet", "no such file")):
        with pytest.raises(WeightsError) as caught:
            weights_file("student.weights", weights)
        assert str(caught.value) == (
            f"student.weights, {weights}: must be a weights file, `imagenet` or `none`, got {got}. "
            "Check the path, or use `--student-weights none` to train from scratch."
        )


def test_assignments():
    assert assignment("distill.temperature=4") == ("distill.temperature", 4)
    assert assignment("data.source=photos/a=b") == ("data.source", "photos/a=b")
    assert assignment('export.precisions=["int8"]') == ("export.precisions", ["int8"])
    with pytest.raises(RecipeError, match=r"--set: must be FIELD=VALUE, got 'x'"):
        assignment("x")


def test_every_field_is_described_and_every_flag_is_a_field():
    known = fields()
    assert all(field.description.endswith(".") for field in known.values())
    assert set(FLAGS.values()) <= known.keys()
    assert set(built_in("digits")) <= TABLES.keys()


def test_each_value_is_checked_once_where_it_comes_in_and_keeps_its_origin(tmp_path, monkeypatch):
    checked = []
    check_value = composing._check_value
    monkeypatch.setattr(composing, "_check_value", lambda *what: (checked.append(what), check_value(*what)))
    (tmp_path / "r.toml").write_text("[distill]\nepochs = 3\n")
    typed = typed_settings({"temperature": 2.0, "precision": "fp32,int8"}, ("distill.patience=5",))
    given = all_settings(typed, {"seed": 7})
    recipe = compose(tmp_path / "r.toml", given)
    assert (recipe.distill.temperature, recipe.distill.patience, recipe.distill.epochs) == (2.0, 5, 3)
    assert sorted((name, origin) for name, _, origin in checked) == [
        ("distill.epochs", str(tmp_path / "r.toml")),
        ("distill.patience", "--set"),
        ("distill.seed", "keyword seed"),
        ("distill.temperature", "--temperature"),
        ("export.precisions", "--precision"),
    ]
    run = start_run(compose(settings=given.without(("export",))), tmp_path / "run", tmp_path / "store")
    checked.clear()
    later = typed_settings({"precision": "fp16", "per_tensor": True})
    assert open_run(run.folder, None, later).recipe.export.precisions == ("fp16",)
    assert [origin for name, _, origin in checked if name.startswith("export.")].count("--precision") == 1


def test_a_later_check_names_what_gave_the_value():
    given = typed_settings({"teacher": "x.npz", "views": 4})
    with pytest.raises(RecipeError, match=r"^--views, views.count: must be 1 with the teacher x.npz"):
        compose(None, given, lambda teacher: teacher.endswith(".npz"))
