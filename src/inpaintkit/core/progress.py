"""How far a job has come."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Steps, rings or pictures that are done, and all of them."""

    done: int
    total: int
