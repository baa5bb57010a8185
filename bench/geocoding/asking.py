"""Asking over HTTP: one client for both sides, and their answers brought into one form."""

import http.client
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from bench.geocoding.queries import TOP, Query
from bench.load import ADDRESS

STROKE = "xuyet"  # how 4/2 is called aloud, and how the peer has to have it: see addok_conf.py


class Answer(Struct, frozen=True):
    """One of the places a side offers."""

    is_house: bool
    score: float
    number: str
    hamlet: str
    qualifier: str  # the former commune that ours names where a merger brought two hamlets of one name together
    new: str
    old: str  # empty where the side does not say
    label: str


class Side(Struct, frozen=True):
    """How one of the two is asked and how its answers are read."""

    name: str
    path: Callable[..., str]
    reverse_path: Callable[[float, float], str]
    csv_path: str
    read: Callable[[Mapping[str, Any]], Answer]


class Client:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, port: int, *, timeout: float = 60, headers: Mapping[str, str] | None = None) -> None:
        self._headers = headers or {}
        self._connection = http.client.HTTPConnection(ADDRESS, port, timeout=timeout)

    def get(self, path: str) -> tuple[int, bytes, float]:
        """Status, body and seconds from the question to the last byte of the answer."""
        return self._ask("GET", path, None, self._headers)

    def post(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes, float]:
        return self._ask("POST", path, body, {**self._headers, "Content-Type": content_type})

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes, float]:
        for last in (False, True):
            began = time.perf_counter()
            try:
                self._connection.request(method, path, body, dict(headers))
                response = self._connection.getresponse()
                content = response.read()
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()
                if last:
                    raise
            else:
                return response.status, content, time.perf_counter() - began
        raise AssertionError

    def answers(self, path: str) -> bool:
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False


def features(body: bytes) -> list[Mapping[str, Any]]:
    """The properties of each feature of a GeoJSON collection."""
    return [feature["properties"] for feature in msgspec.json.decode(body)["features"]]


def is_right(query: Query, answer: Answer) -> bool:
    """Whether an answer is the very house that is meant.

    A side that names the old commune has to name the right one, and one of two hamlets of one name has to be told
    from the other, by its old commune or by its qualifier.
    """
    if not answer.is_house or _plain(answer.number) != _plain(query.number):
        return False
    return is_hamlet(query, answer)


def is_hamlet(query: Query, answer: Answer) -> bool:
    """Whether an answer is in the hamlet that is meant."""
    if _plain(answer.hamlet) != _plain(query.hamlet) or answer.new != query.new:
        return False
    if answer.old:
        return answer.old == query.old
    return not query.is_twin or _plain(query.old_name) in _plain(answer.qualifier)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().replace(" ", "")


def _of_ours(properties: Mapping[str, Any]) -> Answer:
    found = properties["geocoding"]
    hamlet, _, rest = (found.get("locality") or "").partition(" (")
    return Answer(
        is_house=found["level"] == "house",
        score=found["score"],
        number=found.get("housenumber") or "",
        hamlet=hamlet,
        qualifier=rest.rstrip(")"),
        new=found.get("citycode") or "",
        old=(found.get("former") or {}).get("code") or "",
        label=found.get("label") or "",
    )


def _of_addok(properties: Mapping[str, Any]) -> Answer:
    return Answer(
        is_house=properties.get("type") == "housenumber",
        score=properties.get("score", 0.0),
        number=properties.get("housenumber", "").replace(STROKE, "/"),
        hamlet=properties["hamlet"],
        qualifier="",
        new=properties["new"],
        old=properties["old"],
        label=properties["label"],
    )


def _path_of_ours(text: str, *, prefix: bool) -> str:
    return f"/api/v1/{'autocomplete' if prefix else 'geocode'}?{urlencode({'q': text, 'limit': TOP})}"


def _path_of_addok(text: str, *, prefix: bool) -> str:
    # Its manual: without autocomplete where the whole address is there.
    return f"/search/?{urlencode({'q': text, 'limit': TOP, 'autocomplete': int(prefix)})}"


OURS = Side(
    name="bkapp",
    path=_path_of_ours,
    reverse_path=lambda lon, lat: f"/api/v1/reverse?lon={lon}&lat={lat}",
    csv_path="/api/v1/geocode/csv",
    read=_of_ours,
)
ADDOK = Side(
    name="addok",
    path=_path_of_addok,
    reverse_path=lambda lon, lat: f"/reverse/?lon={lon}&lat={lat}",
    csv_path="/search/csv/",
    read=_of_addok,
)

__all__ = ["ADDOK", "OURS", "Answer", "Client", "Side", "features", "is_hamlet", "is_right"]
