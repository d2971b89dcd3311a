"""What the S3 client raises, said in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from ims.errors import ConfigurationError, InputError, MissingError, UnavailableError

_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchUpload"}
_UNUSABLE = {"400", "BadRequest", "InvalidArgument", "InvalidURI", "KeyTooLongError", "InvalidBucketName"}
_REFUSED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn the client's errors about `url` into those of `ims.errors`."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            raise MissingError(f"{url} does not exist in S3") from error
        if code in _UNUSABLE:
            raise InputError(f"{url} is not an address that S3 takes ({code})") from error
        if code in _REFUSED:
            raise ConfigurationError(
                f"S3 refuses access to {url} ({code})", "Check the S3 credentials and the bucket's policy"
            ) from error
        raise UnavailableError(f"S3 answers {code} for {url}") from error
    except (Boto3Error, BotoCoreError) as error:
        raise UnavailableError(f"S3 cannot be reached for {url}: {error}") from error
