"""What converted functions call in place of Python's statements.

Given Python values, or eager tensors, each does exactly what Python does. Given tensors of a trace,
it becomes an operation of the graph.
"""

import operator

from graphgrad.conversion.operators.calls import call
from graphgrad.conversion.operators.conditions import if_, if_expression
from graphgrad.conversion.operators.iteration import for_
from graphgrad.conversion.operators.lists import append, extend, insert, pop
from graphgrad.conversion.operators.logic import and_, assert_, not_, or_
from graphgrad.conversion.operators.loops import while_
from graphgrad.conversion.operators.raising import raises_later
from graphgrad.conversion.operators.undefined import Undefined, read, unwrap
from graphgrad.conversion.operators.updates import get_path, key, set_item, set_path, update_item

__all__ = [
    "Undefined", "and_", "append", "assert_", "call", "extend", "for_", "get_path", "if_",
    "if_expression", "insert", "key", "not_", "operator", "or_", "pop", "raises_later", "read",
    "set_item", "set_path", "unwrap", "update_item", "while_",
]  # fmt: skip
