"""Errors as `application/problem+json` (RFC 9457), with exactly the members that IMS sends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ims.api.errors import AirflowError, ConflictError, FieldError, OwnerError, UnusableError
from ims.errors import ConfigurationError, ImsError, InputError, MissingError, UnavailableError
from ims.records.holds import HeldError
from ims.records.store import IdTakenError, LinkTakenError, PurgingError

log = logging.getLogger(__name__)

# The first class that an error is an instance of decides.
_STATUS: dict[type[ImsError], int] = {
    ConflictError: 409,
    OwnerError: 403,
    UnusableError: 400,
    MissingError: 404,
    InputError: 422,
    UnavailableError: 503,
    ConfigurationError: 503,
}


class Problem(Exception):
    """A request that the HTTP layer itself refuses. The other rooms raise the errors of `ims.api.errors`."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def problem_response(
    status: int,
    detail: str,
    errors: Mapping[str, Sequence[str]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Returns the answer for a problem."""
    body = {"status": status, "title": HTTPStatus(status).phrase, "detail": detail}
    content = body if errors is None else {**body, "errors": errors}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def error_response(error: ImsError) -> JSONResponse:
    """Returns the answer for a domain error."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if isinstance(error, AirflowError):
        status = error.status
    return problem_response(status, str(error), error.fields if isinstance(error, FieldError) else None)


def install(app: FastAPI) -> None:
    """Makes `app` answer every error as a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(ImsError, _ims_error)
    app.add_exception_handler(LinkTakenError, _link_taken)
    app.add_exception_handler(IdTakenError, _conflict)
    app.add_exception_handler(PurgingError, _conflict)
    app.add_exception_handler(HeldError, _conflict)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _defect)


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(error.status, error.detail)


async def _ims_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ImsError)
    return error_response(error)


async def _link_taken(_request: Request, error: Exception) -> JSONResponse:
    return problem_response(422, f"link: {error}", {"link": [str(error)]})


async def _conflict(_request: Request, error: Exception) -> JSONResponse:
    return problem_response(409, str(error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return problem_response(400, "the body is not JSON")
    if any(item["loc"] == ("body",) and item["type"] == "missing" for item in found):
        return problem_response(400, "the body is empty")
    errors: dict[str, list[str]] = {}
    for item in found:
        where = [str(part) for part in item["loc"][1:]]
        errors.setdefault(".".join(where) or "body", []).append(item["msg"])
    summary = "; ".join(f"{field}: {', '.join(messages)}" for field, messages in errors.items())
    return problem_response(422, summary, errors)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path}"
    headers = dict(error.headers) if error.headers else None
    return problem_response(error.status_code, detail, headers=headers)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(500, "an unexpected error; the log of the service has the details")
