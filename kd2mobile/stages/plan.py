"""The plan of a recipe: the steps of its stages, made from the table. images -> thumbnails -> split -> views -> ...

Nothing is made here but the images of an embedded source; a step is data, and the store decides what is missing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.errors import RecipeError
from kd2mobile.losses import LOSSES
from kd2mobile.measure.roles import ROLES, STUDENT, Role, trained_roles
from kd2mobile.progress import say
from kd2mobile.recipe.compose import weights_file
from kd2mobile.recipe.schema import Compress, Compression, Export, Recipe, Teacher
from kd2mobile.recipe.variants import Variant, variants_of
from kd2mobile.stages.table import OF_LABELLED, STAGES, UNLABELLED, Context, Images, Stage, needed_for
from kd2mobile.store.artifact import Step, Store
from kd2mobile.teachers.kinds import kind_of

if TYPE_CHECKING:
    from kd2mobile.data.sources.find import FoundImages
    from kd2mobile.data.sources.roots import Root


@dataclass(frozen=True)
class Plan:
    """The steps of one recipe.

    steps: of the labelled images by stage; unlabelled: of those without labels, if there are any. Of several teachers
    `teacher-1`, `transfer-1`, ... are each one's own, and `transfer` is their logits combined. students: by role,
    requested or not.
    """

    context: Context
    steps: dict[str, Step]
    unlabelled: dict[str, Step]
    students: dict[str, Step]

    @property
    def recipe(self) -> Recipe:
        return self.context.recipe

    @property
    def root(self) -> "Root":
        """What the ids of the labelled images are taken from."""
        return self.context.images.root

    @property
    def teachers(self) -> list[Step]:
        return [step for step in self.steps.values() if step.stage == "teacher"]

    @property
    def transfer_sets(self) -> list[Step]:
        """Every transfer set of the plan: those of the labelled images first."""
        steps = (*self.steps.values(), *self.unlabelled.values())
        return [step for step in steps if step.stage == "transfer"]

    @property
    def requested_students(self) -> dict[str, Step]:
        """The students that the recipe requests, by role."""
        distill = self.recipe.distill
        return {
            role.name: self.students[role.name]
            for role in trained_roles()
            if role.requested_by is None or getattr(distill, role.requested_by)
        }

    @property
    def references(self) -> dict[str, Step]:
        """Every step of it by the name under which a run refers to its artifact."""
        unlabelled = {f"unlabelled-{name}": step for name, step in self.unlabelled.items()}
        return self.steps | unlabelled | self.requested_students

    def exported(
        self, role: str, variant: Variant, export: Export | None = None, compress: Compress | None = None
    ) -> Step:
        """The .tflite of that student in that variant. Several precisions are built together: `api.export`.

        export, compress: other tables than the recipe's own.
        """
        given = {"student": self.compressed(role, variant.compression, compress), "split": self.steps["split"]}
        return step_of(STAGES["tflite"], self.context, given, variant=variant, export=export or self.recipe.export)

    def compressed(self, role: str, compression: Compression, compress: Compress | None = None) -> Step:
        """The student after that compression: the last of its methods' steps, each on the student before it."""
        from kd2mobile.compress.methods import CHAINS, check_compression

        check_compression(self.recipe.student.name, compression)
        recipe = _recipe_of(ROLES[role], self.recipe)
        recipe = msgspec.structs.replace(recipe, compress=compress or recipe.compress)
        context = replace(self.context, recipe=recipe)
        step = self.students[role]
        learned = step.inputs
        for index, method in enumerate(CHAINS[compression]):
            preserve = list(CHAINS[compression][:index])
            step = step_of(
                STAGES["compressed"], context, {**learned, "student": step}, method=method, preserve=preserve
            )
        return step


def make_plan(recipe: Recipe, store: Store) -> Plan:
    """The steps of the recipe. Looks at the images (a file that has not changed is not read again).

    Raises DataError for a folder that cannot be used, UnknownNameError for a name that no registry has, and for a
    teacher or a student that cannot be: TeacherError, RecipeError, WeightsError.
    """
    _check(recipe)
    labelled, unlabelled = _images_of(_images(recipe, store))
    context = Context(recipe, labelled)
    steps, beside = _steps_over(context, {}), {}
    if unlabelled and not LOSSES[recipe.distill.loss].needs_teacher:
        say(f"data.unlabelled: not used, because the loss `{recipe.distill.loss}` has no teacher")
    elif unlabelled:
        beside = _steps_over(Context(recipe, unlabelled), steps)
    students = {
        role.name: _student(replace(context, recipe=_recipe_of(role, recipe)), steps, beside)
        for role in trained_roles()
    }
    plan = Plan(context, steps, beside, students)
    for variant in variants_of(recipe.export):
        plan.exported(STUDENT.name, variant)  # refuses what no file can be made with, before anything is trained
    return plan


def plan_splits(recipe: Recipe, store: Store) -> list[tuple[Images, Step]]:
    """The recipe's images, those with labels first, and the step that splits each. Raises DataError, RecipeError."""
    labelled, unlabelled = _images_of(_images(recipe, store))
    up_to_split = needed_for("split")
    steps = _steps_over(Context(recipe, labelled), {}, up_to_split)
    splits = [(labelled, steps["split"])]
    if unlabelled:
        splits.append((unlabelled, _steps_over(Context(recipe, unlabelled), steps, up_to_split)["split"]))
    return splits


def step_of(stage: Stage, context: Context, inputs: dict[str, Step], **how: Any) -> Step:
    """The step of that stage. how: what its config and its build take besides."""
    build = partial(stage.build, context, **how)
    return Step(stage.name, stage.version, stage.config(context, **how), inputs, build, stage.up_to_date_note)


def _steps_over(context: Context, labelled: dict[str, Step], names: Collection[str] = STAGES) -> dict[str, Step]:
    """The steps before the student over the context's images, of the stages in names.

    labelled: the steps over the labelled images, where these have no labels: what is not built of their own is taken
    from there.
    """
    own: dict[str, Step] = {}
    for name, stage in STAGES.items():
        if name not in names or stage.images not in (("labelled", "both") if context.images.labelled else ("both",)):
            continue
        known = labelled | own
        if not stage.per_teacher:
            inputs = {read: known[read] for read in stage.reads} | _of_labelled(stage, context, labelled)
            own[name] = step_of(stage, context, inputs)
            continue
        teachers = context.recipe.teachers
        for teacher, number in zip(teachers, _numbers(teachers), strict=True):
            inputs = {read: known.get(read + number) or known[read] for read in stage.reads}
            inputs |= _of_labelled(stage, context, labelled)
            own[name + number] = step_of(stage, context, inputs, teacher=teacher)
        each = {name + number: own[name + number] for number in _numbers(teachers)}
        _check_apart(list(each.values()), context.recipe)
        if stage.combined and len(teachers) > 1:
            others = {read: known[read] for read in stage.combined.reads if read != name}
            own[name] = step_of(
                stage.combined, context, each | others | _of_labelled(stage.combined, context, labelled)
            )
    return own


def _of_labelled(stage: Stage, context: Context, labelled: dict[str, Step]) -> dict[str, Step]:
    """What a step over the unlabelled images reads of the labelled ones besides."""
    return {} if context.images.labelled else {OF_LABELLED + read: labelled[read] for read in stage.reads_labelled}


def _check_apart(teachers: list[Step], recipe: Recipe) -> None:
    """Raises RecipeError for two teachers that are the same network, such as members whose seed changes nothing."""
    if len({step.fingerprint for step in teachers}) == len(teachers):
        return
    members = recipe.ensemble.members
    where, got = ("ensemble.members", members) if members else ("teacher.name", "the same one twice")
    must = "must be networks that differ"
    step = (
        "A seed changes a teacher that is trained: `--teacher-weights none`, `--fine-tune-epochs 1` or "
        "`--set teacher.train_fraction=0.8`."
    )
    raise RecipeError(where, must, got, step)


def _numbers(teachers: Sequence[Teacher]) -> list[str]:
    """What stands behind the name of each one's steps: nothing for a single one."""
    return [""] if len(teachers) == 1 else [f"-{number}" for number, _ in enumerate(teachers, 1)]


def _student(context: Context, steps: dict[str, Step], unlabelled: dict[str, Step]) -> Step:
    """The student that the context's recipe trains: one on labels alone reads nothing of a teacher's."""
    if not LOSSES[context.recipe.distill.loss].needs_teacher:
        inputs = {read: steps[read] for read in STAGES["student"].reads if read != "transfer"}
    else:
        inputs = {read: steps[read] for read in STAGES["student"].reads}
        inputs |= {UNLABELLED + read: unlabelled[read] for read in STAGES["student"].reads_unlabelled if unlabelled}
    return step_of(STAGES["student"], context, inputs)


def _images_of(found: "FoundImages") -> tuple[Images, Images | None]:
    unlabelled = Images(found.unlabelled_root, found.unlabelled, labelled=False) if found.unlabelled else None
    return Images(found.root, found.scan), unlabelled


def check_student_weights(recipe: Recipe) -> None:
    """Finds out, before the teacher's hours, whether the student's weights can be had and fit.

    ImageNet weights are downloaded here, once. Raises WeightsError; RecipeError for more layers than there are.
    """
    from kd2mobile.students import build_student, freeze_all_but

    student = recipe.student
    if (student.weights, student.train_layers) != ("none", "all"):
        load_keras()
        model = build_student(student.name, student.input_px, 2, student.weights, recipe.distill.seed)
        freeze_all_but(model, student.train_layers)


def _images(recipe: Recipe, store: Store) -> "FoundImages":
    """The images that the recipe means; those of a name or of idx files are written into the store first."""
    from kd2mobile.data.sources.containers import source_at
    from kd2mobile.data.sources.find import find_images
    from kd2mobile.data.sources.named import resolve_sources
    from kd2mobile.data.sources.roots import several
    from kd2mobile.data.sources.scaled import scaled_source
    from kd2mobile.data.splits.groups import check_group_by, column_of
    from kd2mobile.pixels import checked_range

    data = recipe.data
    check_group_by(data.group_by)
    fields = {"train": "source", "val": "val_source", "test": "test_source"}
    given = {split: (f"data.{field}", getattr(data, field)) for split, field in fields.items()}
    placed = {split: resolve_sources(*named, store) for split, named in given.items() if named[1] is not None}
    unlabelled = None if data.unlabelled is None else [source_at(one) for one in several(data.unlabelled)]
    if data.range is not None:
        scaled = partial(scaled_source, value_range=checked_range(data.range, "data.range"), store=store)
        column = column_of(data.group_by)
        placed = {split: [scaled(source, key_column=column) for source in ones] for split, ones in placed.items()}
        unlabelled = unlabelled and [scaled(folder, labelled=False) for folder in unlabelled]
    called = {
        path: name for split in placed for path, name in zip(placed[split], several(given[split][1]), strict=True)
    }
    return find_images(placed, unlabelled, store.root / "hashes.json", called, column_of(data.group_by))


def _check(recipe: Recipe) -> None:
    """Everything about the names, sizes and files of a recipe that can be said before anything is built."""
    from kd2mobile.students import check_student, last_layers

    distill = recipe.distill
    loss = LOSSES[distill.loss]
    loss.own_options(distill)
    if recipe.data.unlabelled is not None and loss.rest_to_teacher and distill.hard_label_weight == 1:
        why = "At 1 only hard labels count, and these images have none. Lower it, or leave data.unlabelled out."
        raise RecipeError("distill.hard_label_weight", "must be below 1 with data.unlabelled", 1.0, why)
    check_student(recipe.student.name, recipe.student.input_px, recipe.student.weights)
    last_layers(recipe.student.train_layers)
    weights_file("student.weights", recipe.student.weights)
    for teacher in recipe.teachers:
        kind_of(teacher.name).check(teacher)


def _recipe_of(role: Role, recipe: Recipe) -> Recipe:
    """The recipe that a student of that role is trained by."""
    distill = msgspec.structs.replace(recipe.distill, **role.distill)
    return msgspec.structs.replace(recipe, distill=distill)
