"""Failures: as a value until somebody needs what failed, and why a library failed in one line."""

from typing import TypeVar

T = TypeVar("T")


def or_raise(value: T | BaseException) -> T:
    """Return `value`, raising it when it is an error."""
    if isinstance(value, BaseException):
        raise value
    return value


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name: libraries explain themselves at length."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
