"""Hydra overrides of a bash script, read without running it, and their values."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import UserError

LARGEST, LONGEST = 1_000_000, 10_000
"""Bytes of a script and characters of a value, which a script can double line by line."""
_HEADS = ("actor_rollout_ref.", "data.", "algorithm.", "trainer.", "reward_model.", "critic.")
"""How keys of verl begin; text with others is a launch script of something else, or none."""
BRANCHES = {"if", "case", "for", "while", "until"}

# Signs that are mere text, and the place of an expression: what stands for them occurs in no script.
_TEXT = {"$": "\ue000", "`": "\ue001", "#": "\ue002"}
_KEPT = "\ue003"
_MARKS = re.compile(f"[{''.join(_TEXT.values())}{_KEPT}]")
_EXPRESSION = r"\$\(\((?:[^()]|\([^()]*\))*\)\)|\$\([^()]*\)"
_HERE_DOCUMENT = re.compile(r"(<<-?\s*)(['\"]?)(\w+)\2([^\n]*)\n.*?^\s*\3$", re.DOTALL | re.MULTILINE)
_PIECES = re.compile(
    r"(?P<comment>(?:^|(?<=[\s;(]))\#[^\n]*)"
    r"|(?P<single>'[^']*')"
    r'|(?P<double>"(?:\\.|[^"\\])*")'
    r"|(?P<continued>\\\n)"
    r"|(?P<escaped>\\.)"
    rf"|(?P<expression>{_EXPRESSION})"
    r"|(?P<hash>\#)",
    re.DOTALL | re.MULTILINE,
)
_ARITHMETIC: dict[type, Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: int(a / b),  # bash rounds toward zero
    ast.Mod: lambda a, b: a - b * int(a / b),
}


@dataclass(frozen=True)
class LaunchScript:
    """What a script says, every line taken as if it ran, in order."""

    overrides: dict[str, str]
    """Hydra's keys, without ``+``, and their values with variables replaced."""
    unknown: frozenset[str]
    """Keys whose value holds something that only running the script would tell."""
    branches: bool
    """Whether it has conditions or loops, so that not every line need run."""


def read_launch_script(path: Path) -> LaunchScript:
    """Read the overrides of the bash script in `path`. Nothing is run and the environment is not looked at.

    Variables are replaced by what the script assigns to them before: text, ``${NAME:-default}``, ``${NAME:=default}``
    and whole numbers in ``$((...))``. HOME is ``~``.

    Raises:
        UserError: the file cannot be read, is not a shell script, holds no overrides, or a value is too long.
    """
    try:
        if not path.exists():
            raise UserError(f"{path}: no such file; give verl's launch script")
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise UserError(f"{path}: is not a file of at most {LARGEST:,} bytes; give verl's launch script")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{path}: cannot be read ({reason}); give verl's launch script") from None
    text = _HERE_DOCUMENT.sub(r"\1\3\4", _MARKS.sub("", text))
    kept: list[str] = []
    try:
        lexer = shlex.shlex(_PIECES.sub(lambda match: _piece(match, kept), text), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        words = list(lexer)
    except ValueError as error:
        raise UserError(f"{path}: is no launch script of verl ({error}, read as bash); give one") from None

    variables, found, unknown = {"HOME": "~", "PWD": "."}, {}, set()
    for word in words:
        if assignment := re.fullmatch(r"([A-Za-z_]\w*)(\+?)=(.*)", word, re.DOTALL):
            before = variables.get(assignment[1], "") if assignment[2] else ""
            variables[assignment[1]] = before + _expand(assignment[3], variables, kept, path)
        elif override := re.fullmatch(r"\+{0,2}([a-z_]+(?:\.\w+)+)=(.*)", word, re.DOTALL):
            value = _expand(override[2], variables, kept, path)
            unknown.discard(override[1])
            if "$" in value or "`" in value or _KEPT in value:
                unknown.add(override[1])
            found[override[1]] = _restored(value, kept)
        else:
            _expand(word, variables, kept, path)  # : "${NAME:=default}" assigns
    if not any(key.startswith(_HEADS) for key in found):
        raise UserError(
            f"{path}: is no launch script of verl, it holds no overrides (key.name=value) for main_ppo; give one"
        )
    return LaunchScript(found, frozenset(unknown), not BRANCHES.isdisjoint(words))


def items(text: str) -> list[str]:
    """The texts of a value as Hydra reads it, a list or not."""
    if not (text.startswith("[") and text.endswith("]")):
        return [_unquoted(text)]
    found = re.findall(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,\s][^,]*""", text[1:-1])
    return [_unquoted(item.strip()) for item in found]


def scalar(text: str) -> Any:
    """A value as Hydra reads it: a number, True or False in any capitals, null, else text without its quotes."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() == "null":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return _unquoted(text)


def _unquoted(text: str) -> str:
    """Text without Hydra's quotes, within which a backslash counts only before a quote or the end."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    inner = re.sub(r"(\\+)\Z", lambda match: match[1][::2], text[1:-1])
    return re.sub(rf"(\\*)\\{text[0]}", lambda match: match[1][::2] + text[0], inner)


def _piece(match: re.Match[str], kept: list[str]) -> str:
    """One piece of the script so that shlex and `_expand` read it as bash would."""
    piece, kind = match[0], match.lastgroup
    if kind in ("comment", "continued"):
        return ""
    if kind == "single":
        return "".join(_TEXT[each] if each in "$`" else each for each in piece)
    if kind == "double":
        piece = re.sub(r"\\([$`])", lambda sign: _TEXT[sign[1]], piece.replace("\\\n", ""))
        return re.sub(_EXPRESSION, lambda inner: _mark(inner[0], kept), piece)
    if kind == "escaped":
        return _TEXT.get(piece[1], piece)
    return _TEXT["#"] if kind == "hash" else _mark(piece, kept)


def _mark(expression: str, kept: list[str]) -> str:
    """The place of an arithmetic expression or a command, in which shlex would split."""
    kept.append(expression)
    return f"{_KEPT}{len(kept) - 1}{_KEPT}"


def _restored(text: str, kept: list[str]) -> str:
    text = re.sub(f"{_KEPT}(\\d+){_KEPT}", lambda match: kept[int(match[1])], text)
    for sign, mark in _TEXT.items():
        text = text.replace(mark, sign)
    return text


def _expand(text: str, variables: dict[str, str], kept: list[str], path: Path) -> str:
    """`text` with the variables known so far and the kept of whole numbers worked out."""

    def default(match: re.Match[str]) -> str:
        name, operator, value = match[1], match[2], match[3].strip("\"'")
        if operator.endswith("="):
            variables.setdefault(name, value)
        return variables.get(name) or value if operator.startswith(":") else variables.get(name, value)

    for _ in range(10):  # a default may hold variables itself
        before = text
        text = re.sub(r"\$\{(\w+)(:?[-=])([^{}]*)\}", default, text)
        text = re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: variables.get(m[1] or m[2], m[0]), text)
        text = re.sub(f"{_KEPT}(\\d+){_KEPT}", lambda m: _worked_out(m, variables, kept), text)
        if len(text) > LONGEST:
            raise UserError(f"{path}: a value has more than {LONGEST} characters; give verl's launch script")
        if text == before:
            break
    return text


def _worked_out(match: re.Match[str], variables: dict[str, str], kept: list[str]) -> str:
    """The number that an expression gives; itself where it is not + - * / % of whole numbers."""
    whole = kept[int(match[1])]
    if not whole.startswith("$(("):
        return match[0]
    expression = re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", lambda m: variables.get(m[1], m[0])[:30], whole[3:-2])
    try:
        number = _number(ast.parse(expression.strip().replace("/", "//"), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return match[0]
    return str(number)


def _number(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        number = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        number = _ARITHMETIC[type(node.op)](_number(node.left), _number(node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = -_number(node.operand)
    else:
        raise ValueError("not whole numbers")
    if abs(number) >= 10**15:
        raise ValueError("too large")
    return number
