"""How the geocoding benchmark judges answers."""

from bench.geocoding import queries
from bench.geocoding.asking import ADDOK, OURS, Answer, is_right
from bench.geocoding.scores import Outcome, Score, Share, calibration
from bench.geocoding.speed import form
from msgspec.structs import replace

QUERY = next(query for query in queries.of_kind("clean") if not query.is_twin)
TWIN = next(query for query in queries.of_kind("clean") if query.is_twin)


def answer_to(query: queries.Query) -> Answer:
    return Answer(
        is_house=True,
        score=0.9,
        number=query.number,
        hamlet=query.hamlet,
        qualifier="",
        new=query.new,
        old=query.old,
        label="",
    )


def test_the_very_house_is_right_and_nothing_else() -> None:
    right = answer_to(QUERY)

    assert is_right(QUERY, right)
    assert is_right(QUERY, replace(right, old="", hamlet=QUERY.hamlet.upper()))
    assert not is_right(QUERY, replace(right, is_house=False))
    assert not is_right(QUERY, replace(right, number=QUERY.number + "A"))
    assert not is_right(QUERY, replace(right, hamlet="Thôn Nà Khác"))
    assert not is_right(QUERY, replace(right, new="99999"))
    assert not is_right(QUERY, replace(right, old="99999"))


def test_one_of_two_namesakes_has_to_be_told_from_the_other() -> None:
    silent = replace(answer_to(TWIN), old="")

    assert not is_right(TWIN, silent)
    assert is_right(TWIN, replace(silent, qualifier=TWIN.old_name))
    assert is_right(TWIN, answer_to(TWIN))


def test_answers_of_both_sides_are_read_alike() -> None:
    ours = {
        "geocoding": {
            "level": "house",
            "score": 0.97,
            "housenumber": "14/2",
            "locality": "Thôn Nà Ít (Vi Hương)",
            "city": "Xã Phủ Thông",
            "citycode": "01969",
            "former": {"code": "01975", "name": "Xã Vi Hương"},
            "label": "x",
        }
    }
    addok = {
        "type": "housenumber",
        "score": 0.97,
        "housenumber": "14xuyet2",
        "hamlet": "Thôn Nà Ít",
        "new": "01969",
        "old": "01975",
        "label": "x",
    }

    assert replace(OURS.read(ours), qualifier="") == ADDOK.read(addok)
    assert OURS.read(ours).qualifier == "Vi Hương"
    assert not OURS.read({"geocoding": {"level": "commune", "score": 0.5}}).is_house


def test_figures_count_what_they_say() -> None:
    right = answer_to(QUERY)
    wrong = replace(right, number="999")
    outcomes = [
        Outcome.of(QUERY, [right], 0.001),
        Outcome.of(QUERY, [wrong, right], 0.001),
        Outcome.of(QUERY, [replace(wrong, score=0.5)], 0.001),
        Outcome.of(QUERY, [], 0.001),
        Outcome.of(replace(QUERY, unanswerable=True), [replace(wrong, is_house=False)], 0.001),
    ]

    score = Score.of(outcomes)

    assert (score.first.count, score.within_five.count, score.first.of) == (1, 2, 5)
    assert (score.first_of_answerable.count, score.first_of_answerable.of) == (1, 4)
    assert (score.sure_and_wrong.count, score.abstained.count) == (1, 2)
    assert [(one.low, one.right.count, one.right.of) for one in calibration(outcomes)] == [(0.4, 0, 1), (0.9, 1, 2)]


def test_intervals_are_wilsons() -> None:
    low, high = Share(594, 600).interval()

    assert (round(low, 4), round(high, 4)) == (0.9784, 0.9954)
    assert str(Share(600, 600)) == "100.0 [99.4-100.0]"


def test_a_form_is_one_that_servers_read() -> None:
    body, content_type = form({"columns": "address"}, "data", b"address\nx\n")

    boundary = content_type.partition("boundary=")[2].encode()
    assert body.count(b"--" + boundary) == 3
    assert body.endswith(b"--" + boundary + b"--\r\n")
    assert b'name="data"; filename="addresses.csv"\r\nContent-Type: text/csv\r\n\r\naddress\nx\n\r\n' in body
