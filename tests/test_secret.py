"""A password in the address of a store is used, and written nowhere."""

import os
from pathlib import Path

import pytest

from microgpt.run.folder import all_runs
from microgpt.secret import NAME, PASSWORD, blackened, kept, masked, public, restored
from microgpt.tracking.address import check_uri
from tests.command import OFFLINE, TINY, Ended, command

SECRET = "geheim%40-7"  # as an address has it
PLAIN = "geheim@-7"
SERVER = f"http://lead:{SECRET}@127.0.0.1:1"  # nothing answers there
HIDDEN = "http://lead:***@127.0.0.1:1"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials of the environment: none, and as before after the test."""
    for name in (NAME, PASSWORD):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    ("text", "without"),
    [
        (SERVER, HIDDEN),
        ("http://u:p@ss@host:5000/a", "http://u:***@host:5000/a"),
        ("postgresql+psycopg2://u:pa/ss@host/db", "postgresql+psycopg2://u:***@host/db"),
        ("uri=http://u:p@h,http://v:q@i", "uri=http://u:***@h,http://v:***@i"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("mysql://h/db?user=u&passwd=p", "mysql://h/db?user=u&passwd=***"),
        ("http://h/?token=t&sslpassword=p", "http://h/?token=***&sslpassword=***"),
        ("mssql://h/db?UID=u&PWD=p;x", "mssql://h/db?UID=u&PWD=***"),
        ("{uri: 'http://:p@h'}", "{uri: 'http://:***@h'}"),
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("sqlite:////a:b@c/d.db", "sqlite:////a:b@c/d.db"),
        ("see http://u@host or a@b", "see http://u@host or a@b"),
    ],
)
def test_only_passwords_are_masked(text: str, without: str) -> None:
    assert masked(text) == masked(without) == without


@pytest.mark.usefixtures("environ")
def test_a_password_is_kept_for_the_connection() -> None:
    with pytest.raises(LookupError, match=f"set {PASSWORD}"):
        restored(HIDDEN)
    assert kept(SERVER) == HIDDEN
    assert restored(HIDDEN) == "http://127.0.0.1:1" == public(HIDDEN)
    assert (os.environ[NAME], os.environ[PASSWORD]) == ("lead", PLAIN)
    assert restored("postgresql://lead:***@host/db") == f"postgresql://lead:{SECRET}@host/db"
    assert blackened(f"{SERVER}: {PLAIN} and {SECRET}") == f"{HIDDEN}: *** and ***"


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://u:it's-geheim@h/db",
        'postgresql://u:"geheim"@h/db',
        "mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dgeheim",
        "mssql+pyodbc:///?ODBC%5Fconnect=UID%3Du%3BPWD%3Dgeheim",
        "postgresql://h/db?user=a&password='geheim'",
        'postgresql://h/db?user=a&password="geheim"',
        "postgresql://h/db?user=a&password=s'geheim",
    ],
)
def test_a_password_that_cannot_be_told_is_refused(uri: str, tmp_path: Path) -> None:
    ended = command(["train", *TINY], tmp_path, MLFLOW_TRACKING_URI=uri)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert "uri='***': must have %27 for '" in ended.err
    assert not (tmp_path / "outputs").exists()
    check_nowhere(tmp_path, ended)


def test_an_apostrophe_in_a_path_is_none_in_a_password() -> None:
    assert check_uri("sqlite:////home/o'brien/mlflow.db") == "sqlite:////home/o'brien/mlflow.db"


def check_nowhere(folder: Path, *ended: Ended, secret: str = "geheim") -> None:
    """Neither files below `folder` nor what commands have said have the password."""
    texts = {f"output {i}": f"{each.out}{each.err}".encode() for i, each in enumerate(ended)}
    texts |= {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    own = folder / "mine"  # what the user wrote himself
    found = [n for n, text in texts.items() if secret.encode() in text and str(own) not in n]
    assert found == []


def test_a_run_whose_store_has_a_password(tmp_path: Path) -> None:
    ended = command(["train", *TINY, f"tracking.uri={SERVER}"], tmp_path)
    (run,) = all_runs(tmp_path / "outputs")
    later = f"later: microgpt sync {run.path.name}\n"
    assert ended.err == (
        f"microgpt: not all is in MLflow yet ({HIDDEN}: nothing answers there); {later}"
    )
    assert run.config["tracking"]["uri"] == HIDDEN
    sync = command(["sync"], tmp_path)
    advice = f"its password is not kept: set {PASSWORD}, or give the address anew"
    assert sync.out == f"{run.path.name}  not sent  {HIDDEN}: {advice}\n"
    given = command(["sync"], tmp_path, **{PASSWORD: PLAIN})
    assert given.out == f"{run.path.name}  not sent  {HIDDEN}: nothing answers there\n"
    check_nowhere(tmp_path, ended, sync, given)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("word", marks=pytest.mark.soak),
        pytest.param("environment", marks=pytest.mark.soak),
        pytest.param("file", marks=pytest.mark.soak),
        pytest.param("interpolation", marks=pytest.mark.soak),
    ],
)
def test_wherever_a_password_comes_from(way: str, tmp_path: Path) -> None:
    """The record of a sweep, and the line that repeats a command, have none."""
    words, changes = ["hydra/launcher=basic", *TINY], {}
    if way == "word":
        words += [f"tracking.uri='{SERVER}'"]
    elif way == "environment":
        changes = {"MLFLOW_TRACKING_URI": SERVER}
    elif way == "file":
        mine = tmp_path / "mine/tracking/server.yaml"
        mine.parent.mkdir(parents=True)
        text = f"_target_: microgpt.tracking.MLflow\nuri: {SERVER}\nexperiment: x\n"
        mine.write_text(text)
        words += ["--config-dir", str(tmp_path / "mine"), "tracking=server"]
    else:
        changes, words = {"WHERE": SERVER}, [*words, "tracking.uri=${oc.env:WHERE}"]
    shown = command(["train", *words, "--cfg", "job"], tmp_path, **changes)
    one = command(["train", *words, "trainer.stop_after=1"], tmp_path, **changes)
    (run,) = all_runs(tmp_path / "outputs")
    known = {key: masked(value) for key, value in changes.items()}
    resumed = command(["train", f"resume={run.path.name}"], tmp_path, **known)
    known[PASSWORD] = PLAIN
    again = command(["train", f"resume={run.path.name}"], tmp_path, **known)
    sweep = command(["train", "-m", *words, "seed=1,2", "optimizer.lr=1e9"], tmp_path, **changes)
    assert (shown.code, one.code, resumed.code, again.code) == (0, 0, 2, 0), resumed
    assert resumed.err.startswith(f"microgpt: tracking.uri='{HIDDEN}': its password is not kept: ")
    assert sweep.code in (0, 1), sweep
    assert f"({HIDDEN}: nothing answers there)" in sweep.err
    check_nowhere(tmp_path, shown, one, resumed, again, sweep)


def test_an_error_with_a_traceback_has_no_password(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(f"def make(**keys):\n    raise RuntimeError('{SERVER}')\n")
    words = ["train", *TINY, *OFFLINE, f"tracking.uri={SERVER}", "schedule._target_=broken.make"]
    places = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = command([w for w in words if w != "tracking=none"], tmp_path, **places)
    assert ended.code != 0
    assert "RuntimeError" in ended.err
    (tmp_path / "broken.py").unlink()
    check_nowhere(tmp_path, ended)
