"""The code has no way to execute data, listens to this machine alone, and checks what it downloads."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "microgpt"
FILES = [*PACKAGE.rglob("*.py"), *(REPOSITORY / ".ci").glob("*.py"), REPOSITORY / "hatch_build.py"]
PICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
SHELLS = {
    "os.system",
    "os.popen",
    "pty.spawn",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
}
IMPORTERS = {"import_module", "__import__", "get_object", "get_class", "get_method", "instantiate"}
UNSAFE_YAML = {"unsafe_load", "full_load", "unsafe_load_all", "full_load_all", "load_all"}
DOWNLOADS = {"retrieve", "urlopen", "urlretrieve", "build_opener", "create_connection"}
CLIENTS = {"requests", "httpx", "aiohttp", "urllib3", "ftplib", "smtplib", "telnetlib"}
SERVERS = {
    "bind",
    "LocalCluster",
    "HTTPServer",
    "ThreadingHTTPServer",
    "TCPServer",
    "create_server",
}
# Where something of this is meant: file -> what is found there.
MEANT = {
    "microgpt/vector/kernels.py": {"exec"},  # of its own templates and numbers
    "microgpt/parts.py": {"get_object", "instantiate"},  # the one place that imports by name
    # A task function of the user's program, on its way to the workers that this has started, and back.
    "microgpt/sweep/hydra_job.py": {"cloudpickle"},
    "microgpt/sweep/hydra_plugins/microgpt_sweep/launcher.py": {"cloudpickle"},
}


def findings(tree: ast.AST) -> Iterator[str]:
    """What of a file could execute data, listen to others or download what nobody has checked."""
    constants = _constants(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from _imports([alias.name for alias in names])
            case ast.ImportFrom(module=module, names=names):
                yield from _imports([str(module)])
                yield from (name.name for name in names if name.name in UNSAFE_YAML)
            case ast.Call():
                yield from _call(node, constants)
            case ast.Constant(value="0.0.0.0" | "::" | "[::]" as address):
                yield address
            case ast.ClassDef(body=body) if "url" in (facts := _constants(ast.Module(body, []))):
                if not re.fullmatch(r"'[0-9a-f]{64}'", facts.get("sha256", "")):
                    yield "url without sha256"


def _constants(tree: ast.AST) -> dict[str, str]:
    """Name -> value of a module's assignments, as text, and of the constants that it imports of ours."""
    body = tree.body if isinstance(tree, ast.Module) else []
    pairs = [(node.targets[0], node.value) for node in body if isinstance(node, ast.Assign)]
    found = {ast.unparse(name): ast.unparse(value) for name, value in pairs}
    for node in body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("microgpt."):
            file = REPOSITORY / f"{str(node.module).replace('.', '/')}.py"
            names = [name.name for name in node.names if name.name.isupper() and file.exists()]
            for name in names:
                found[name] = _constants(ast.parse(file.read_text(encoding="utf-8"))).get(name, "")
    return found


def _imports(modules: list[str]) -> Iterator[str]:
    for module in modules:
        if module.partition(".")[0] in PICKLES | CLIENTS:
            yield module


def _call(node: ast.Call, constants: dict[str, str]) -> Iterator[str]:
    whole = ast.unparse(node.func)
    name = whole.rpartition(".")[2]
    given = {each.arg: ast.unparse(each.value) for each in node.keywords}
    words = [ast.unparse(each) for each in node.args]
    if whole in {"eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile"}:
        yield name
    if whole in SHELLS or re.fullmatch(r"os\.(exec|spawn|posix_spawn)\w*", whole):
        yield whole
    if name in IMPORTERS or name in UNSAFE_YAML:
        yield name
    if given.get("shell", "False") != "False" or given.get("allow_pickle", "False") != "False":
        yield "shell or allow_pickle"
    if whole == "yaml.load":
        loader = given.get("Loader", words[1] if len(words) > 1 else "")
        if not _is_safe(constants.get(loader, loader)):
            yield "yaml.load"
    checked = given.get("known_hash") or "".join(words[1:2])
    if name in DOWNLOADS and not checked.startswith("f'sha256:"):
        yield f"{name} without sha256"
    servers = [name, *words] if name == "submit" else [name]  # a server may start in a thread
    if SERVERS.intersection(servers) and not _is_local(words, given, constants):
        yield f"{name} beyond this machine"
    if name == "Listener" and words[1:] != ["'AF_UNIX'"]:
        yield "Listener"


def _is_safe(loader: str) -> bool:
    names = re.findall(r"\b\w*Loader\b", loader)
    return bool(names) and set(names) <= {"SafeLoader", "CSafeLoader"}


def _is_local(words: list[str], given: dict[str, str], constants: dict[str, str]) -> bool:
    """Whether the address that a server listens at is this machine's own."""
    host = given.get("host") or (words[0].strip("()").partition(",")[0] if words else "")
    return constants.get(host, host) == "'127.0.0.1'"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_data_is_executed_and_nobody_else_is_served(file: Path) -> None:
    found = set(findings(ast.parse(file.read_text(encoding="utf-8"))))
    assert found == MEANT.get(file.relative_to(REPOSITORY).as_posix(), set())


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from marshal import loads", "import requests.sessions"),
        *("eval(x)", "builtins.exec(x)", "os.system(x)", "os.execv(x, y)", "run(x, shell=True)"),
        *("run(x, shell=flag)", "np.load(x, allow_pickle=True)", "importlib.import_module(x)"),
        *("hydra.utils.instantiate(x)", "yaml.load(x)", "yaml.load(x, yaml.Loader)"),
        *(
            "yaml.load(x, Loader=yaml.FullLoader)",
            "yaml.unsafe_load(x)",
            "L = Loader\nyaml.load(x, L)",
        ),
        *("pooch.retrieve(u, None)", "retrieve(u, known_hash=None)", "urlopen(u)"),
        *("class A:\n    url = 'http://x'", "class A:\n    url = 'x'\n    sha256 = 'short'"),
        *("s.bind(('', 80))", "LocalCluster(n_workers=1)", "pool.submit(LocalCluster, host='0')"),
        *("HTTPServer((host, 1), H)", "Listener(place)", "x = '0.0.0.0'"),
    ],
)
def test_what_should_be_found_is_found(code: str) -> None:
    assert list(findings(ast.parse(code)))


def test_mlflows_server_listens_to_this_machine() -> None:
    text = (PACKAGE / "ui.py").read_text(encoding="utf-8")
    assert '"--host", HOST' in text
    assert _constants(ast.parse(text))["HOST"] == "'127.0.0.1'"


def test_every_download_is_of_a_class_with_a_sha256() -> None:
    calls = [
        ast.unparse(node)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "downloaded"
    ]
    assert calls
    assert all(call.startswith("downloaded(self.url, self.sha256, ") for call in calls)


INSTANTIATING = {"build", "built", "part", "documents_of"}  # functions of build.py
# What only sees configurations that the user composed.
OWN = ("app.py", "build.py", "sweep/", "ablation/coordinates.py")


def test_what_replays_records_checks_them() -> None:
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).as_posix().startswith(OWN)
        imported = {
            name.name: node.module
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        used = {name for name in INSTANTIATING if imported.get(name) == "microgpt.build"}
        if used and not own:
            assert imported.get("replayed") == "microgpt.trust", f"{file} uses {used}"
