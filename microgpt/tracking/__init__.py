"""MLflow: a copy of what the folders say. The one place that writes to a store."""

from microgpt.tracking.address import database_file, store_uri
from microgpt.tracking.labels import comparable, facts_of, params_of, tags_of
from microgpt.tracking.owner import STATUS
from microgpt.tracking.process import SendingProcess
from microgpt.tracking.store import StoreError, cut, open_store, problem, told
from microgpt.tracking.sync import is_tracked, sync
from microgpt.tracking.tracker import MLflow, NoTracking, Tracking

__all__ = [
    "STATUS",
    "MLflow",
    "NoTracking",
    "SendingProcess",
    "StoreError",
    "Tracking",
    "comparable",
    "cut",
    "database_file",
    "facts_of",
    "is_tracked",
    "open_store",
    "params_of",
    "problem",
    "store_uri",
    "sync",
    "tags_of",
    "told",
]
