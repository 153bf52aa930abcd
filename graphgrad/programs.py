"""From graphs to executables: compiled here, or as an earlier process left them on disk.

Two things are kept: objects, by the text of their module, and Programs, by the graph they were
compiled from. A process that finds both runs no pass and writes no text.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from graphgrad.compiler.ir import Graph
from graphgrad.compiler.options import Options
from graphgrad.compiler.stored import Origin, origin_of, packed, unpacked
from graphgrad.runtime.cache import DiskCache, cache_key, default_cache
from graphgrad.runtime.engine import chosen_engine, host_target
from graphgrad.runtime.executor import Executable, ObjectMissing, object_key, prepare
from graphgrad.runtime.program import Target

if TYPE_CHECKING:
    from graphgrad.compiler.driver import Compilation


def executable_of(graph: Graph, options: Options | None) -> tuple[Executable, Compilation | None]:
    """The executable of `graph`, and how it was compiled, unless it was not compiled here."""
    target, cache = host_target(), default_cache()
    origin = None if cache.off or _checked() else _origin(graph, target, options)
    key = cache_key("program", chosen_engine(), origin.text) if origin is not None else ""
    if origin is not None:
        found = _stored(cache, key, origin, target)
        if found is not None:
            return found, None
    compilation = compilation_of(graph, target, options)
    executable = prepare(compilation.program, target, cache)
    if origin is not None:
        name = object_key(compilation.program, target)
        content = packed(compilation.program, name, compilation.places, origin)
        if content is not None:
            cache.put(key, content)
    return executable, compilation


def compilation_of(graph: Graph, target: Target, options: Options | None) -> Compilation:
    # Imported here: the passes and code generation take longer to import than all the rest.
    from graphgrad.compiler.driver import compile_in_full

    return compile_in_full(graph, target, options)


def _checked() -> bool:
    """Is every pass to be verified? Then all have to run."""
    return os.environ.get("GRAPHGRAD_CHECKS") == "1"


def _origin(graph: Graph, target: Target, options: Any) -> Origin | None:
    return origin_of(graph, target, options or ())


def _stored(cache: DiskCache, key: str, origin: Origin, target: Target) -> Executable | None:
    """The executable as it was stored; None where the program or its object is not there."""
    content = cache.get(key)
    found = None if content is None else unpacked(content, origin)
    if found is None:
        return None
    program, name = found
    try:
        return prepare(program, target, cache, key=name)
    except ObjectMissing:
        return None
