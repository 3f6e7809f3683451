"""
The tables of the paper, as data.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

_DIGITS = 2


def published_results() -> pd.DataFrame:
    """
    Scores of attribution methods that the paper prints: 48 + 30 + 20 rows.

    The preprint of 2023 has Table 1, scores of three networks on 1,000 images of ImageNet, and
    Table 2, the five methods of the highest global score before and after filtering. The slides of
    ICML 2024 have another table, of ResNet50. Their numbers differ from those of Table 1 (another
    evaluation), so do not compare a row of one with a row of the other.

    Table 1 gives four of the six lists of Table 2, up to ties of its two digits. Of ConvNeXt before
    filtering it would put IntegratedGradients fourth, which rounding can explain; of ViT after
    filtering it would put GradientInput first, which rounding cannot.

    Returns
    -------
    results :
        One row per printed row and network, in the order of print. Numbers that are not printed are
        NaN. Columns:

        - `source`: "preprint 2023, Table 1", "preprint 2023, Table 2" or "ICML 2024 slides".
        - `model`, `method` (Xplique's name of the class).
        - `kind`: "white", "grey" or "black" box. The preprint counts the grey ones, GradCAM's, as
          based on predictions.
        - `treatment`: "filtered" for methods printed with a star, else "as is".
        - `deletion` (lower is better), `insertion`, `faithfulness` (Insertion - Deletion; of the
          slides as printed), `mu_fidelity`, `stability` (lower is better).
        - `time`: as the slides print it, which do not state its unit.
        - `passes`: forward and backward passes of the network per image, up to a factor.
        - `ranking`, `rank`: of Table 2, "original" or "FORGrad", and 1 to 5; else "" and NaN.
        - `global_score`: Insertion + MuFidelity - Deletion of Table 1.

    Examples
    --------
    >>> from xplique_forgrad.benchmark.published import published_results
    >>> results = published_results()
    >>> slides = results[results.source == "ICML 2024 slides"].set_index(["method", "treatment"])
    >>> float(slides.faithfulness["Saliency", "as is"])
    0.18
    """
    text = files(__package__).joinpath("published.csv")
    with text.open(encoding="utf-8") as lines:
        found = pd.read_csv(lines)
    found["ranking"] = found["ranking"].fillna("")
    difference = (found["insertion"] - found["deletion"]).round(_DIGITS)
    found["faithfulness"] = found["faithfulness"].fillna(difference)
    found["global_score"] = (difference + found["mu_fidelity"]).round(_DIGITS)
    return found.astype({"passes": float, "rank": float})
