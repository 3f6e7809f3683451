"""Reports: what the page holds, by an HTML parser, and what a real browser makes of it."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from planted_benchmark import PROVENANCE, planted_benchmark

from xplique_forgrad.report import (
    Section,
    benchmark_sections,
    check_report_path,
    diagnosis_sections,
    search_sections,
    write_report,
)
from xplique_forgrad.report._tables import format_numbers

VOID = {"meta", "link", "img", "wbr"}
ATTACK = "<script>alert('1')</script>&\"x\""


class Page(HTMLParser):
    """Elements of a page: (tag, attributes, text inside), in order of their start."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), ""]
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag, **attributes):
        return [
            (found, text)
            for name, found, text in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    def texts(self, tag, **attributes):
        return [text for _, text in self.all(tag, **attributes)]

    def tables(self):
        """Rows of the cells of each table."""
        tables = []
        for tag, _, text in self.elements:
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append([])
            elif tag in ("th", "td"):
                tables[-1][-1].append(text)
        return tables


def write(path, sections, **options):
    return Page(write_report(path, "A title", sections, **options).read_text(encoding="utf-8"))


def drawn(width=4.0, height=3.0):
    figure = Figure(figsize=(width, height))
    figure.subplots().plot([1, 2, 4])
    return figure


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A page with all that a section may hold, longer and wider than any screen."""
    wide = pd.DataFrame(
        np.arange(600.0).reshape(15, 40) / 7,
        columns=[f"a_long_column_{index}" for index in range(40)],
        index=[f"row {index}" for index in range(15)],
    )
    sections = [
        Section("Text", "One paragraph.\n\nAnother " + "w" * 300, code="x = 1\n" + "y" * 500),
        Section("Figure", figure=drawn(14, 3), caption="What it shows."),
        Section("Table", table=wide),
        Section("Short", table=wide.iloc[:3]),
    ]
    path = tmp_path_factory.mktemp("report") / "page.html"
    settings = {"a_name_" + "of_many_parts_" * 20: "v" * 300, "sigmas": (1.0, 2.5)}
    return write_report(path, "T" * 200, sections, summary="A verdict.", settings=settings)


def test_a_page_says_what_it_is(everything):
    text = everything.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert page.all("html", lang="en")
    assert page.all("meta", charset="utf-8")
    assert page.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert page.texts("title") == page.texts("h1") == ["T" * 200]
    assert page.texts("h2") == ["Text", "Figure", "Table", "Short", "Settings"]
    assert "A verdict." in page.texts("p")
    ids = [attributes["id"] for attributes, _ in page.all("section")]
    assert [found["href"] for found, _ in page.all("a")] == [f"#{one}" for one in ids]
    for media in ("(prefers-color-scheme: dark)", "print"):
        assert f"@media {media}" in text


def test_few_sections_need_no_contents(tmp_path):
    page = write(tmp_path / "a.html", [Section("One"), Section("Two"), Section("Three")])
    assert not page.all("nav")


def test_nothing_outside_is_named(everything):
    text = everything.read_text(encoding="utf-8")
    page = Page(text)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy[0]["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not page.all("script")
    for _, attributes, _ in page.elements:
        assert not {name for name in attributes if name.startswith("on")}
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
    rest = re.sub(r"data:image/png;base64,[\w+/=]*", "", text)
    for word in ("http:", "https:", "url(", "@import", "//"):
        assert word not in rest


def test_users_text_is_no_markup(tmp_path):
    frame = pd.DataFrame({ATTACK: [ATTACK, 1.0]}, index=pd.Index([ATTACK, "b"], name=ATTACK))
    section = Section(ATTACK, ATTACK, ATTACK, drawn(), ATTACK, frame)
    path = tmp_path / "a.html"
    sections = [section, *(Section(ATTACK) for _ in range(3))]
    write_report(path, ATTACK, sections, summary=ATTACK, settings={ATTACK: ATTACK, "a_b": [ATTACK]})
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.all("script")
    assert page.texts("title") == page.texts("h1") == page.texts("code") == [ATTACK]
    assert page.texts("figcaption") == [page.all("img")[0][0]["alt"]] == [ATTACK]
    assert page.texts("p") == [ATTACK] * 2
    assert page.texts("a")[:4] == page.texts("h2")[:4] == [ATTACK] * 4
    table, settings = page.tables()
    assert table == [[ATTACK, ATTACK], [ATTACK, ATTACK], ["b", "1"]]
    assert settings[:2] == [[ATTACK, ATTACK], ["a_b", ATTACK]]


def test_figures_have_twice_the_pixels_that_they_take(tmp_path):
    page = write(tmp_path / "a.html", [Section("One", figure=drawn(4, 3), caption="Growth.")])
    ((found, _),) = page.all("img")
    kind, content = found["src"].split(",")
    assert kind == "data:image/png;base64"
    pixels = plt.imread(io.BytesIO(base64.b64decode(content)))
    # rounded, as the margins are cut to the ink
    np.testing.assert_allclose(
        pixels.shape[:2], [2 * int(found["height"]), 2 * int(found["width"])], atol=1
    )
    assert 300 < int(found["width"]) < 4.2 * 96
    assert found["alt"] == "Growth."
    page = write(tmp_path / "a.html", [Section("One", figure=drawn())])
    assert page.all("img")[0][0]["alt"] == "One"


def test_numbers_keep_three_digits_and_align():
    assert format_numbers([0.51234, 0.5, -0.1]) == ["0.512", "0.500", "-0.100"]
    assert format_numbers([1.0, 2.0, np.nan]) == ["1", "2", "\u2013"]
    assert format_numbers([0.25, 20.0]) == ["0.25", "20.00"]
    assert format_numbers([0.01234, 0.001]) == ["0.0123", "0.0010"]
    assert format_numbers([12345.0, -6.0]) == ["12,345", "-6"]
    assert format_numbers([12345.67]) == ["12,345.7"]
    # what three digits would round to zero is not zero
    assert format_numbers([0.9, 3.2e-9, 0.0]) == ["0.900", "3e-09", "0.000"]
    assert format_numbers([3.21e-9, np.inf, np.nan]) == ["3.21e-09", "inf", "\u2013"]
    assert format_numbers([0.0, 0.0]) == ["0", "0"]
    assert format_numbers([np.nan]) == ["\u2013"]
    assert format_numbers([]) == []


def test_tables(tmp_path):
    frame = pd.DataFrame(
        {"nb_images": [3, 4], "mixed": [None, 0.5], "yes": [True, False], "when": ["a", pd.NA]}
    )
    page = write(tmp_path / "a.html", [Section("One", table=frame)])
    table = page.tables()[0]
    assert table == [
        ["nb images", "mixed", "yes", "when"],
        ["3", "\u2013", "True", "a"],
        ["4", "0.5", "False", "\u2013"],
    ]
    numbers = page.texts("td", **{"class": "number"})
    assert numbers == ["3", "\u2013", "4", "0.5"]
    # two levels of rows and of columns, and columns of one name
    frame = frame.set_index(["nb_images", "mixed"])[["yes", "yes"]]
    frame.columns = pd.MultiIndex.from_tuples([("a", "b"), ("a", "b")])
    page = write(tmp_path / "a.html", [Section("One", table=frame)])
    assert page.tables()[0][:2] == [
        ["nb images", "mixed", "a b", "a b"],
        ["3", "\u2013", "True", "True"],
    ]
    assert page.texts("th", scope="row")[:2] == ["3", "\u2013"]


@pytest.mark.parametrize(("nb_rows", "is_folded"), [(0, False), (12, False), (13, True)])
def test_long_tables_are_folded(tmp_path, nb_rows, is_folded):
    table = pd.DataFrame({"a": np.arange(nb_rows)})
    page = write(tmp_path / "a.html", [Section("One", table=table)])
    assert page.texts("summary") == ([f"Table of {nb_rows} rows"] if is_folded else [])
    assert len(page.tables()[0]) == 1 + nb_rows


def test_settings_are_given_and_versions_added(tmp_path):
    given = {"model": "models/my.keras", "sigmas": (1.0, 2.5), "none": None, "a": {"b": {"c": 1}}}
    rows = dict(write(tmp_path / "a.html", [], settings=given).tables()[0])
    assert rows["model"] == "models/my.keras"
    assert rows["sigmas"] == "1, 2.5"
    assert rows["none"] == "none"
    assert rows["a"] == "b (c: 1)"
    added = {"date", "Python", "xplique-forgrad", "xplique", "tensorflow", "keras", "numpy"}
    assert {*rows} == {*given, *added}
    assert rows["numpy"] == np.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", rows["date"])


def test_paths_that_cannot_hold_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("page.pdf", "page", "none/page.html", "."):
        with pytest.raises(ValueError, match="give"):
            check_report_path(name)
        with pytest.raises(ValueError, match="give"):
            write_report(name, "A title", [])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match="is no file name"):
        check_report_path(tmp_path / "folder.html")
    assert write_report("page.HTM", "A title", []) == Path("page.HTM")


def test_a_page_is_whole_or_not_there(tmp_path):
    path = write_report(tmp_path / "a.html", "Old", [])
    old = path.read_bytes()
    broken = Figure()
    broken.savefig = lambda *args, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        write_report(path, "New", [Section("One", figure=broken)])
    assert path.read_bytes() == old
    write_report(path, "New", [])
    assert "<h1>New</h1>" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def test_wrong_types_are_named(tmp_path):
    with pytest.raises(TypeError, match="`title` is of type int; give a string"):
        Section(3)
    with pytest.raises(TypeError, match="such as ax.figure"):
        Section("One", figure=[1])
    with pytest.raises(TypeError, match="give a pandas DataFrame"):
        Section("One", table=np.ones(3))
    with pytest.raises(TypeError, match="`sections` holds a str"):
        write_report(tmp_path / "a.html", "A title", ["text"])
    with pytest.raises(TypeError, match="`summary` is of type NoneType"):
        write_report(tmp_path / "a.html", "A title", [], summary=None)
    with pytest.raises(AttributeError):
        Section("One").title = "Two"


class Result:
    """What a report reads of a search and of a diagnosis."""

    objective = "faithfulness"
    verdict = "Filter at sigma = 3."
    code = "forgrad(explanations, sigma=3)"

    def __init__(self):
        self.summary = {"best": "sigma=3", "code of the best": self.code}
        self.axes = plt.subplots()[1]

    def plot(self):
        return self.axes

    def to_frame(self):
        columns = {"sigma": [3.0], "window": ["disk"], "rectify": ["magnitude"], "p_value": [0.5]}
        return pd.DataFrame(columns, index=pd.Index(["sigma=3"], name="candidate"))

    def by_type(self):
        return pd.DataFrame({"mean": [0.25]}, index=pd.Index(["ReLU"], name="type"))

    def __str__(self):
        return "In words:\n  a table"


def test_sections_of_a_search(tmp_path):
    search = Result()
    page = write(tmp_path / "a.html", search_sections(search, "Saliency"))
    assert page.texts("h2")[:3] == [
        "Saliency",
        "Saliency: score by sigma",
        "Saliency: all candidates",
    ]
    assert search.verdict in page.texts("p")
    assert page.texts("code") == [search.code]
    summary, candidates, _ = page.tables()
    assert summary == [["best", "sigma=3"]]
    assert candidates == [["candidate", "p value"], ["sigma=3", "0.5"]]
    assert len(page.all("img")) == 1
    assert not plt.fignum_exists(search.axes.figure.number)


def test_sections_of_a_diagnosis(tmp_path):
    before, diagnosis = plt.get_fignums(), Result()
    # of a diagnosis, the drawing is a figure
    diagnosis.plot = lambda: diagnosis.axes.figure
    page = write(tmp_path / "a.html", diagnosis_sections(diagnosis))
    assert page.texts("code") == [str(diagnosis)]
    types, layers, _ = page.tables()
    assert types == [["type", "mean"], ["ReLU", "0.25"]]
    assert layers[1] == ["sigma=3", "3", "disk", "magnitude", "0.5"]
    assert len(page.all("img")) == 1
    assert plt.get_fignums() == before


def test_sections_of_a_benchmark(tmp_path):
    before = plt.get_fignums()
    benchmark = planted_benchmark(models=("net", "other"), settings=(("zero", 1), ("mean", 1)))
    page = write(tmp_path / "a.html", benchmark_sections(benchmark))
    titles = page.texts("h2")
    assert titles[:4] == [
        *("Verdict", "net: faithfulness and cost", "other: faithfulness and cost", "Tables"),
    ]
    assert {"Ranking", "What the filter gains", "Do settings agree?", "Not in the tables"} <= {
        *titles
    }
    assert benchmark.verdict.split("\n\n") == page.texts("p")[:2]
    assert len(page.all("img")) == 2
    # one compact table a model and setting, as in the Markdown
    compact = [table for table in page.tables() if table[0][:2] == ["Method", "Map"]]
    assert len(compact) == 4
    assert " | ".join(compact[0][1]) in benchmark.to_markdown()
    skipped = page.tables()[-2]
    assert skipped[1] == ["net", "Broken", "grey", "failed", "no convolution, said it"]
    assert plt.get_fignums() == before


def test_a_benchmark_writes_its_page(tmp_path):
    planted_benchmark().report(tmp_path / "a.html")
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    settings = dict(page.tables()[-1])
    assert {"device", "seed", "settings", "data"} <= {*settings}
    assert settings["seed"] == str(PROVENANCE["seed"])
    # one setting has none to agree with
    assert "Do settings agree?" not in page.texts("h2")


def test_the_page_of_a_benchmark_in_which_all_failed(tmp_path):
    whole = planted_benchmark()
    failed = whole.methods[whole.methods["status"] == "failed"]
    benchmark = type(whole)(whole.records[:0], failed, whole.choices[:0])
    page = write(tmp_path / "a.html", benchmark_sections(benchmark))
    assert page.texts("h2")[:-1] == ["Verdict", "Tables", "Methods", "Not in the tables"]


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROME = next(filter(None, map(shutil.which, BROWSERS)), "")
in_a_browser = pytest.mark.skipif(not CHROME, reason=f"needs {' or '.join(BROWSERS)} on PATH")


def browse(page, folder, *options):
    """What the browser prints of a page."""
    done = subprocess.run(
        [
            CHROME,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--hide-scrollbars", f"--user-data-dir={folder / 'profile'}"),
            # the browser's own services get no further than here
            "--host-resolver-rules=MAP * ~NOTFOUND",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def requests_of(page, folder):
    """Addresses that a page asks for, without files and data, from the log of the network."""
    log = folder / "network.json"
    browse(page, folder, f"--log-net-log={log}", f"--screenshot={folder / 'page.png'}")
    content = json.loads(log.read_text(encoding="utf-8"))
    start = content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event["params"] for event in content["events"] if event["type"] == start]
    return {
        one["url"]
        for one in asked
        # what the browser asks for by itself comes from no page
        if "url" in one
        and one.get("initiator") != "not an origin"
        and not one["url"].startswith(("file:", "data:", "chrome:"))
    }


@in_a_browser
def test_no_request_leaves_the_page(everything, tmp_path):
    assert requests_of(everything, tmp_path) == set()
    assert (tmp_path / "page.png").stat().st_size > 1000
    # the log sees what a page asks for, and the policy holds what was smuggled in
    address = "http://127.0.0.1:9/x.png"
    smuggled = everything.read_text(encoding="utf-8").replace(
        "<h1>", f'<img src="{address}"><script>fetch("{address}?js")</script><h1>'
    )
    page = tmp_path / "smuggled.html"
    page.write_text(smuggled, encoding="utf-8")
    assert requests_of(page, tmp_path) == set()
    page.write_text(re.sub('<meta http-equiv="Content.*?>', "", smuggled), encoding="utf-8")
    assert address in requests_of(page, tmp_path)


@in_a_browser
def test_a_phone_scrolls_down_only(everything, tmp_path):
    """In a frame, as a browser's own window is never as narrow as a phone."""

    def widths(text):
        host = tmp_path / "host.html"
        host.write_text(
            '<!DOCTYPE html><meta charset="utf-8">'
            '<iframe style="width: 390px; height: 800px; border: 0" '
            f'srcdoc="{html.escape(text)}"></iframe><script>onload = () => {{'
            'const inner = document.querySelector("iframe").contentDocument.documentElement;'
            "document.title = `${inner.clientWidth} ${inner.scrollWidth}`}</script>",
            encoding="utf-8",
        )
        return [int(part) for part in Page(dumped(host)).texts("title")[0].split()]

    def dumped(host):
        return re.search("<title>.*?</title>", browse(host, tmp_path, "--dump-dom"))[0]

    text = everything.read_text(encoding="utf-8").replace("<details>", "<details open>")
    assert widths(text) == [390, 390]
    # the measure sees what is too wide
    client, scroll = widths(text.replace("<h1>", '<div style="width: 700px">wide</div><h1>'))
    assert client == 390
    assert scroll > 700
