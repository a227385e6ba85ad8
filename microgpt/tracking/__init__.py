"""MLflow: a copy of what the folders say. The one place that writes to a store."""

from microgpt.tracking.projection import STATUS
from microgpt.tracking.store import StoreError, open_store, store_uri
from microgpt.tracking.tracker import MLflow, NoTracking, flush, is_tracked, sync

__all__ = [
    "STATUS",
    "MLflow",
    "NoTracking",
    "StoreError",
    "flush",
    "is_tracked",
    "open_store",
    "store_uri",
    "sync",
]
