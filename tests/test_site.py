"""
The site as built: what its pages hold, and what a browser meets on them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import site_checks

ROOT = Path(__file__).parents[1]
NAMES = ["forgrad", "SigmaOptimizer", "low_pass_mask", "Faithfulness", "diagnose"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def browsed(site):
    """The site, where there is a browser to look at it."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    if site_checks.browser_path() is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(site_checks.BROWSERS)}")
    return site


@pytest.mark.parametrize("check", site_checks.CHECKS, ids=lambda check: check.__name__)
def test_pages_have_no(check, site):
    problems = check(site)
    assert not problems, "\n".join(problems)


def test_pages_open_at_both_widths(browsed):
    problems = site_checks.problems_of_opened_pages(browsed)
    assert not problems, "\n".join(problems)


def test_search_leads_to_public_names(browsed):
    problems = site_checks.problems_of_search(browsed, NAMES)
    assert not problems, "\n".join(problems)


def test_navigation_leads_on(browsed):
    problems = site_checks.problems_of_navigation(browsed)
    assert not problems, "\n".join(problems)


def test_checks_find_what_is_wrong(tmp_path):
    head = '<link rel="canonical" href="https://x.org/y/"><meta name="description" content="d">'
    (tmp_path / "index.html").write_text(
        f'{head}<title>t</title><h1 id="top">Home</h1><a href="a/#there">a</a><a href="b/">b</a>'
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a/index.html").write_text(
        '<meta name="description" content="d"><title>s</title><h1>A</h1><h1>B</h1>'
        '<img src="https://x.org/z.png"><p>a <LP(g)> b [c](d.md) <code>**e**</code></p>'
        '<a href="../#top">up</a>'
        "<style>@import 'https://x.org/z.css'; p {background: url(https://x.org/p.png)}</style>"
    )
    found = {check.__name__: check(tmp_path) for check in site_checks.CHECKS}
    assert {name: len(problems) for name, problems in found.items()} == {
        "broken_links": 2,
        "unknown_tags": 1,
        "raw_markdown": 1,
        "pictures_without_text": 1,
        "outside_requests": 3,
        "bad_headings": 2,
    }
