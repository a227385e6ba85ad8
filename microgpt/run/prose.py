"""Strips comments, docstrings and blank lines from Python and C, since they change no figures."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import decode_source
from io import StringIO
from itertools import accumulate
from tokenize import COMMENT, STRING, TokenError, generate_tokens, tok_name

F_STRING = re.compile(r"""\b[rR]?[fFtT][rR]?["']""")
# A comment or a string, in code without f-strings; those need the tokenizer, which is slower.
LEXEME = re.compile(r"""#[^\n]*|(\'\'\'|\"\"\"|'|")(?:\\.|(?!\1).)*\1""", re.DOTALL)
OPENING = {kind for kind, name in tok_name.items() if name.endswith("STRING_START")}  # f-strings
CLOSING = {kind for kind, name in tok_name.items() if name.endswith("STRING_END")}
KINDS = {COMMENT, STRING, *OPENING, *CLOSING}
# A comment, with the blanks around it, or a string or character.
C_LEXEME = re.compile(
    r"""[ \t]*/\*.*?\*/[ \t]*|//[^\n]*|"(?:\\.|[^"\n\\])*"|'(?:\\.|[^'\n\\])*'""", re.DOTALL
)
# The end of a line and the blank lines after it. A blank line after a backslash ends the statement.
ENDS = re.compile(r"(\\\n)?[ \t\f]*\n(?:[ \t\f]*\n)*")


@dataclass(frozen=True)
class Import:
    """`from ..module import names` has level 2; `import module` has level 0 and no names."""

    level: int
    module: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """A file's text without prose, the same on every Python version, and its imports."""

    text: str
    imports: tuple[Import, ...]


@lru_cache(maxsize=1024)  # by content, since consecutive runs mostly have the same files
def read(content: bytes) -> Code:
    """The code of a Python file. A file that cannot be parsed is kept as it is, without imports."""
    try:
        text = decode_source(content)
        tree = _parsed(text)
        nodes = list(ast.walk(tree))
        strings = [node for node in nodes if isinstance(node, ast.Expr) and _is_string(node)]
        return Code(_without_prose(text, strings), tuple(_imports(nodes)))
    except (SyntaxError, ValueError, TokenError):
        return Code(content.decode("latin-1"), ())


def read_c(content: bytes) -> str:
    """The code of a C file: continued lines are joined, and a comment is a space, as in C itself."""
    text = content.decode("latin-1").replace("\r\n", "\n").replace("\\\n", "")
    code = C_LEXEME.sub(lambda found: found[0] if found[0][0] in "\"'" else " ", text)
    return "\n".join(filter(None, (line.strip() for line in code.split("\n"))))


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SystemError:  # python/cpython#106905: in 3.11 when two threads parse at once
        return ast.parse(text)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(node.level, node.module or "", names)


def _is_string(node: ast.Expr) -> bool:
    """Whether a statement is only a string, such as a docstring."""
    return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _without_prose(text: str, unread: Sequence[ast.stmt]) -> str:
    """The text without these statements, comments, blank lines and trailing white space."""
    lines = text.split("\n")
    starts = _starts(text)

    def place(row: int, column: int) -> int:  # columns of the syntax tree are in bytes of UTF-8
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    cuts = [
        (place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset), "")
        for node in unread
        if node.end_lineno is not None and node.end_col_offset is not None
    ]
    code = _replaced(text, sorted(cuts))
    code = _replaced(code, _comments_and_strings(code))
    return ENDS.sub(r"\1\n", code).lstrip("\n").rstrip()


def _starts(text: str) -> list[int]:
    """The offset of each line."""
    return list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))


def _replaced(text: str, cuts: Iterable[tuple[int, int, str]]) -> str:
    """The text with each (start, stop, replacement) applied."""
    pieces, done = [], 0
    for start, stop, instead in cuts:
        pieces += [text[done:start], instead]
        done = stop
    return "".join([*pieces, text[done:]])


def _comments_and_strings(text: str) -> Iterator[tuple[int, int, str]]:
    """Replacements that remove comments, and replace line breaks in strings by NUL.

    So blank lines inside strings are not removed with those of the code; source never contains NUL.
    """
    plain = not F_STRING.search(text)
    spans = (found.span() for found in LEXEME.finditer(text)) if plain else _spans(text)
    for start, stop in spans:
        words = text[start:stop]
        yield start, stop, "" if words[0] == "#" else words.replace("\n", "\0")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """The (start, stop) of comments and strings, including f-strings.

    An f-string is one span, although it has many tokens since 3.12; a comment inside is part of it.
    """
    starts, depth, begun = _starts(text), 0, (1, 0)
    for kind, _, start, stop, _ in generate_tokens(StringIO(text).readline):
        if kind in KINDS:
            begun = begun if depth else start
            depth += (kind in OPENING) - (kind in CLOSING)
            if not depth:
                yield starts[begun[0] - 1] + begun[1], starts[stop[0] - 1] + stop[1]
