"""The code of a registered model: MLflow keeps a copy of this file, and runs it to load the model."""

from pathlib import Path
from typing import Any

import mlflow
import pandas
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from microgpt.guard import expected
from microgpt.serving.answers import Answers


class Served(PythonModel):
    """Generates and scores documents."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the run's files."""
        packages = (context.model_config or {}).get("trust", [])
        self.answers = Answers(Path(context.artifacts["run"]), packages)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pandas.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pandas.DataFrame:
        """Answers a column `text`. Raises MlflowException for a wrong request, which HTTP calls 400."""
        asked = {**self.answers.defaults, **(params or {})}
        try:
            return pandas.DataFrame(self.answers(model_input["text"].to_list(), **asked))
        except Exception as error:
            line, _ = expected(error)
            if line is None:
                raise
            raise MlflowException.invalid_parameter_value(line) from error


mlflow.models.set_model(Served())
