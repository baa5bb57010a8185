"""The documentation is tested where it can be: what it names exists, and what exists is named."""

import re
import subprocess
from pathlib import Path

import pytest

from bkapp.address.rules import Change, Method, PointSource, Status
from bkapp.config import VARIABLES
from bkapp.site import problem_catalogue

ROOT = Path(__file__).parents[1]
ADRS = sorted((ROOT / "docs/adr").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
VIETNAMESE = re.compile("[àáảãạăằắẳẵặâầấẩẫậèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵđ]", re.IGNORECASE)
# [text](target) outside of code; pictures alike.
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that a heading gets in a link."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    }


def test_every_setting_is_explained_with_default_example_and_secrecy() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text_of("docs/settings.md"), re.MULTILINE)
    explained = {
        name: [cell.strip() for cell in cells.split(" | ")] for name, cells in rows if name in VARIABLES.values()
    }

    assert set(explained) == set(VARIABLES.values())
    assert all(len(cells) == 4 and all(cells) for cells in explained.values())
    secret = {name for name, cells in explained.items() if "yes" in cells[3]}
    assert secret == {
        "DATABASE_URL",
        "REDIS_URL",
        "BKAPP_SIGNING_KEYS",
        "BKAPP_DATA_KEYS",
        "BKAPP_LOOKUP_KEY",
        "BKAPP_EID_CLIENT_SECRET",
        "BKAPP_EID_CLIENT_KEY",
        "BKAPP_POPULATION_SECRET",
    }


def test_every_command_of_dev_is_named() -> None:
    told = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  ([a-z]+) .*  ", told, re.MULTILINE)

    named = text_of("README.md", "CONTRIBUTING.md")
    assert len(commands) > 10
    assert [command for command in commands if f"./dev {command}" not in named] == []


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem)
def test_a_decision_has_its_five_parts_and_names_files_that_exist(adr: Path) -> None:
    text = adr.read_text()

    assert text.startswith(f"# {adr.stem[:4]}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "Alternatives",
        "References",
    ]
    named = re.findall(r"`((?:src|tests|migrations|tools|docs|bench)/[\w./-]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_decisions_are_numbered_once() -> None:
    numbers = [adr.stem[:4] for adr in ADRS]
    assert len(numbers) == len(set(numbers)) > 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize(
    ("section", "values"),
    [("Status of an address", Status), ("Changes", Change)],
    ids=["status", "change"],
)
def test_every_status_and_kind_of_change_has_a_vietnamese_word(
    section: str, values: type[Status] | type[Change]
) -> None:
    part = text_of("docs/words.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
    words = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", part, re.MULTILINE))

    assert set(words) == {value.value for value in values}
    assert all(VIETNAMESE.search(word) for word in words.values())


def test_every_method_and_source_of_a_point_has_a_word() -> None:
    words = text_of("docs/words.md")
    assert [value for value in (*Method, *PointSource) if f"`{value.value}` " not in words] == []


def test_every_refusal_has_a_vietnamese_title() -> None:
    assert [problem["code"] for problem in problem_catalogue() if not VIETNAMESE.search(problem["title"])] == []


def test_documents_name_only_variables_that_are_read() -> None:
    """A setting that was renamed must not live on in the documentation."""
    scripts = "".join(path.read_text() for path in [ROOT / "dev", *ROOT.glob("tools/dev/*"), ROOT / "compose.yaml"])
    known = set(VARIABLES.values()) | set(re.findall(r"\bBKAPP_[A-Z_]+", scripts))
    unknown = {name for page in PAGES for name in re.findall(r"\bBKAPP_[A-Z_]+", page.read_text()) if name not in known}
    assert unknown == set()
