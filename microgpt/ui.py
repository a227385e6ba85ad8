"""The MLflow UI on the store of the bench."""

import os
import subprocess
import sys
from pathlib import Path

from microgpt.tracking import EXPERIMENT, open_store, store_uri


def serve(uri: str | None, outputs: Path, port: int) -> None:
    """Run MLflow's web server until it is interrupted."""
    store = store_uri(uri, outputs)
    print(f"open  {runs_address(store, outputs, f'http://127.0.0.1:{port}')}", flush=True)
    print("stop  Ctrl-C", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--port", str(port), "--workers", "1"]
    # One process instead of ten: nothing here runs jobs on the server.
    light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    subprocess.run(command, env=os.environ | light, check=False)


def runs_address(store: str, outputs: Path, server: str) -> str:
    """The table of runs of the experiment; without the last part the UI opens an empty view."""
    found = open_store(store, outputs).get_experiment_by_name(EXPERIMENT)
    if found is None:
        return server
    return f"{server}/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"
