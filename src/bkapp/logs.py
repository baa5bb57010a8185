"""Logs: one JSON object a line on standard output, without personal data."""

import logging
import re
import sys

import msgspec
import structlog

_ENCODER = msgspec.json.Encoder(enc_hook=str)


_VALUES = re.compile(r"^(\s*)(DETAIL|CONTEXT):.*$", re.MULTILINE)


def without_values(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut what PostgreSQL adds to its errors: the values of the row, which are somebody's data."""
    if "exception" in event:
        event["exception"] = _VALUES.sub(r"\1\2: (left out)", str(event["exception"]))
    return event


def set_up_logs(level: str) -> None:
    """Log as JSON from ``level`` up; other libraries' records from warnings up, in the same form."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_values,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=lambda event, **_: _ENCODER.encode(event))],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=lambda event, **_: _ENCODER.encode(event).decode()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
