"""Where everything in a study folder stands, in names alone.

This page imports nothing but the standard library: listing ten thousand runs must not wait for
torch.
"""

import hashlib
import json
import re

#: Leftovers of a killed writer start with this; no reader looks at them.
TEMPORARY = ".writing-"
#: A folder that is being deleted; a killed cleaning leaves it, the next one finishes it.
DELETING = ".deleting-"
STUDY = "study.json"
INPUTS = "run.json"
RESULT = "result.json"
TIMING = "timing.json"
CHECKPOINTS = "checkpoints"
EVENTS = "tensorboard"


def slug(name: str) -> str:
    """`name` in lower case, with only letters, digits, dots and single dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def digest(value: object) -> str:
    """SHA-256 of `value` as canonical JSON: the same for equal tables in any order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def step_name(step: int, suffix: str) -> str:
    """`step-000050.parquet`: names sort as their steps do, up to a million."""
    return f"step-{step:06d}.{suffix}"


def step_of(name: str) -> int:
    """The step in a name that `step_name` made, with or without folders before it."""
    return int(name.rpartition("/")[2].partition(".")[0].removeprefix("step-"))
