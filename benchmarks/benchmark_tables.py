"""
The tables and figures of docs/benchmark.md, from folders that hold benchmarks; for benchmark.py.
"""

import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pandas as pd

from xplique_forgrad.benchmark import Benchmark
from xplique_forgrad.benchmark.published import published_results

PAPER, OVERVIEW = "published", "overview"
TITLES = {
    "method": "Method",
    "treatment": "Map",
    "deletion": "Del. ↓",
    "insertion": "Ins. ↑",
    "faithfulness": "Faith. ↑",
    "mu_fidelity": "MuFid. ↑",
    "stability": "Stab. ↓",
    "global_score": "Global ↑",
    "time": "Time",
    "passes": "Passes",
}
TWO_DIGITS = ("deletion", "insertion", "faithfulness", "mu_fidelity", "global_score")


def fill_page(page, folder, names, figures):
    """Put what is in the folders between the marks of the page; the prose around them stays."""
    text = put(
        page.read_text(encoding="utf-8"), PAPER, folded("The paper's tables", paper_tables())
    )
    found = {}
    for name in names:
        if not (folder / name / "manifest.json").exists():
            print(f"{folder / name} holds no result: the page keeps what it has of {name}")
            continue
        found[name] = Benchmark.load(folder / name)
        path = figures / f"benchmark-{name}.png"
        text = put(text, name, section(found[name], name, path, path.relative_to(page.parent)))
    single = {name: one for name, one in found.items() if not has_settings(one)}
    if single:
        text = put(text, OVERVIEW, overview(single))
    page.write_text(text, encoding="utf-8")
    print(f"{page} is written")


def section(benchmark, name, path, link):
    """Figure, verdict and tables of a network; of several settings how far these agree."""
    sentences = "\n".join(f"- {sentence}" for sentence in benchmark.verdict.split("\n")[1:])
    parts = [folded("Verdict", sentences)]
    if has_settings(benchmark):
        parts.append(folded("Agreement of all pairs of settings", agreement(benchmark)))
    else:
        draw(benchmark, path)
        shown = (
            f"Specific faithfulness of each method on {name}, as is and filtered, over the passes "
            "of the model that it takes; controls at the right"
        )
        parts.insert(0, f"![{shown}]({link.as_posix()})")
    return "\n\n".join([*parts, folded("All scores", benchmark.to_markdown())])


def agreement(benchmark):
    """Kendall's tau of the rankings between settings, as Markdown."""
    table = benchmark.robustness()
    tau = table["tau"].map("{:.2f}".format)
    bounds = [f" [{low:.2f}, {high:.2f}]" for low, high in zip(table["low"], table["high"])]
    shown = {
        "One": table["baseline"] + ", " + table["patch_size"].astype(str),
        "Other": table["other_baseline"] + ", " + table["other_patch_size"].astype(str),
        "Compared": table["compared"],
        "Kendall's tau": tau + ["" if "nan" in bound else bound for bound in bounds],
    }
    return as_markdown(pd.DataFrame(shown))


def has_settings(benchmark):
    return len(benchmark.records[["baseline", "patch_size"]].drop_duplicates()) > 1


def overview(benchmarks):
    """Specific gains of the filtered maps by method and network, over both references."""
    parts = []
    for reference in ("as is", "rectified"):
        columns = {}
        for name, benchmark in benchmarks.items():
            without = without_filter(benchmark)
            rows = benchmark.comparisons().query(
                "reference == @reference and measure == 'specific'"
            )
            columns[name] = {
                f"{row.method} *" if row.kind == "control" else row.method: (
                    "no filter"
                    if row.method in without
                    else f"**{row.gain:+.3f} ± {row.standard_error:.3f}**"
                    if row.p_holm < 0.05
                    else f"{row.gain:+.3f} ± {row.standard_error:.3f}"
                )
                for row in rows.itertuples()
            }
        table = pd.DataFrame(columns).fillna("\u2013")
        table = table.rename_axis("Method").reset_index()
        parts.append(f"Filtered over {reference}:\n\n{as_markdown(table)}")
    return "\n\n".join(parts)


def without_filter(benchmark):
    """Methods of which the search chose the map as it is, or rectified."""
    chosen = benchmark.choices
    return set(chosen.loc[chosen["sigma"].isna(), "method"])


def folded(title, content):
    lines = [f"    {line}" if line else "" for line in content.strip().splitlines()]
    return "\n".join([f'??? note "{title}"', "", *lines])


def put(text, name, content):
    """The text with the content between <!-- tables:name --> and the next <!-- end -->."""
    pattern = rf"(<!-- tables:{re.escape(name)} -->\n).*?(<!-- end -->)"
    filled, number = re.subn(pattern, lambda m: f"{m[1]}\n{content}\n\n{m[2]}", text, flags=re.S)
    if number != 1:
        raise SystemExit(
            f"The page has {number} places for {name}; write two lines where it goes, "
            f"<!-- tables:{name} --> and <!-- end -->."
        )
    return filled


def draw(benchmark, path):
    figure = benchmark.plot().flat[0].figure
    figure.savefig(path, dpi=100)
    plt.close(figure)


def paper_tables():
    """Tables of scores by source and network, and the lists of Table 2, as Markdown."""
    results = published_results()
    parts = []
    for (source, model), rows in results.groupby(["source", "model"], sort=False):
        if rows["rank"].isna().all():
            parts.append(f"**{source}, {model}**\n\n{as_markdown(score_cells(rows))}")
    ranked = results[results["rank"].notna()]
    star = (ranked["treatment"] == "filtered").map({True: ", filtered", False: ""})
    lists = ranked.assign(
        Rank=ranked["rank"].astype(int),
        cell=ranked["method"] + star,
        title=ranked["model"] + ", " + ranked["ranking"],
    )
    table = lists.pivot(index="Rank", columns="title", values="cell")[lists["title"].unique()]
    parts.append(f"**{ranked['source'].iloc[0]}**\n\n{as_markdown(table.reset_index())}")
    return "\n\n".join(parts)


def score_cells(rows):
    """Cells as text, without columns that the source does not print."""
    names = [name for name in TITLES if rows[name].notna().any()]

    def cell(value, name):
        if isinstance(value, str):
            return value
        return "\u2013" if pd.isna(value) else format(value, ".2f" if name in TWO_DIGITS else "g")

    return pd.DataFrame({TITLES[n]: [cell(value, n) for value in rows[n]] for n in names})


def as_markdown(table):
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
