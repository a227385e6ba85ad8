"""`microgpt register`: a run's model as an MLflow LoggedModel, and as a version of a registered model."""

import json
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from microgpt import __version__
from microgpt.ablation.records.record import Record, opened
from microgpt.console import out
from microgpt.core.check import BadValue
from microgpt.run.documents import DOCUMENTS
from microgpt.run.folder import RunFolder
from microgpt.run.identity import leaves
from microgpt.run.state import check_kept
from microgpt.secret import restored
from microgpt.serving.answers import Answers
from microgpt.tracking.store import imported, problem
from microgpt.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient

CODE = Path(__file__).with_name("model.py")
SERVE = ("--env-manager", "local", "--host", "127.0.0.1", "--port", "5001")
REQUIREMENT = f"microgpt-workbench=={__version__}"
ANSWER = {"text": "string", "nats": "double", "tokens": "long"}  # columns of an answer
FILES = ("config.yaml", "run.json", DOCUMENTS)  # beside a checkpoint, what a model needs of its run


def register(
    reference: str, name: str, uri: str | None, outputs: Path, trust: Trust, as_json: bool = False
) -> None:
    """Registers a run's last checkpoint as a new version of the model `name`.

    trust  which classes the run may name, now and where the model is loaded

    Raises NoSuchRun, BadValue, BadRecord and ConfigError before anything is written.
    """
    with opened(reference, uri, outputs) as record, TemporaryDirectory() as place:
        files = Path(place) / "run"
        _copy(record.folder, files)
        packages = _packages(record.folder, trust)
        answers = Answers(files, packages)
        answers([""], **answers.defaults)  # it can
        client = record.store.client
        _make(client, name)
        logged = _log(record, files, answers, packages)
        run_id = str(record.run.info.run_id)
        version = client.create_model_version(
            name, logged.model_uri, run_id, model_id=logged.model_id
        ).version
    address = f"models:/{name}/{version}"
    run, store = record.run.data.tags["microgpt.id"], shlex.quote(record.store.uri)
    serve = shlex.join(["mlflow", "models", "serve", "-m", address, *SERVE])
    serve = f"MLFLOW_TRACKING_URI={store} {serve}"
    if as_json:
        print(json.dumps({"model": address, "run": run, "serve": serve}, indent=1))
        return
    out.print(f"model  {address}  of run {run}\nserve  {serve}", markup=False)


def _packages(run: RunFolder, trust: Trust) -> list[str]:
    """The packages that are trusted, and the modules of the classes that the run names."""
    named = {str(value) for key, value in leaves(run.config).items() if key.endswith("._target_")}
    own = {name.rpartition(".")[0] for name in named & trust.classes}
    return sorted({*trust.packages, *own})


def _copy(run: RunFolder, place: Path) -> None:
    """Copies what a model needs. Raises BadValue."""
    kept = check_kept(run, run.info["id"])
    if not (run.path / DOCUMENTS).exists():
        raise BadValue("RUN", run.info["id"], "did not keep its documents, which a model needs")
    (place / "checkpoints").mkdir(parents=True)
    for name in FILES:
        shutil.copy(run.path / name, place / name)
    shutil.copy(kept[0], place / "checkpoints" / kept[0].name)


def _make(client: "MlflowClient", name: str) -> None:
    """Makes the registered model, if there is none. Raises BadValue for a name that cannot be one."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        client.get_registered_model(name)
        return
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        raise BadValue("name", name, f"cannot be registered ({problem(error)})") from error


def _log(record: Record, files: Path, answers: Answers, packages: Sequence[str]) -> Any:
    """Logs the model as one of its run: code, no pickle, with signature and input example."""
    mlflow = imported()
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema
    from pandas import DataFrame

    mlflow.set_tracking_uri(restored(record.store.uri))
    mlflow.set_experiment(experiment_id=str(record.run.info.experiment_id))
    params = answers.defaults
    kinds = {str: "string", int: "long", float: "double"}
    given = Schema([ColSpec("string", "text")])
    answered = Schema([ColSpec(kind, name) for name, kind in ANSWER.items()])
    specs = [ParamSpec(key, kinds[type(value)], value) for key, value in params.items()]
    return Model.log(
        artifact_path=None,
        name="model",
        flavor=mlflow.pyfunc,
        run_id=str(record.run.info.run_id),
        step=int(record.folder.checkpoints()[0].stem.removeprefix("step-")),
        python_model=str(CODE),
        artifacts={"run": str(files)},
        signature=ModelSignature(given, answered, ParamSchema(specs)),
        input_example=(DataFrame({"text": [""]}), params),
        pip_requirements=[REQUIREMENT],
        model_config={"trust": list(packages)} if packages else None,  # MLflow shows it as a param
    )
