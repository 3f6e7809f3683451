"""
What is typed after `benchmark`, and files of options: which values come out, and what is refused.
"""

import json
import math
from pathlib import Path

import click
import pytest

from xplique_forgrad.cli._commands import benchmark_command
from xplique_forgrad.cli._options import split_methods

TYPED = ("--model", "model.keras", "--images", ".")


def options_of(*arguments):
    """The options that the command would get."""
    with benchmark_command.make_context("benchmark", [str(one) for one in arguments]) as context:
        return context.params


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of options into the working directory, which holds the folder photographs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()

    def call(text, name="study.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return call


def test_defaults_are_those_of_the_function():
    found = options_of(*TYPED)
    assert found["models"] == ({"model": "model.keras"},)
    assert found["methods"] == ()
    assert found["controls"] == ("noise", "centre", "edges", "other_image", "phase", "untrained")
    assert (found["baselines"], found["patch_sizes"]) == ((0.0,), (1,))
    assert (found["sigmas"], found["choosing"], found["max_time"]) == (None, None, None)
    assert (found["steps"], found["mu_fidelity_samples"], found["stability"]) == (10, 200, 8)


@pytest.mark.parametrize(
    ("option", "text", "name", "value"),
    [
        ("--controls", "none", "controls", ()),
        ("--controls", "noise, edges", "controls", ("noise", "edges")),
        ("--controls", "noise edges", "controls", ("noise", "edges")),
        ("--sigmas", "2,5,10.5", "sigmas", (2, 5, 10.5)),
        ("--baseline", "mean", "baselines", ("mean",)),
        ("--baseline", "-1.5", "baselines", (-1.5,)),
        ("--max-time", "90s", "max_time", 90),
        ("--max-time", "45m", "max_time", 45 * 60),
        ("--max-time", "1.5h", "max_time", 5400),
        ("--max-time", "12", "max_time", 12),
        ("--mu-fidelity-samples", "0", "mu_fidelity_samples", 0),
    ],
)
def test_what_is_typed_is_read(option, text, name, value):
    assert options_of(*TYPED, option, text)[name] == value


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--controls", "noise,none", "'none' is not one of noise"),
        ("--controls", "nois", "'nois' is not one of noise"),
        ("--sigmas", "2;5", "'2;5' is no list of numbers"),
        ("--baseline", "grey", "'grey' is no number, and not one of zero, mean, blur, noise"),
        ("--baseline", "nan", "'nan' is no number"),
        ("--max-time", "soon", "'soon' is no time, such as 90s"),
        ("--max-time", "0", "'0' is no time"),
        ("--steps", "0", "0 is not in the range"),
    ],
)
def test_what_is_typed_wrongly_is_refused(option, text, message):
    with pytest.raises(click.BadParameter, match=message):
        options_of(*TYPED, option, text)


@pytest.mark.parametrize(
    ("text", "methods"),
    [
        ("Saliency", ["Saliency"]),
        ("Saliency Rise", ["Saliency", "Rise"]),
        (" Saliency;Rise ; VarGrad;", ["Saliency", "Rise", "VarGrad"]),
        (
            "SmoothGrad:nb_samples=20,noise=0.1 Rise:nb_samples=9, preservation_probability=0.5",
            [
                "SmoothGrad:nb_samples=20,noise=0.1",
                "Rise:nb_samples=9, preservation_probability=0.5",
            ],
        ),
        (" ; ", []),
    ],
)
def test_methods_are_separated_by_semicolons_or_spaces(text, methods):
    assert split_methods(text) == methods


WHOLE = {
    "models": [
        "imagenet:squeezenet",
        {"name": "mine", "model": "model.keras", "preprocessing": "unit", "crop": 0.9},
    ],
    "images": "photographs",
    "targets": "predicted",
    "limit": 20,
    "skip-unreadable": True,
    "methods": ["Saliency", "SmoothGrad:nb_samples=20,noise=0.1"],
    "controls": ["noise", "edges"],
    "baseline": [0, "mean"],
    "patch_size": [1, 8],
    "sigmas": [2, 5.5],
    "rectify": "none",
    "choosing": 8,
    "stability": 0,
    "max_time": "2h",
    "json": True,
    "progress": False,
}
AS_TOML = """
images = "photographs"
targets = "predicted"
limit = 20
skip-unreadable = true
methods = ["Saliency", "SmoothGrad:nb_samples=20,noise=0.1"]
controls = ["noise", "edges"]
baseline = [0, "mean"]
patch_size = [1, 8]
sigmas = [2, 5.5]
rectify = "none"
choosing = 8
stability = 0
max_time = "2h"
json = true
progress = false

[[models]]
model = "imagenet:squeezenet"

[[models]]
name = "mine"
model = "model.keras"
preprocessing = "unit"
crop = 0.9
"""


# what is JSON is YAML, too
@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", json.dumps(WHOLE)), ("a.yml", json.dumps(WHOLE)), ("a.toml", AS_TOML)],
)
def test_a_file_gives_what_typing_gives(write, name, text):
    found = options_of("--config", write(text, name))
    first, second = found.pop("models")
    assert first == {"model": "imagenet:squeezenet"}
    own = {"name": "mine", "model": "model.keras", "preprocessing": "unit", "crop_fraction": 0.9}
    assert second == own
    del found["config"]
    typed = options_of(
        *("--model", "model.keras", "--images", "photographs", "--targets", "predicted"),
        *("--limit", "20", "--skip-unreadable", "--controls", "noise,edges", "--baseline", "0"),
        *("--method", "Saliency", "--methods", "SmoothGrad:nb_samples=20,noise=0.1"),
        *("--baseline", "mean", "--patch-size", "1", "--patch-size", "8", "--sigmas", "2,5.5"),
        *("--rectify", "none", "--choosing", "8", "--stability", "0", "--max-time", "2h"),
        *("--json", "--no-progress"),
    )
    del typed["config"], typed["models"]
    assert found == typed


def test_what_is_typed_wins_over_the_file(write):
    path = write("images: photographs\nmodel: a.keras\nsteps: 5\nmethods: Rise\nseed: 3\n")
    found = options_of("--steps", "7", "--config", path, "--model", "b.keras")
    assert found["models"] == ({"model": "b.keras"},)
    assert (found["steps"], found["seed"], found["methods"]) == (7, 3, ("Rise",))
    assert found["images"] == Path("photographs")
    assert math.isclose(options_of("--config", path, "--max-time", "2m")["max_time"], 120)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 5", "study.yaml has an unknown option 'step'. Did you mean 'steps'? Options: "),
        ("config: b.yaml", "has an unknown option 'config'"),
        ("5: 5", "has an unknown option '5'"),
        ("steps: ten", "study.yaml: steps is the text 'ten'; give an integer."),
        ("steps: 2.5", "steps is the float 2.5; give an integer."),
        ("steps: true", "steps is the truth value True; give an integer."),
        ("steps: 0", "study.yaml: steps: 0 is not in the range x>=1"),
        ("steps:", "steps is empty; give an integer."),
        ("crop: yes", "crop is the truth value True; give a number."),
        ("skip-unreadable: 1", "skip-unreadable is the int 1; give true or false."),
        ("window: [disk]", "window is the list ['disk']; give text."),
        ("rectify: no", "rectify is the truth value False; give text."),
        ("window: dish", "window: 'dish' is not one of 'disk'"),
        ("controls: [noise, nose]", "study.yaml: controls: 'nose' is not one of noise"),
        ("baselines: [0, grey]", "study.yaml: baselines: 'grey' is no number"),
        ("baselines: [true]", "baselines is the truth value True; give a number or a name."),
        ("sigmas: [2, x]", "sigmas: [2, 'x'] is no list of numbers"),
        ("max-time: soon", "max-time: 'soon' is no time"),
        ("methods: []", "methods is an empty list; give a value, or leave it out."),
        ("images: nowhere", "study.yaml: images: Directory 'nowhere' does not exist."),
        ("baseline: 0\nbaselines: [1]", "has both 'baseline' and 'baselines'"),
        ("models: [{preprocessing: unit}]", "study.yaml: models has an entry without 'model'"),
        (
            "models: [{model: a.keras, preprocesing: unit}]",
            "models has an unknown option 'preprocesing'. Did you mean 'preprocessing'?",
        ),
        (
            "models: [{model: a.keras, crop: 2}]",
            "models: crop: 2.0 is not in the range",
        ),
        ("models: [3]", "models is the int 3; give a model, or a mapping of its options."),
        ("models: [{model: 3}]", "study.yaml: models: model is the int 3; give text."),
        ("[1, 2]", "study.yaml is the list [1, 2]; write options by name"),
        ("", "study.yaml is empty; write options by name"),
        ("images: [", "study.yaml cannot be read: while parsing"),
    ],
)
def test_mistakes_in_a_file_are_named(write, text, message):
    path = write(text)
    with pytest.raises(click.UsageError) as found:
        options_of("--config", path, *TYPED)
    assert message in found.value.format_message()
    assert "study.yaml" in found.value.format_message()


def test_a_file_of_another_kind_is_refused(write):
    with pytest.raises(click.UsageError, match="give a file in .yaml, .yml, .toml"):
        options_of("--config", write("{}", "study.json"), *TYPED)
    with pytest.raises(click.UsageError, match="study.toml cannot be read"):
        options_of("--config", write("images: a", "study.toml"), *TYPED)


def test_what_a_file_lacks_is_said_with_its_name(write):
    path = write("images: photographs")
    with pytest.raises(click.UsageError, match="study.yaml has no 'models', and no --model is"):
        options_of("--config", path)
    path = write("model: a.keras")
    with pytest.raises(click.UsageError, match="study.yaml has no 'images', and no --images is"):
        options_of("--config", path)
    with pytest.raises(click.MissingParameter):
        options_of("--images", ".")
