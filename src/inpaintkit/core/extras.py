"""Packages that optional parts of the installation bring."""

from importlib import import_module
from types import ModuleType

from inpaintkit.core.errors import UsageError


def extra(module: str, part: str) -> ModuleType:
    """A module of such a package. Raises `UsageError` naming the part that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        cause = " ".join(str(error).split())[:120]
        raise UsageError(f"{module}: cannot be imported ({cause}); pip install 'inpaintkit[{part}]' brings it") from None
