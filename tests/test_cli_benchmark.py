"""
The command `benchmark`, end to end but for the work, which a stand-in notes down.
"""

import json
import shutil
import textwrap

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import xplique_forgrad.benchmark
from xplique_forgrad.demo import load_images

DEMO = "xplique_forgrad.demo:load_classifier"
OWN = ("benchmark", "--model", DEMO, "--preprocessing", "unit")


class FakeResult:
    verdict = "Filtering helps Saliency."

    def to_frame(self):
        return pd.DataFrame(
            {"method": ["Saliency"], "insertion": [0.123456789012345], "sigma": [np.nan]}
        )

    def to_markdown(self):
        return "| method |\n|---|\n| Saliency |"

    def to_latex(self):
        return "\\begin{tabular}é"

    def report(self, path):
        path.write_text("page", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders of 8 images of the demonstration."""
    root = tmp_path_factory.mktemp("photographs")
    inputs, targets, _ = load_images(8, seed=9)
    for index, (image, target) in enumerate(zip(inputs, targets)):
        place = root / str(np.argmax(target))
        place.mkdir(exist_ok=True)
        picture = Image.fromarray(np.round(image * 255).astype(np.uint8))
        picture.save(place / f"{index:02d}.png")
    return root


@pytest.fixture
def calls(monkeypatch):
    """Arguments of the benchmarks that were run."""
    found = []

    def stand_in(models, inputs, targets=None, methods=None, **options):
        print("progress")
        found.append({"models": models, "inputs": inputs, "methods": methods, **options})
        assert targets is None
        return FakeResult()

    monkeypatch.setattr(xplique_forgrad.benchmark, "run_benchmark", stand_in, raising=False)
    return found


def arrays(dataset):
    """Inputs, and targets if there are any."""
    rows = [row if isinstance(row, tuple) else (row,) for row in dataset.as_numpy_iterator()]
    return tuple(np.stack(column) for column in zip(*rows))


def test_options_become_arguments(run, calls, folder, tmp_path):
    code, out, err = run(
        *(*OWN, "--images", folder, "--methods", "Saliency; SmoothGrad:nb_samples=3,noise=0.1"),
        *("--method", "Rise", "--controls", "none", "--baseline", "0", "--baseline", "mean"),
        *("--patch-size", "8", "--sigmas", "2,5", "--window", "gaussian", "--rectify", "none"),
        "--subtract-control",
        *("--choosing", "3", "--steps", "4", "--mu-fidelity-samples", "0", "--stability", "0"),
        *("--max-time", "2m", "--seed", "5", "--batch-size", "7", "--latex", "a.tex"),
        *("--report", "a.html", "--output", "results"),
    )
    assert code == 0, err
    (call,) = calls
    models, inputs = call.pop("models"), call.pop("inputs")
    assert [*models] == [*inputs] == ["load_classifier"]
    assert models["load_classifier"].output_shape == (None, 6)
    values, targets = arrays(inputs["load_classifier"])
    files = sorted(folder.glob("*/*.png"))
    np.testing.assert_allclose(
        values, np.stack([np.asarray(Image.open(file)) for file in files]) / 255, atol=1e-6
    )
    assert list(targets.argmax(axis=1)) == [int(file.parent.name) for file in files]
    assert str(call.pop("folder")) == "results"
    assert call == {
        "methods": ["Saliency", "SmoothGrad:nb_samples=3,noise=0.1", "Rise"],
        "controls": (),
        "baselines": (0.0, "mean"),
        "patch_sizes": (8,),
        "sigmas": (2.0, 5.0),
        "window": "gaussian",
        "rectify": None,
        "border": "periodic",
        "subtract_control": True,
        "nb_choosing": 3,
        "steps": 4,
        "mu_fidelity_samples": 0,
        "nb_stability": 0,
        "activation": {"load_classifier": "softmax"},
        "batch_size": 7,
        "seed": 5,
        "max_time": 120,
        "verbose": 0,
    }
    assert out.startswith("| method |")
    assert "Filtering helps Saliency." in out
    assert "Written: results" in out
    assert (tmp_path / "a.tex").read_text(encoding="utf-8") == "\\begin{tabular}é"
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "page"
    assert "8 images, classes: from folders" in err
    assert "load_classifier predicts the class of" in err


def test_json_is_json_alone(run, calls, folder):
    code, out, err = run(
        *(*OWN, "--images", folder, "--targets", "predicted", "--limit", "3", "--json"),
        *("--progress",),
    )
    assert code == 0, err
    row = {"method": "Saliency", "insertion": 0.123456789012345, "sigma": None}
    assert json.loads(out) == [row]
    (call,) = calls
    (values,) = arrays(call["inputs"]["load_classifier"])
    assert values.shape == (3, 96, 96, 3)
    assert (call["methods"], call["verbose"]) == (None, 1)


def test_a_file_names_several_models_with_their_own_options(run, calls, folder, tmp_path):
    (tmp_path / "study.yaml").write_text(
        f"""
        models:
          - {{name: whole, model: "{DEMO}", preprocessing: unit}}
          - {{name: centre, model: "{DEMO}", preprocessing: signed, crop: 0.5}}
        images: {folder}
        limit: 4
        methods: [Saliency]
        controls: [noise]
        """,
        encoding="utf-8",
    )
    code, _, err = run("benchmark", "--config", "study.yaml", "--controls", "edges")
    assert code == 0, err
    (call,) = calls
    assert [*call["models"]] == [*call["inputs"]] == ["whole", "centre"]
    whole, classes = arrays(call["inputs"]["whole"])
    centre, same = arrays(call["inputs"]["centre"])
    np.testing.assert_array_equal(classes, same)
    assert (whole.min() >= 0, centre.min() < 0) == (True, True)
    # the same photographs: the middle of one is the other, enlarged
    middle = tf.image.resize(whole[:, 24:72, 24:72], (96, 96), "bicubic").numpy() * 2 - 1
    for one, other in zip(middle, centre):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95
    assert call["controls"] == ("edges",)
    assert "whole:" in err
    assert "centre:" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--images", "."), 2, "Missing option '--model'"),
        (("--model", DEMO), 2, "Missing option '--images'"),
        (("--model", DEMO, "--images", ".", "--method", "Salincy"), 2, "Did you mean Saliency"),
        (("--model", DEMO, "--images", ".", "--method", ";"), 2, "--method: there is no method"),
        (("--model", DEMO, "--images", ".", "--methods", "Rise Rise"), 2, "Rise is given twice"),
        (
            ("--model", DEMO, "--images", ".", "--baseline", "0", "--baseline", "0.0"),
            2,
            "--baseline: 0.0 is given twice",
        ),
        (("--model", DEMO, "--images", ".", "--latex", "no/a.tex"), 2, "--latex: no/a.tex"),
        (("--model", DEMO, "--images", ".", "--report", "a.pdf"), 2, "--report: "),
        (("--model", DEMO, "--images", ".", "--config", "no.yaml"), 2, "'no.yaml' does not exist"),
        (("--model", DEMO, "--model", DEMO, "--images", "."), 2, "are called 'load_classifier'"),
        (
            ("--model", "a.keras", "--model", "b.h5", "--images", ".", "--crop", "1"),
            2,
            "--crop is of one model, and there are 2",
        ),
        (("--model", DEMO, "--images", "."), 1, "does not say what its inputs go through"),
    ],
)
def test_mistakes_are_said_before_anything_runs(run, calls, arguments, code, message):
    found, out, err = run("benchmark", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert calls == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("methods: [Saliency, Salincy]", "study.toml: methods: Xplique has no attribution method"),
        ("methods: ['Rise:nb=3']", "study.toml: methods: Rise has no option 'nb'"),
        ("preprocessing: unit", "study.toml: preprocessing is of one model, and there are 2"),
        ("report: a.pdf", "study.toml: report: "),
    ],
)
def test_mistakes_of_a_file_name_it(run, calls, tmp_path, line, message):
    key, _, value = line.partition(": ")
    quoted = value if value.startswith("[") else f'"{value}"'
    quoted = quoted.replace("[Saliency, Salincy]", '["Saliency", "Salincy"]')
    text = f'models = ["a.keras", "b.keras"]\nimages = "."\n{key} = {quoted}\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    code, _, err = run("benchmark", "--config", "study.toml")
    assert code == 2
    assert message in err
    assert calls == []


def test_models_that_would_see_other_images_are_refused(run, calls, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "photographs")
    # of no class folder, so that a model that knows the folders leaves it out
    shutil.copy(next(folder.glob("*/*.png")), tmp_path / "photographs/0.png")
    text = """
        import keras

        def build():
            layers = [keras.Input((96, 96, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
            return keras.Sequential(layers)
        """
    (tmp_path / "forgrad_pair.py").write_text(textwrap.dedent(text), encoding="utf-8")
    text = f"""
        images: photographs
        models:
          - {{model: "{DEMO}", preprocessing: unit}}
          - {{name: pair, model: "forgrad_pair:build", preprocessing: unit}}
        """
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    code, _, err = run("benchmark", "--config", "study.yaml")
    assert code == 1
    assert "pair would be shown other images than load_classifier" in err
    assert calls == []
    assert run("benchmark", "--config", "study.yaml", "--targets", "predicted")[0] == 0
    assert [*calls[0]["models"]] == ["load_classifier", "pair"]
