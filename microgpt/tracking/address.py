"""Which store is meant: its address, and the file of a SQLite database."""

import os
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from microgpt.core.check import BadValue
from microgpt.secret import ADDRESS, MASK, kept

SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks"}
DATABASE = "mlflow.db"  # in the outputs
FILE = "sqlite:///"
# The same to SQLAlchemy, which decodes %; MLflow makes folders of what follows the other, undecoded.
ENCODED = "sqlite+pysqlite:///"


def store_uri(uri: str | None, outputs: Path) -> str:
    """The store: the one asked for, MLFLOW_TRACKING_URI, or a database in `outputs`.

    Its password is masked; `open_store` uses it all the same.
    """
    asked = check_uri(kept(uri or os.environ.get(ADDRESS, "")) or None)
    if asked is None:
        return own_database(outputs)
    file = database_file(asked)
    if file is None or file.is_absolute():
        return asked
    _, mark, options = asked.partition("?")
    # By its whole path: it may be opened when the process is elsewhere.
    return f"{file_uri(file.absolute())}{mark}{options}"


def own_database(outputs: Path) -> str:
    """The database in `outputs`."""
    return file_uri(outputs.absolute() / DATABASE)


def file_uri(file: Path) -> str:
    """The address of a SQLite database in a file, whose name may have any characters."""
    text = str(file)
    return f"{ENCODED}{quote(text)}" if {"%", "?"} & {*text} else f"{FILE}{text}"


def database_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for other stores, and a database in memory."""
    for start in (FILE, ENCODED):
        path = unquote(uri.removeprefix(start).partition("?")[0])
        if uri.startswith(start) and path and not path.startswith(":"):
            return Path(path)
    return None


def check_uri(uri: str | None) -> str | None:
    """`uri`, if it may be that of a server or a database. Raises BadValue."""
    known = isinstance(uri, str) and uri.partition(":")[0].partition("+")[0] in SCHEMES
    if uri is not None and not ((known and "/" in uri) or uri == "databricks"):
        allowed = "must be http://SERVER, sqlite:////FILE or another database (or null)"
        raise BadValue("uri", uri, allowed)
    if uri is not None and _hides_a_password(uri):  # which of it cannot be told: nothing is printed
        raise BadValue("uri", MASK, "must have %27 for ', %22 for \", and no odbc_connect")
    return uri


def _hides_a_password(uri: str) -> bool:
    """Whether an address may have a password that `masked` does not find, or not to its end."""
    place, _, query = uri.partition("?")
    quoted = (place if "@" in uri else "") + query
    return "'" in quoted or '"' in quoted or "odbc_connect=" in unquote(query).lower()


def store_words(store: str, outputs: Path) -> list[str]:
    """The words with which a command uses this store; none if it would without."""
    return [] if store == store_uri(None, outputs) else ["--uri", store]


def is_web(uri: str) -> bool:
    """Whether the store is a server with MLflow's UI."""
    return uri.startswith(("http:", "https:"))


def is_server(uri: str) -> bool:
    """Whether the store is a server, which makes its own database and keeps artifacts where it wants."""
    return is_web(uri) or uri.startswith("databricks")


def check_experiment(name: Any) -> str:
    """A name under which artifacts lie within the outputs. Raises BadValue."""
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    if not name or path.is_absolute() or ".." in path.parts:
        raise BadValue("experiment", name, "must be a name, without .. and a / at its beginning")
    return str(name)
