"""What of a Python file is code: the rest may be edited, and the source stays what it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from microgpt.run.prose import read, read_c

PACKAGE = Path(__file__).parent.parent / "microgpt"


def text(source: str) -> str:
    return read(source.encode()).text


SAME = {
    "comments": ("x = 1  # one\n# two\n    # three\ny = 2\n", "x = 1\ny = 2\n"),
    "blank lines": ("\n\nx = 1   \n\n \t\ny = 2\n\n", "x = 1\ny = 2"),
    "a docstring of a module": ('"""Doc # this"""\nx = 1\n', "x = 1\n"),
    "a docstring of a function": (
        'def f():\n    """One.\n\n    # Two\n    """\n    return 1\n',
        "def f():\n    return 1\n",
    ),
    "a docstring that is all": (
        'class A:\n    """One."""\n',
        'class A:\n    """Two\n\n    three."""',
    ),
    "one on its line": ('class A: """One."""\nx = 1\n', "class A: 'Two'  # three\nx = 1\n"),
    "in parentheses": (
        'def f():\n    ("a"  # b\n     "c")\n    return 1\n',
        "def f():\n    return 1",
    ),
    "a docstring in pieces": ('"a" """b\n"""\nx = 1\n', "x = 1\n"),
    "of an attribute": ('class A:\n    x = 1\n    """One."""\n', "class A:\n    x = 1\n"),
    "outside ASCII": ('def f():\n    "Größe"; x = "é"  # ü\n', 'def f():\n    "ß"; x = "é"\n'),
    "CRLF": ('x = 1  # one\r\ny = """a\r\nb"""\r\n', 'x = 1\ny = """a\nb"""\n'),
    "a byte order mark": ("\ufeffx = 1\n", "x = 1\n"),
    "form feeds": ("x = 1\n\f\ny = 2\n", "x = 1\ny = 2\n"),
    "tabs": ("if x:\n\ty = 1\t# one\n\t\t# two\n\tz = 1\n", "if x:\n\ty = 1\n\tz = 1\n"),
    "between strings": ('x = ("a"  # one\n\n     "b")\n', 'x = ("a"\n     "b")\n'),
    "between f-strings": (
        'x = (f"{a}"  # one\n     f"""\n{b}""")\n',
        'x = (f"{a}"\n     f"""\n{b}""")\n',
    ),
    "after a backslash": ("x = 1 \\\n# one\n\n-2\n", "x = 1 \\\n\n-2\n"),
}
DIFFERENT = {
    "an operator": ("x = a + b\n", "x = a - b\n"),
    "an indent": ("if a:\n    b()\n    c()\n", "if a:\n    b()\nc()\n"),
    "a blank line in a string": ('x = """a\n\nb"""\n', 'x = """a\nb"""\n'),
    "white space in a string": ('x = """a  \nb"""\n', 'x = """a\nb"""\n'),
    "a blank line in an f-string": ('x = f"""a\n\n{b}"""\n', 'x = f"""a\n{b}"""\n'),
    "a number sign in a string": ('x = "a # b"\n', 'x = "a # c"\n'),
    "one in a string of lines": ('x = """a\n# b\n"""\n', 'x = """a\n# c\n"""\n'),
    "one in an f-string": ('x = f"{a}# b"\n', 'x = f"{a}# c"\n'),
    "one in an f-string of lines": ('x = f"""{a}\n# b"""\n', 'x = f"""{a}\n# c"""\n'),
    "one in a continued string": ('x = "a\\\n# b"\n', 'x = "a\\\n# c"\n'),
    "the end of a statement": ("x = 1 \\\n\n-2\n", "x = 1 \\\n-2\n"),
    "a string that is used": ('f("a")\n', 'f("b")\n'),
    "an f-string alone": ('f"{a()}"\n', 'f"{b()}"\n'),
    "a version": ('__version__ = "1"\n', '__version__ = "2"\n'),
    "a version in a function": (
        'def f():\n    __version__ = "1"\n',
        'def f():\n    __version__ = "2"\n',
    ),
    "a version that is computed": ("__version__ = f(1)\n", "__version__ = f(2)\n"),
    "what does not parse": ("x = # one\n", "x = # two\n"),
}
ON_312 = {
    "a quote in an f-string": ("x = f'{a['# b']}'\n", "x = f'{a['# c']}'\n"),
    "a comment in an f-string": ("x = f'''{a # b\n}'''\n", "x = f'''{a # c\n}'''\n"),
}


@pytest.mark.parametrize("name", SAME)
def test_prose(name: str) -> None:
    one, other = SAME[name]
    assert text(one) == text(other)


@pytest.mark.parametrize("name", DIFFERENT)
def test_code(name: str) -> None:
    one, other = DIFFERENT[name]
    assert text(one) != text(other)


@pytest.mark.parametrize("name", ON_312)
def test_code_from_312_on(name: str) -> None:
    """Earlier it does not parse, and so counts as it is."""
    one, other = ON_312[name]
    assert text(one) != text(other)


C_SAME = {
    "comments": ("int x; /* one */\n// two\nint y;  // three\n", "int x;\nint y;\n"),
    "lines of a comment": ('/* one\n * "two"\n */\nint x;\n\n\nint y;\n', "int x;\nint y;\n"),
    "between tokens": ("int/* one */x;\n", "int x;\n"),
    "a comment that goes on": ("int x; // one \\\ntwo\nint y;\n", "int x;\nint y;\n"),
    "a quote in a comment": ("// don't\nint x; // it's\n", "int x;\n"),
    "after a quote": (
        "char c = '\"'; // one\nchar d = '\"';\n",
        "char c = '\"';\nchar d = '\"';\n",
    ),
    "CRLF": ("int x; /* one\r\n*/\r\nint y;\r\n", "int x;\nint y;\n"),
}
C_DIFFERENT = {
    "an operator": ("x = a + b;\n", "x = a - b;\n"),
    "a division": ("x = a / *b;\n", "x = a / b;\n"),
    "in a string": ('s = "/* a */";\n', 's = "/* b */";\n'),
    "slashes in a string": ('s = "a // b";\n', 's = "a // c";\n'),
    "behind a quote in a string": ('s = "\\"// a";\n', 's = "\\"// b";\n'),
    "in characters": ("c = '//';\n", "c = '/*';\n"),
    "the end of a macro": ("#define A 1 \\\n\n-2\n", "#define A 1 \\\n-2\n"),
}


@pytest.mark.parametrize("name", C_SAME)
def test_prose_in_c(name: str) -> None:
    one, other = (read_c(text.encode()) for text in C_SAME[name])
    assert one == other


@pytest.mark.parametrize("name", C_DIFFERENT)
def test_code_in_c(name: str) -> None:
    one, other = (read_c(text.encode()) for text in C_DIFFERENT[name])
    assert one != other


def test_an_encoding_is_heeded() -> None:
    latin = "# coding: latin-1\nx = 'é'\n"
    assert read(latin.encode("latin-1")).text == text("x = 'é'\n")


def other_pythons() -> list[Path]:
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [sorted(home.glob(f"3.{minor}.*/bin/python")) for minor in range(11, 20)]
    return [pythons[-1] for pythons in found if pythons]


@pytest.mark.slow
@pytest.mark.parametrize("python", other_pythons() or [None], ids=str)
def test_the_code_is_the_same_on_every_python(python: Path | None) -> None:
    if python is None:
        pytest.skip("there is no other Python below ~/.pyenv/versions")
    cases = [one for both in (SAME, DIFFERENT) for pair in both.values() for one in pair]
    files = [file.read_bytes().decode() for file in sorted(PACKAGE.rglob("*.py"))]
    program = f"""
import json, sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from microgpt.run.prose import read
print(json.dumps([read(text.encode()).text for text in json.load(sys.stdin)]))
"""
    done = subprocess.run(
        [str(python), "-I", "-S", "-c", program],
        input=json.dumps([*cases, *files]),
        capture_output=True,
        text=True,
        check=True,
    )
    here = [text(one) for one in [*cases, *files]]
    assert json.loads(done.stdout) == here, f"{python} and {sys.version}"
