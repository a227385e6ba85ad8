"""MLflow: a copy of what the folders say. The one place that writes to a store."""

from microgpt.tracking.process import SendingProcess
from microgpt.tracking.projection import STATUS, params_of
from microgpt.tracking.store import StoreError, cut, open_store, store_uri, told
from microgpt.tracking.sync import is_tracked, sync
from microgpt.tracking.tracker import MLflow, NoTracking, Tracking

__all__ = [
    "STATUS",
    "MLflow",
    "NoTracking",
    "SendingProcess",
    "StoreError",
    "Tracking",
    "cut",
    "is_tracked",
    "open_store",
    "params_of",
    "store_uri",
    "sync",
    "told",
]
