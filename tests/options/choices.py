"""What there is to choose in a folder of configurations, alone and combined, and small runs with it.

Options are found by listing folders, so a new one is tested without an edit here.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from microgpt.app import config_path

CONF = config_path()
Words = tuple[str, ...]  # as on the command line

UNTRAINED = ("hydra", "experiment", "debug", "tracking")  # groups without a part in what is trained
SMALL: dict[str, dict[str, Any]] = {  # set where the configuration has the key
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8},
    "model.mlp": {"expansion": 2},
    "model.attention": {"n_kv_head": 1, "window": 3},
    "data": {"val_fraction": 0.2, "test_fraction": 0.2, "count": 30, "max_length": 7},
    "trainer": {
        "num_steps": 4,
        "batch_size": 2,
        "log_every": 1,
        "eval_every": 2,
        "eval_documents": 2,
        "checkpoint_every": 2,
    },
    "sampling": {"num_samples": 2, "temperature": 1.0},
}
SETTINGS: dict[str, Sequence[Any]] = {  # of combinations, likewise
    "model.n_layer": (0, 1, 1, 2),
    "model.n_head": (1, 2, 4),
    "model.norm_embd": (True, False),
    "model.norm_final": (True, False),
    "model.norm_qk": (False, True),
    "model.bias": (False, True),
    "model.block.residual": (1.0, 0.5),  # 0 with projections of 0 lets nothing through at all
    "model.mlp.expansion": (1, 2, 3),
    "schedule.warmup_steps": (0, 2),
    "trainer.batch_size": (1, 2),
    "trainer.accumulate": (1, 1, 2),
    "trainer.clip_norm": (None, 0.1, 100.0),
    "trainer.train_length": (None, None, 5),
    "trainer.average": (None, None, 0.5),
    "sampling.temperature": (1.0, 0.0),
    "sampling.top_k": (0, 3),
    "data.split": ("hash", "shuffled"),
}
IMPOSSIBLE: list[Words] = [  # choices that are refused together
    ("model/attention=none", "model.norm_qk=true"),
    *(("model/init=mup", f"optimizer={rule}") for rule in ("sgd", "momentum", "nesterov", "muon")),
]
DOCUMENTS = ["ada", "dan", "gala", "nell", "lea", "dag", "nan", "elena", "lana", "deg", "el", "ned"]


@cache
def options(*folders: Path) -> list[tuple[str, str]]:
    """(group, option) of every file that is a part of what is trained."""
    files = [file.relative_to(folder) for folder in folders for file in folder.glob("*/**/*.yaml")]
    return [
        (file.parent.as_posix(), file.stem)
        for file in sorted(files)
        if file.parts[0] not in UNTRAINED
    ]


def of_group(group: str, *folders: Path) -> list[str]:
    """The options of a group."""
    return [option for there, option in options(*folders) if there == group]


def defaults() -> set[tuple[str, str]]:
    """(group, option) of what is trained where nothing is said."""
    chosen = dict(_chosen(CONF / "train.yaml"))
    inside = _chosen(CONF / f"model/{chosen['model']}.yaml")
    named = {*chosen.items(), *((f"model/{group}", option) for group, option in inside)}
    return named & set(options(CONF))


def _chosen(file: Path) -> list[tuple[str, str]]:
    entries = _keys(file).get("defaults", [])
    return [pair for entry in entries if isinstance(entry, Mapping) for pair in entry.items()]


def composed(text: Path, words: Words, *folders: Path) -> DictConfig:
    """`microgpt train` with these words, small, on the documents or the text of a file.

    `folders` come beside ours, as with `--config-dir`.
    """
    searched = ",".join(f"file://{folder}" for folder in folders)
    beside = [f"hydra.searchpath=[{searched}]"] if folders else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [*beside, *words])
    given = {word.partition("=")[0] for word in words}
    for section, values in SMALL.items():
        there = OmegaConf.select(cfg, section)
        for key, value in values.items():
            if key in set(there or ()) and f"{section}.{key}" not in given:
                there[key] = value
    if "path" in set(cfg.data):  # without `set`, a key that must be given is not found
        cfg.data.path = str(text)
    return cfg


def combinations(count: int, *folders: Path) -> Iterator[Words]:
    """Choices in all groups and settings at once: the same in every process."""
    for number in range(count):
        rng = Random(f"combination {number}")
        words = combination(rng, *folders)
        while any(set(pair) <= set(words) for pair in IMPOSSIBLE):
            words = combination(rng, *folders)
        yield words


def combination(rng: Random, *folders: Path) -> Words:
    """One choice in every group that the chosen model has, and settings."""
    found = options(CONF, *folders)
    chosen = {
        group: rng.choice([option for there, option in found if there == group])
        for group in sorted({group for group, _ in found})
    }
    model = next(
        file
        for folder in (*folders, CONF)
        if (file := folder / f"model/{chosen['model']}.yaml").exists()
    )
    parts = {f"model/{name}" for name in _parts(model)}
    words = [f"{g}={o}" for g, o in chosen.items() if "/" not in g or g in parts]
    settings = [f"{key}={_word(rng.choice(values))}" for key, values in SETTINGS.items()]
    return tuple(words + [word for word in settings if _fits(word, words)])


def _parts(model: Path) -> list[str]:
    """The groups within a model, by its defaults list and that of the model it is made from."""
    defaults = _keys(model).get("defaults", [])
    names = [str(name) for entry in defaults if isinstance(entry, Mapping) for name in entry]
    return [name for name in names if not name.startswith("override ")]


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower()


def _fits(setting: str, words: Sequence[str]) -> bool:
    """Whether the options have the key of a setting."""
    section, _, key = setting.partition("=")[0].rpartition(".")
    if section in ("trainer", "sampling"):
        return True
    chosen = dict(word.split("=") for word in words)
    group = section.replace(".", "/")
    file = CONF / group / f"{chosen.get(group)}.yaml"
    return file.exists() and key in _keys(file)


@cache
def _keys(file: Path) -> dict[str, Any]:
    """What a file sets, and the file of its group that it begins with."""
    own: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    first = next(iter(own.get("defaults", [])), None)
    if not isinstance(first, str) or first == "_self_":
        return own
    before = _keys(file.with_name(f"{first}.yaml"))
    return {**before, **own, "defaults": [*before.get("defaults", []), *own["defaults"]]}
