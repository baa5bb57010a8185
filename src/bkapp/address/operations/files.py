"""Looking for every address of a file, a batch of rows at a time."""

import traceback
from collections.abc import AsyncGenerator, Sequence
from itertools import islice

import structlog
from msgspec import Struct

from bkapp.address.csvfiles import Question, Sheet, chosen, fault_of, grade_of
from bkapp.address.geocoding.results import Answer, Grade
from bkapp.address.operations.finding import Finder
from bkapp.db import is_outage

BATCH = 100  # rows that are asked for in one statement and written at once
MOST_MATCHES = 10

log = structlog.get_logger("bkapp.files")


class Tally(Struct):
    """How far a file is, and what came of its rows."""

    rows: int = 0
    failed: int = 0  # could not be asked for
    missing: int = 0  # were asked for and not found
    a: int = 0
    b: int = 0
    c: int = 0

    def count(self, question: Question, answer: Answer) -> None:
        self.rows += 1
        if fault_of(question, answer):
            self.failed += 1
        if chosen(question, answer) is None:
            self.missing += 0 if fault_of(question, answer) else 1
            return
        match grade_of(question, answer):
            case Grade.A:
                self.a += 1
            case Grade.B:
                self.b += 1
            case Grade.C:
                self.c += 1


async def geocode(
    finder: Finder, sheet: Sheet, tally: Tally | None = None, *, through_outages: bool = False
) -> AsyncGenerator[bytes]:
    """The rows of a file with what was found, in pieces of :data:`BATCH` rows, without the head; ``tally`` is kept.

    When the database goes away an exception says so; ``through_outages``, once a piece was given, each row of the rest
    does, because who has begun to answer cannot take it back.
    """
    tally = tally or Tally()
    questions = sheet.questions()
    await finder.gazetteer()  # without names every row would fail on its own
    away = False
    while batch := list(islice(questions, BATCH)):
        answers = [Answer("", reason="unavailable")] * len(batch)
        if not away:
            try:
                answers = await _ask(finder, batch)
            except Exception as error:
                if not (through_outages and tally.rows and is_outage(error)):
                    raise
                log.warning("database_unavailable", kind=type(error).__name__, rows=tally.rows)
                away = True
        for question, answer in zip(batch, answers, strict=True):
            tally.count(question, answer)
        yield sheet.lines(zip(batch, answers, strict=True))


async def _ask(finder: Finder, batch: Sequence[Question]) -> list[Answer]:
    asked = [question for question in batch if question.askable]
    try:
        found = await _find(finder, asked)
    except Exception as error:
        if is_outage(error):
            raise
        found = [await _ask_alone(finder, question) for question in asked]
    answers = iter(found)
    return [next(answers) if question.askable else Answer(question.text) for question in batch]


async def _find(finder: Finder, asked: Sequence[Question]) -> list[Answer]:
    # Only where a row demands something of its match, others than the best are looked at.
    limit = MOST_MATCHES if any(question.wanted for question in asked) else 1
    return await finder.find_many(
        [question.text for question in asked], near=[question.near for question in asked], limit=limit
    )


async def _ask_alone(finder: Finder, question: Question) -> Answer:
    """One row that may be the one on which the search fails: a bug of ours must not cost the others."""
    try:
        return (await _find(finder, [question]))[0]
    except Exception as error:
        if is_outage(error):
            raise
        # What an exception says may be somebody's address, so only its kind and place are told.
        last = traceback.extract_tb(error.__traceback__)[-1]
        log.error("row_failed", kind=type(error).__name__, at=f"{last.filename}:{last.lineno}")  # noqa: TRY400
        return Answer(question.text, reason="failed")
