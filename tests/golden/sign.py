"""Write signatures/*.json anew: after a change that is meant to give past runs other signatures.

python -m tests.golden.sign
"""

import json

from microgpt.run.identity import signature
from tests.experiments import arithmetic, configs
from tests.golden.check import HERE, SIGNATURES

WITHOUT_LOCK = ["original"]  # experiments that no results.lock.json holds the questions of


def main() -> None:
    """The configurations of experiments without a lock are those of today, the others stay."""
    golden = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in SIGNATURES}
    for name in WITHOUT_LOCK:
        (config,) = configs(name)
        golden[name] = {"config": config, "data_digest": "d" * 64}
        golden[name]["config"]["paths"]["outputs"] = "outputs"
    for name, entry in golden.items():
        entry["arithmetic"] = arithmetic(entry["config"])
        entry["signature"] = signature(entry["config"], entry["data_digest"], entry["arithmetic"])
        text = json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
        (HERE / f"signatures/{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
