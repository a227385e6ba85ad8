"""Sentences of a report about what was run, and about what that cannot say."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from microgpt.ablation.report.looks import stopping
from microgpt.ablation.report.render import PARTS, count
from microgpt.terminal import span

Lock: TypeAlias = Mapping[str, Any]
MOST = 9  # arms that are all named in one line


def lines(lock: Lock) -> list[str]:
    """The settings that all arms share; what differs between arms stands with each arm."""
    config = lock["config"]
    varied = {key for run in lock["runs"] for key in run.get("overrides", ())}
    trainer, model = config["trainer"], config["model"]

    def shared(*keys: str) -> bool:
        return not any(own.startswith(keys) for own in varied)

    sizes = [
        f"{key} {model[key]}"
        for key in ("n_layer", "n_head", "n_embd", "block_size")
        if key in model and shared(f"model.{key}")
    ]
    steps = f"{count(trainer['num_steps'])} steps" if shared("trainer.num_steps") else ""
    size = trainer["batch_size"]
    batch = f"{size} sequence{'s' * (size > 1)} a step" if shared("trainer.batch_size") else ""
    rule = _class(config["optimizer"]) if shared("optimizer._target_") else ""
    rate = f"peak learning rate {config['optimizer']['lr']:g}" if shared("optimizer.lr") else ""
    schedule = f"schedule {_class(config['schedule'])}" if shared("schedule.") else ""
    training = ", ".join(filter(None, (steps, batch, rule, rate, schedule)))
    lines = [
        compared(lock),
        stopping(lock),
        _data(lock) if shared("data.") else "",
        f"model: {', '.join(sizes)}" if sizes else "",
        f"training: {training}" if training else "",
        f"engine: {lock['fingerprint'].get('engine', 'unknown')}",
        judged(lock),
        f"sweep: `{lock['sweep']['id']}`",
    ]
    return [line for line in lines if line]


def _data(lock: Lock) -> str:
    """Which documents there are, and how they are split."""
    data, config = lock["data"], lock["config"]["data"]
    told = f"data: {data['name']}, {count(data['documents'])} documents; digest `{data['digest'][:12]}`"
    looked = min(lock["config"]["trainer"]["eval_documents"], data["val_documents"])
    first, last = "are looked at", "judge"
    if PARTS[lock["figure"]] == "validation":
        first, last = "judge", "are left aside"
    validation = (
        f"{count(data['val_documents'])} are for validation, of which {count(looked)} {first}"
    )
    sizes = [f"{count(data['train_documents'])} train"] if "train_documents" in data else []
    sizes += [validation, *([f"{count(n)} {last}"] if (n := data.get("test_documents")) else [])]
    seed = f"; split with the seed {config['split_seed']}" if "split_seed" in config else ""
    return f"{told}: {', '.join(sizes)}{seed}"


def compared(lock: Lock) -> str:
    """The arms, and the seeds that each is trained with."""
    names = [row["arm"] for row in lock["table"]]
    named = names if len(names) <= MOST else [*names[:2], "...", names[-1]]
    seeds = span(sorted({run["seed"] for run in lock["runs"]}))
    return (
        f"arms, the {len(names)} settings that are compared: {', '.join(named)}; each is trained with the "
        f"seeds {seeds}, which draw initial weights and the order of documents"
    )


def judged(lock: Lock) -> str:
    """By what the arms are judged."""
    data, part = lock["data"], PARTS[lock["figure"]]
    number = min(lock["config"]["trainer"]["eval_documents"], data["val_documents"])
    number = data["test_documents"] if part == "test" else number
    return f"judged by: held-out loss after the last step, on {count(number)} documents of the {part} part"


def limits(lock: Lock) -> str:
    """What the result does not say, where the experiment names no limits of its own."""
    sizes = sorted(row["n_params"] for row in lock["table"] if row["n_params"])
    small, large = (count(size) for size in (sizes[0], sizes[-1])) if sizes else ("", "")
    models = f"models of {small} to {large}" if small != large else f"a model of {small}"
    return (
        f"At this scale: {models} parameters, and the data `{lock['data']['name']}`. Nothing here says "
        "that it holds for larger models, other data or longer training."
    )


def _class(section: Mapping[str, Any]) -> str:
    return str(section["_target_"]).rpartition(".")[2]
