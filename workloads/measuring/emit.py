"""One file out of the folder `board`: a script that needs nothing but Python 3.6 and PyTorch 1.4."""

from __future__ import annotations

import ast
from importlib.resources import files

from simulator.errors import TrainwattError

PACKAGE = "workloads.measuring.board"
MODULES = (
    *("telemetry", "power", "memory", "pace", "timing", "signatures", "spread", "cases", "calls", "op_timing"),
    *("networks", "step_timing", "host", "records", "main"),
)
"""In an order in which each needs only those before it."""


def script_source() -> str:
    """Return the script: the modules one after another, their imports gathered at its top.

    Raises `TrainwattError` where two modules give one name to different things.
    """
    imports: dict[str, None] = {}
    owner: dict[str, str] = {}
    bodies = []
    description = ""
    for module in MODULES:
        source = files(PACKAGE).joinpath(f"{module}.py").read_text(encoding="utf-8")
        tree = ast.parse(source)
        description = ast.get_docstring(tree, clean=False) or ""
        lines = source.splitlines()
        for node in tree.body[:1]:  # the docstring becomes a heading, the last one that of the script
            lines[: node.end_lineno] = [""] * (node.end_lineno or 0)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                if not (isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE)):
                    imports |= dict.fromkeys(_single(node))
                span = slice(node.lineno - 1, node.end_lineno)
                lines[span] = [""] * len(lines[span])
            for name in _names(node):
                if owner.setdefault(name, module) != module:
                    raise TrainwattError(f"{name} in {module}.py and {owner[name]}.py; rename one for the script")
        bodies.append(f"# --- {module}: {description.strip().splitlines()[0]}\n\n" + "\n".join(lines).strip())
    head = f'#!/usr/bin/env python3\n"""{description}"""\n\n' + "\n".join(sorted(imports, key=_order))
    return head + "\n\n\n" + "\n\n\n".join(bodies) + "\n"


def _single(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return an import as one statement a name."""
    if isinstance(node, ast.Import):
        return [f"import {name.name}" for name in node.names]
    return [f"from {node.module} import {name.name}" for name in node.names]


def _order(statement: str) -> tuple[bool, bool, str]:
    """Plain imports first, torch last."""
    return ("torch" in statement, statement.startswith("from"), statement)


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
