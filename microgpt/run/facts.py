"""The facts that run.json and sweep.json hold, and of which kind each is."""

import re

from microgpt.run.reading import (
    COUNT,
    KEYS,
    TEXT,
    TEXTS,
    TIME,
    Kind,
    Kinds,
    each,
    or_null,
    with_keys,
)

STATUSES = "running", "finished", "failed", "stopped"
PLACE = re.compile(r"step \d+ of \d+")
STATUS = Kind(f"one of {', '.join(STATUSES)}", lambda value: value in STATUSES)
STOP = Kind("step N of M", lambda value: bool(TEXT.holds(value) and PLACE.fullmatch(value)))
UID = Kind(
    "32 hexadecimal digits",
    lambda value: bool(TEXT.holds(value) and re.fullmatch("[0-9a-f]{32}", value)),
)
DOCUMENTS = with_keys("", {"documents": COUNT, "name": TEXT, "digest": TEXT, "vocabulary": TEXT})
DATA = Kind(  # none are known of documents that could not be read
    "facts about documents", lambda value: value == {} or DOCUMENTS.holds(value)
)
ORIGIN = with_keys(
    "the origin of a fork", {"run": TEXT, "mlflow": TEXT, "signature": TEXT, "step": COUNT}
)
FOLDER = Kind(  # beside others of its kind: nothing that leads elsewhere
    "the name of a folder",
    lambda value: (
        bool(TEXT.holds(value) and re.fullmatch(r"[^/\0]+", value)) and value not in (".", "..")
    ),
)
JOB = with_keys("a job", {"run": FOLDER, "name": TEXT, "arm": TEXT, "differs": KEYS, "tags": KEYS})
SECTIONS = dict.fromkeys(("data", "paths", "tracking", "trainer"), KEYS)  # of a configuration
CONFIG = with_keys(f"a configuration with {', '.join(SECTIONS)}", SECTIONS)

BOTH: Kinds = {
    **dict.fromkeys(("id", "name", "signature", "source"), TEXT),
    "status": STATUS,
    "begun": TIME,
}
RUN_FACTS: Kinds = {
    **BOTH,
    "num_steps": COUNT,
    "git": TEXTS,
    "fingerprint": TEXTS,
    "data": DATA,
}
RUN_OTHERS: Kinds = {
    "uid": UID,
    "ended": or_null(TIME),
    "stopped_at": or_null(STOP),
    "failed_at": or_null(COUNT),
    "reason": or_null(TEXT),
    "parameters_sha256": or_null(TEXT),
    "earlier": each(TEXT),
    "n_params": COUNT,
    "packages": TEXTS,
    "source_files": TEXTS,
    "fork": ORIGIN,
    "sweeps": Kind(
        "a mapping of folders' names to texts",
        lambda value: bool(TEXTS.holds(value) and all(map(FOLDER.holds, value))),
    ),
    "swept": TEXTS,
}
PROTOCOL = with_keys(
    "a frozen protocol", {"digest": TEXT, "time": TEXT, "commit": or_null(TEXT), "content": KEYS}
)
SWEEP_FACTS: Kinds = {**BOTH, "jobs": each(JOB), "grid": KEYS, "config": CONFIG}
SWEEP_OTHERS: Kinds = {
    "uid": UID,
    "ended": or_null(TIME),
    "experiment": or_null(TEXT),
    "ablation": or_null(KEYS),
    "protocol": or_null(TEXT),
    "config_dir": or_null(TEXT),
    "protocols": each(PROTOCOL),
}
