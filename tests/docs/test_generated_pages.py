"""docs/cli.md and docs/settings.md say what the code says."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
assert SPEC is not None
assert SPEC.loader is not None
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


def test_the_settings_page_is_current():
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert generate.words(page) == generate.words(generate.settings_page()), "run `make docs`"


def test_every_command_has_its_help_on_the_page():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for command in ("serve", "check", "score"):
        said = generate.words(generate.help_of(command))
        here = page.partition(f"## `opera-reward {command}`")[2].partition("\n## ")[0]
        assert [word for word in said if word.startswith("--")] == [
            word for word in generate.words(here.partition("```text")[2]) if word.startswith("--")
        ], "run `make docs`"
