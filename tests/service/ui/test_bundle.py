"""The committed page is small, current, and asks nobody but its service."""

import re
import zlib
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from opera_service.ui.static_files import static_files

TOP = Path(__file__).parents[3]
SOURCES = TOP / "ui"


def test_both_bundles_were_built_from_these_sources():
    roots = ("index.html", "package-lock.json", "tsconfig.json", "vite.config.ts")
    found = [SOURCES / name for name in roots]
    for folder in ("public", "src"):
        found += [
            one
            for one in (SOURCES / folder).rglob("*")
            if one.is_file() and not re.search(r"\.test\.tsx?$", one.name)
        ]
    paths = sorted(one.relative_to(SOURCES).as_posix() for one in found)
    lines = [f"{sha256((SOURCES / path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    digest = sha256("".join(lines).encode()).hexdigest()
    assert (SOURCES / "built-from.txt").read_text().strip() == digest, "run `make ui` and commit what it wrote"


def test_the_page_is_small():
    assert sum(len(zlib.compress(one.content)) for one in static_files().values()) < 100_000


def test_the_page_has_no_inline_script_or_style():
    html = static_files()["index.html"].content.decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\sstyle=|\son\w+=", html) == []
    for asset in re.findall(r'(?:src|href)="\./([^"]+)"', html):
        assert asset in static_files()


@pytest.mark.parametrize("name", sorted(static_files()))
def test_nothing_leads_elsewhere(name: str):
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\"'`\s)]*", static_files()[name].content.decode()))
    assert {one for one in addresses if "www.w3.org" not in one} == set()  # names of XML, never asked


def test_the_page_of_plots_is_there():
    folder = files("opera_client.plot").joinpath("static")
    assert {one.name for one in folder.iterdir()} == {"plot.js", "plot.css"}
