"""Translates the errors of the S3 client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ims.errors import ConfigurationError, ImsError, InputError, MissingError, UnavailableError

_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchUpload"}
_UNUSABLE = {"400", "BadRequest", "InvalidArgument", "InvalidURI", "KeyTooLongError", "InvalidBucketName"}
_REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turns errors of the client about `url` into those of `ims.errors`."""
    try:
        yield
    except Exception as error:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        if not isinstance(error, Boto3Error | BotoCoreError | ClientError):
            raise
        # For uploads, boto3 wraps the answer of S3 in an error of its own.
        answer = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
        if isinstance(answer, ClientError):
            raise _translated(url, answer.response.get("Error", {}).get("Code", "")) from error
        raise UnavailableError(f"S3 cannot be reached for {url}: {error}") from error


def _translated(url: str, code: str) -> ImsError:
    if code in _MISSING:
        return MissingError(f"{url} does not exist in S3")
    if code in _UNUSABLE:
        return InputError(f"S3 does not accept the address {url} ({code})")
    if code in _REFUSED:
        return ConfigurationError(
            f"S3 refuses access to {url} ({code})", "Check the S3 credentials and the bucket's policy"
        )
    return UnavailableError(f"S3 answers {code} for {url}")
