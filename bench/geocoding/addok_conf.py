"""The configuration of the peer: read by addok itself (ADDOK_CONFIG_MODULE), never imported here.

addok comes set up for French.  Its manual says to bring one's own recognition of
house numbers and one's own synonyms; what stands here does for Bắc Kạn what
addok-france does for France, so that the peer is compared at its best and not as
it falls out of the box.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

_DOOR = re.compile(r"^(?:so nha|nha so|so|sn|nha|s) *(?=\d)")  # addok folds and strips a query before this
_NUMBER = re.compile(r"\d{1,3}(?:[a-z]|xuyet\d+)?")
_STROKE = re.compile(r"^(\d+) (\d+)\b")


def door_first(queries: Iterable[str]) -> Iterator[str]:
    """Without "số", "SN", "nhà số" …, so that the number comes first, where addok looks for it.

    4/2 becomes 4xuyet2, as the documents have it: addok itself makes it 42, which is another house.
    """
    for query in queries:
        yield _STROKE.sub(r"\1xuyet\2", _DOOR.sub("", query))


def flag_door(tokens: Iterable[Any]) -> Iterator[Any]:
    """Mark what a text begins with as its house number: 14, 14A, 14/2."""
    leads = True
    for token in tokens:
        leads = leads and bool(_NUMBER.fullmatch(token))
        if leads:
            token.kind = "housenumber"
        yield token


def label(_: Any, result: Any) -> None:
    """What a query is compared with: the address with each name that its commune has had, and without its commune."""
    if not result.labels:
        *old, today = result._rawattr("city")  # noqa: SLF001  (addok's own processors do so)
        door = f"{result.housenumber} {result.name}" if result.housenumber else result.name
        result.labels = [
            f"{door} {old[0]}",
            *(f"{door} {commune} {result.district} tỉnh Bắc Kạn" for commune in old),
            f"{door} {today} tỉnh Thái Nguyên",
            f"{door} {result.district} tỉnh Bắc Kạn",
        ]


if os.environ.get("ADDOK_FOR_VIETNAM") == "1":
    QUERY_PROCESSORS_PYPATHS = [door_first, "addok.helpers.text.check_query_length"]
    PROCESSORS_PYPATHS = [
        "addok.helpers.text.tokenize",
        "addok.helpers.text.normalize",
        flag_door,
        "addok.helpers.text.synonymize",
    ]
    SYNONYMS_PATHS = [os.environ["ADDOK_SYNONYMS"]]
    SEARCH_RESULT_PROCESSORS_PYPATHS = [
        "addok.helpers.results.match_housenumber",
        label,
        "addok.helpers.results.score_by_importance",
        "addok.helpers.results.score_by_autocomplete_distance",
        "addok.helpers.results.score_by_ngram_distance",
        "addok.helpers.results.score_by_geo_distance",
        "addok.helpers.results.adjust_scores",
    ]
    MIN_EDGE_NGRAMS = 1
    # Letters beside each other where people type Vietnamese: a QWERTY keyboard, not the French one.
    FUZZY_KEY_MAP = {
        "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl",
        "p": "ol", "a": "qsz", "s": "awdx", "d": "sefc", "f": "drgv", "g": "fthb", "h": "gyjn", "j": "hukm",
        "k": "jil", "l": "kop", "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm",
        "m": "njk",
    }  # fmt: skip
