"""Wrong input: one line that names the key, the value and what is allowed; exit 2; nothing written."""

from pathlib import Path

import pytest

from tests.command import TINY, Within, command, files, refused, spelt

# What is written behind `microgpt train`, and what its one line of complaint must hold.
TRAIN: list[tuple[str, list[str]]] = [
    # keys and options
    ("foo=1", ["foo=1", "no such key", "seed", "trainer"]),
    ("+foo=1", ["foo=1", "no such key"]),
    ("~seed", ["seed", "is missing"]),
    ("~optimizer", ["optimizer", "is missing"]),
    ("+seed=3", ["+seed=3", "without the +"]),
    ("n_layer=2", ["n_layer=2", "did you mean model.n_layer?"]),
    ("model.n_layr=2", ["model.n_layr=2", "did you mean model.n_layer?"]),
    ("trainer.steps=9", ["trainer.steps=9", "did you mean trainer.num_steps?"]),
    ("trainer.colour=9", ["trainer.colour=9", "num_steps, batch_size"]),
    ("+model.colour=1", ["model.colour=1", "no such key", "n_embd"]),
    ("+model.norm.gain=1", ["model.norm.gain=1", "no such key", "eps"]),
    ("+model.vocab_size=5", ["model.vocab_size=5", "no such key"]),
    ("+trainer.colour=1", ["trainer.colour=1", "no such key", "num_steps"]),
    ("+optimizer.nesterov=true", ["optimizer.nesterov=true", "no such key", "beta1"]),
    ("optimizer=sgd optimizer.beta1=0.5", ["optimizer.beta1=0.5", "momentum"]),
    ("optimizer=adm", ["optimizer=adm", "adam, adam_half_life, adam_original, adamw, "]),
    ("model/norm=layer", ["model/norm=layer", "layernorm, layernorm_affine, none, rmsnorm"]),
    ("experiment=nope", ["experiment=nope", "activation, "]),
    ("+experiment=original", ["+experiment=original", "without the +"]),
    ("optimizr=adam", ["optimizr=adam", "did you mean optimizer?"]),
    ("model/nrm=none", ["model/nrm=none", "did you mean model/norm?"]),
    ("hydra/launcher=nope", ["hydra/launcher", "nope", "basic"]),
    ("model=null", ["model=null", "gpt"]),
    ("optimizer=null", ["optimizer=null", "adam"]),
    ("model.norm=3", ["model.norm=3", "model/norm=OPTION"]),
    ("trainer=3", ["trainer=3", "trainer.KEY=VALUE"]),
    # how overrides are written
    ("a==b", ["a==b", "key=value"]),
    ("=3", ["=3", "key=value"]),
    ("model.n_layer=[1", ["model.n_layer=[1", "key=value"]),
    ("seed", ["seed", "key=value"]),
    ("seed='", ["seed='", "quote is not closed"]),
    ("+", ["+: cannot be read", "+key=value adds a key"]),
    ("~", ["~: cannot be read", "~key removes a key"]),
    ("-", ["-: cannot be read", "key=value"]),
    ("optimizer.lr = 0.1", ["optimizer.lr: cannot be read"]),
    ("=", ["=: must be key=value", "without spaces around ="]),
    ("model.n_head=1,2", ["model.n_head=1,2: add -m for a sweep of several values"]),
    ("optimizer.lr=0,01", ["optimizer.lr=0,01: add -m", "write optimizer.lr=0.01 for one number"]),
    ("lr=0,01", ["lr=0,01: no such key", "did you mean optimizer.lr=0.01?"]),
    ("+optimzer.lr=1", ["no such key", "did you mean optimizer?"]),
    ("--lr=0.1", ["--lr=0.1", "write lr=0.1, without dashes"]),
    ("hydra.sweeper.arms=[]", ["hydra.sweeper.arms=[]: is for a sweep; add -m"]),
    ("description=a,b", ["description=a,b: add -m", "write 'description=\"a,b\"' for one text"]),
    ("seed=range(0)", ["seed=range(0): add -m"]),
    ("seed=${nothing}", ["seed", "nothing"]),
    ("seed=${oc.env:NO_SUCH}", ["seed", "NO_SUCH"]),
    ("--nope", ["--nope", "--help"]),
    ("--cfg nope", ["--cfg", "nope", "job"]),
    # values that Hydra does not expect
    ("model/position={a:1}", ["model/position={'a': 1}: no such option; there are "]),
    ("model/head=[1,[2]]", ["model/head=1: no such option; there are "]),
    ("model/mlp=${oc.env:NOPE,null}", ["no such option; there are "]),
    ("hydra.verbose={a:{b:1}}", ["hydra.verbose={a:{b:1}}: Hydra cannot use it"]),
    ("tracking=[0]", ["tracking=0: no such option; there are mlflow, none"]),
    ("hydra.output_subdir=there", ["hydra.output_subdir=there: must be null"]),
    ("hydra.job.chdir=true", ["hydra.job.chdir=true: must be false"]),
    # values
    ("model.n_head=3", ["model.n_head=3", "divide", "n_embd=4"]),
    ("model.block_size=0", ["model.block_size=0", ">= 1"]),
    ("model.block_size=100000000000000", ["model.block_size=", "10,000,000 parameters"]),
    ("model.n_layer=100000000000000", ["model.n_layer=", "10,000,000 parameters"]),
    ("model.n_embd=100000000000000", ["model='GPT'", "10,000,000 parameters", "mlp_fc1"]),
    ("model.mlp.expansion=10000000", ["model='GPT'", "10,000,000 parameters", "mlp_fc1"]),
    ("model.n_layer=-1", ["model.n_layer=-1", ">= 0"]),
    ("model.n_layer=abc", ["model.n_layer='abc'", "integer"]),
    ("model.n_embd=4.5", ["model.n_embd=4.5", "integer"]),
    ("model.norm.eps=0", ["model.norm.eps=0", "> 0"]),
    ("data.val_fraction=1", ["data.val_fraction=1", "< 1"]),
    ("data.val_fraction=-0.1", ["data.val_fraction=-0.1", ">= 0"]),
    ("data.split_seed=-1", ["data.split_seed=-1", ">= 0"]),
    ("optimizer.lr=-1", ["optimizer.lr=-1", "> 0"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "> 0"]),
    ("optimizer.lr=inf", ["optimizer.lr=inf", "> 0"]),
    ("optimizer.lr=0", ["optimizer.lr=0", "> 0"]),
    ("optimizer.lr=abc", ["optimizer.lr='abc'", "> 0"]),
    ("optimizer.lr=true", ["optimizer.lr=true", "> 0"]),
    ("optimizer.lr=null", ["optimizer.lr=null", "> 0"]),
    ("optimizer.beta1=1", ["optimizer.beta1=1", "< 1"]),
    ("optimizer.eps=0", ["optimizer.eps=0", "> 0"]),
    ("trainer.num_steps=0", ["trainer.num_steps=0", ">= 1"]),
    ("trainer.num_steps.x=0", ["trainer.num_steps.x=0", "holds no keys"]),
    ("trainer.batch_size=0", ["trainer.batch_size=0", ">= 1"]),
    ("trainer.log_every=-1", ["trainer.log_every=-1", ">= 0"]),
    ("trainer.stop_after=0", ["trainer.stop_after=0", ">= 1"]),
    ("trainer.clip_norm=0", ["trainer.clip_norm=0", "> 0"]),
    ("schedule.warmup_steps=-1", ["schedule.warmup_steps=-1", ">= 0"]),
    ("sampling.temperature=-1", ["sampling.temperature=-1", ">= 0"]),
    ("sampling.temperature=1e-320", ["sampling.temperature=1e-320", ">= 0", "1e-09"]),
    ("sampling.top_p=0", ["sampling.top_p=0", "> 0"]),
    ("seed=-1", ["seed=-1", ">= 0"]),
    ("seed=1.5", ["seed=1.5", "integer"]),
    ("progress=3", ["progress=3", "true or false"]),
    ("tracking=mlflow tracking.uri=nonsense", ["tracking.uri='nonsense'", "http://", "sqlite"]),
    ("tracking=mlflow tracking.experiment=null", ["tracking.experiment=null", "name"]),
    ("tracking=mlflow tracking.experiment=../x", ["tracking.experiment", "../x", "without .."]),
    # data
    ("data.path=empty.txt", ["data.path='empty.txt'", "at least one document"]),
    ("data.path=latin.txt", ["data.path='latin.txt'", "UTF-8", "byte 1"]),
    ("data.path=missing.txt", ["data.path='missing.txt'", "No such file"]),
    ("data.path=own", ["data.path='own'", "directory"]),
    ("data.path=3", ["data.path=3", "file"]),
    ("data.path=", ["data.path=''", "file"]),
    ("data=lines", ["data.path", "data.path="]),
    # configurations and classes of the user's own
    ("--config-dir nowhere", ["--config-dir nowhere", "no such folder"]),
    ("--config-dir own model=mine2", ["model=mine2", "microgpt, mine"]),
    ("--config-dir own model=mine", ["model.norm._target_='mine.Norm'", "No module named 'mine'"]),
    ("--config-dir own schedule=broken", ["broken.yaml", "line 2"]),
    ("model.norm._target_=microgpt.core.model.Nope", ["model.norm._target_", "Nope"]),
    ("debug=overfit data=lines data.path=names.txt", ["data.count=8", "leave out data=lines"]),
    # runs and where they are kept
    ("paths.outputs='bad\udcff'", ["UTF-8"]),
    ("paths.outputs='bad\udcff' -m seed=1,2", ["UTF-8"]),
    ("paths.outputs=null", ["paths.outputs=null", "folder"]),
    ("paths.outputs=empty.txt", ["paths.outputs=empty.txt", "empty.txt is not a folder"]),
    (
        "paths.outputs=empty.txt/deeper",
        ["paths.outputs=empty.txt/deeper", "empty.txt is not a folder"],
    ),
    ("hydra.run.dir=null", ["hydra.run.dir"]),
    ("hydra.run.dir=empty.txt/run", ["empty.txt"]),
    # flags
    ("--cfg job --info", ["--cfg", "--info"]),
    ("--resolve", ["--resolve", "--cfg"]),
    ("--config-dir", ["--config-dir", "argument"]),
    ("--config-name nope", ["nope"]),
    ("--experimental-rerun x", ["--experimental-rerun", "resume=RUN"]),
    ("-sc install=nope", ["nope", "bash"]),
    ("--config-dir own schedule=latin", ["UTF-8", "latin.yaml"]),
    # sweeps that cannot begin
    ("-m seed=1,2 hydra.sweeper._target_=nowhere.Sweeper", ["hydra.sweeper", "nowhere.Sweeper"]),
    ("-m seed=range(1,9,0)", ["seed=range(1,9,0)"]),
    ("-m seed=1,2 tracking=mlflow tracking.uri=nonsense", ["tracking.uri='nonsense'"]),
    ("-m optimizer=adam,adm", ["optimizer=adm", "adam, adam_half_life, adam_original, adamw, "]),
    ("-m optimizer=adam,null", ["optimizer=null", "no such option", "adam"]),
    ("-m foo=1,2", ["foo=1,2", "no such key"]),
    ("-m foo=1,2 hydra/launcher=basic", ["foo=1,2", "no such key"]),
    ("-m seed=1,2 hydra/launcher=dsk", ["hydra/launcher/dsk", "basic, processes"]),
    ("-m seed=range(0)", ["seed=range(0): has no values"]),
    ("-m optimizer._target_=glob(*)", ["optimizer._target_=glob(*): has no values"]),
    ("-m hydra.sweeper.arms=[]", ["hydra.sweeper.arms=[]", "at least one"]),
    ("-m optimizer.lr=[1]", ["optimizer.lr=[1]: must be a number > 0"]),
    ("-m model.n_head=3,5", ["model.n_head=3: must divide n_embd=4"]),
    ("-m ~trainer", ["trainer: is missing"]),
    ("-m seed=1,", ["seed=1,", "key=value"]),
]

OTHER: list[tuple[str, list[str]]] = [
    ("nope", ["nope", "no such command", "train, variants, sample, runs"]),
    ("trian", ["trian", "no such command", "did you mean train?"]),
    ("--nope", ["--nope", "no such command"]),
    ("train resume=nope", ["resume=nope", "no such run", "microgpt runs"]),
    ("train resume=", ["resume=''", "must name a run", "microgpt runs"]),
    ("sample", ["RUN", "required"]),
    ("sample nope", ["nope", "no such run", "microgpt runs"]),
    ("sample nope --loud", ["--loud", "--help"]),
    ("sample nope --seed x", ["--seed", "'x'"]),
    ("runs -n -1", ["-n", "-1", "at least 0"]),
    ("runs -n x", ["-n", "'x'"]),
    ("sync nope", ["nope", "no such run"]),
    ("ui --uri nonsense", ["uri='nonsense'", "sqlite"]),
    ("ui --port x", ["--port", "'x'"]),
]

# Those that are run as processes, the rest within this one.
PROCESSES = {"--nope", "optimizer.lr=nan", "data.path=latin.txt", "-m optimizer=adam,adm"}


@pytest.mark.parametrize(("wrong", "parts"), TRAIN, ids=[wrong for wrong, _ in TRAIN])
def test_training_that_cannot_be(
    wrong: str,
    parts: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = files(place)
    if wrong in PROCESSES:
        ended = command(spelt(wrong), place)
    else:
        ended = Within(monkeypatch, capfd)(*spelt(wrong))
    refused(ended, parts)
    assert files(place) == before


def test_there_are_enough_of_them() -> None:
    assert {wrong for wrong, _ in TRAIN} >= PROCESSES
    assert len(TRAIN) >= 100


@pytest.mark.parametrize(("wrong", "parts"), OTHER, ids=[wrong for wrong, _ in OTHER])
def test_commands_that_cannot_be(
    wrong: str,
    parts: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = files(place)
    refused(Within(monkeypatch, capfd)(*wrong.split()), parts)
    assert files(place) == before


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("MICROGPT_OUTPUTS", "empty.txt", ["empty.txt", "is not a folder"]),
        ("MLFLOW_TRACKING_URI", "nonsense", ["tracking.uri='nonsense'", "sqlite"]),
    ],
)
def test_an_environment_that_cannot_be(
    name: str, value: str, parts: list[str], place: Path
) -> None:
    before = files(place)
    refused(command(["train", *TINY], place, **{name: value}), parts)
    assert files(place) == before


@pytest.mark.parametrize("name", ["makemore", "shakespeare"])
def test_a_download_without_a_network(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No network, as the proxy that nobody is behind makes sure."""
    for variable in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "own"))
    ended = Within(monkeypatch, capfd)(*spelt(f"data={name}"))
    refused(ended, ["data.path=null", "cannot download", "data.path=FILE"])
    assert files(place / "outputs") == []
