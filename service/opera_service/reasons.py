"""Why a library failed, in one line."""


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name: libraries explain themselves at length."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
