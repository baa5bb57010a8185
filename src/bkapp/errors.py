"""Errors that callers are meant to see.

A ``DomainError`` says "your request was understood and refused".  It is part of
the API: its ``code`` is stable, its ``title`` is Vietnamese for the person, its
``detail`` English for the engineer (RFC 9457).  Anything that is not a
``DomainError`` is a bug or an outage, and is answered with a bare 500 or 503.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from msgspec import Struct


class FieldError(Struct, frozen=True):
    """What is wrong with one field.  ``pointer`` is a JSON pointer (RFC 6901) into the body or a parameter's name."""

    pointer: str
    detail: str


class DomainError(Exception):
    """A refusal the caller can act on."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "Yêu cầu không thực hiện được ở trạng thái hiện tại"

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class NotFound(DomainError):
    """There is nothing of that name, or nothing that is told."""

    status = 404
    code = "not_found"
    title = "Không tìm thấy"


class Malformed(DomainError):
    """The request cannot be read: bad JSON, a missing field, a value of the wrong type."""

    status = 400
    code = "malformed"
    title = "Yêu cầu không đúng định dạng"

    def __init__(self, detail: str, errors: Sequence[FieldError] = (), **facts: object) -> None:
        super().__init__(detail, errors=list(errors), **facts)


class Invalid(DomainError):
    """The request can be read, but what it says cannot be."""

    status = 422
    code = "invalid"
    title = "Nội dung chưa hợp lệ"

    def __init__(self, detail: str, errors: Sequence[FieldError] = (), **facts: object) -> None:
        super().__init__(detail, errors=list(errors), **facts)


class Unauthenticated(DomainError):
    """The route needs an API key, or the key that was sent is unknown, expired or revoked."""

    status = 401
    code = "unauthenticated"
    title = "Cần đăng nhập hoặc khóa truy cập hợp lệ"


class Forbidden(DomainError):
    """The key is good, but not for this."""

    status = 403
    code = "forbidden"
    title = "Bạn không có quyền làm việc này"


class Unavailable(DomainError):
    """A part that the answer needs (the database) is away for the moment; try again after Retry-After."""

    status = 503
    code = "unavailable"
    title = "Hệ thống đang bận, xin thử lại sau ít phút"


class MethodNotAllowed(DomainError):
    """The address is right, the method is not; Allow lists those that are."""

    status = 405
    code = "method_not_allowed"
    title = "Phương thức không được hỗ trợ"


class NotAcceptable(DomainError):
    """None of the forms that the Accept header asks for is there."""

    status = 406
    code = "not_acceptable"
    title = "Không có định dạng được yêu cầu"


class TooLarge(DomainError):
    """The body is larger than the route takes."""

    status = 413
    code = "too_large"
    title = "Dữ liệu gửi lên quá lớn"


class UnsupportedMediaType(DomainError):
    """The body is not of a type that the route reads: application/json, or a form where a file is sent."""

    status = 415
    code = "unsupported_media_type"
    title = "Kiểu dữ liệu gửi lên không được hỗ trợ"


class TooManyRequests(DomainError):
    """More requests from one network address than the limit allows; wait for Retry-After."""

    status = 429
    code = "too_many_requests"
    title = "Quá nhiều yêu cầu, xin chờ một chút"


class KeyMissing(DomainError):
    """A POST came without an Idempotency-Key of 1 to 255 visible ASCII characters."""

    status = 400
    code = "idempotency_key_missing"
    title = "Thiếu khóa chống gửi trùng (Idempotency-Key)"


class KeyInFlight(DomainError):
    """The first request with this Idempotency-Key is not finished; ask again after Retry-After."""

    status = 409
    code = "idempotency_key_in_flight"
    title = "Yêu cầu cùng khóa đang được xử lý"


class KeyReused(DomainError):
    """The Idempotency-Key was used before for a request with another path or body."""

    status = 422
    code = "idempotency_key_reused"
    title = "Khóa chống gửi trùng đã dùng cho một yêu cầu khác"


def refusals(kind: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    """Every kind of refusal there is, for the documentation and its test."""
    yield kind
    for child in kind.__subclasses__():
        yield from refusals(child)
