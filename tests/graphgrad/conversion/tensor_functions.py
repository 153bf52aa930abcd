"""Functions whose control flow depends on tensors, as users write them: x is f32[3], n an int32.

Each runs as plain Python on eager tensors, which is what its converted form is held to.
"""

import graphgrad as gg


def absolute(x, n):
    if gg.reduce_sum(x) > 0:
        y = x * 2.0
    else:
        y = -x
    return y


def without_else(x, n):
    y = x
    if n > 1:
        y = x * x
    return y + 1.0


def chained(x, n):
    if n < 0:
        return x * 3.0
    elif n == 0:
        return x * x
    elif n < 3:
        return gg.sin(x)
    return gg.exp(x)


def numbers(x, n):
    if n > 1:
        k, s = 1, 0.5
    else:
        k, s = 2, 1.5
    return x * s * gg.cast(k, gg.float32)


def ternary(x, n):
    return x * x if n > 1 else gg.sin(x)


def logic(x, n):
    if n > 0 and x[0] > 0 or not n > 2:
        return x * 2.0
    return x * x


def comparison(x, n):
    return gg.sin(x) if 0 < n <= 2 else gg.cos(x)


def countdown(x, n):
    y = x
    while n > 0:
        y = y * x
        n = n - 1
    return y


def python_numbers(x, n):
    i = 0
    total = 0.0
    while i < n:
        total += gg.reduce_sum(x) * i
        i += 1
    return total


def forever(x, n):
    y, i = x, 0
    while True:
        y = gg.sin(y) * 1.5
        i += 1
        if i >= n:
            break
    return y


def over_range(x, n):
    total = gg.zeros([3])
    for i in range(n):
        total = total + x * gg.cast(i, gg.float32)
    return total


def over_rows(x, n):
    total = 0.0
    for v in x:
        total = total * v + v
    return total


def over_pairs(x, n):
    total = 0.0
    for i, (a, b) in enumerate(zip(x, gg.sin(x))):
        total = total + a * b * gg.cast(i, gg.float32)
    return total


def backwards(x, n):
    total = 0.0
    for v in reversed(x):
        total = total * 2.0 + v
    return total


def breaks(x, n):
    total = 0.0
    for v in x:
        total = total + v * v
        if total > 1.0:
            break
    return total


def continues(x, n):
    total = 0.0
    for v in x:
        if v < 0:
            continue
        total = total + v * v
    return total


def loop_else(x, n):
    for v in x:
        if v > 1.0:
            y = x * v
            break
    else:
        y = x - 1.0
    return y


def early_return(x, n):
    for v in x:
        if v > 1.0:
            return v * v
    return gg.reduce_sum(x)


def returns_from_while(x, n):
    y = x
    while n > 0:
        y = y * 2.0
        if gg.reduce_sum(y) > 4.0:
            return y * y
        n -= 1
    return gg.sin(y)


def nested(x, n):
    total = 0.0
    for i in range(n):
        for v in x:
            if v > 0:
                total = total + v * gg.cast(i, gg.float32)
            else:
                total = total * 0.5
    return total


def python_list(x, n):
    found = []
    for k in range(3):
        if x[k] > 0:
            found.append(x[k])
        else:
            found.append(-2.0 * x[k])
    return found[0] * found[1] + found[2]


def appends(x, n):
    found = []
    for i in range(n):
        found.append(x * gg.cast(i, gg.float32))
    if len(found) > 0:
        return found[-1] + x
    return x


def filtered(x, n):
    found = [x[0]]
    for v in x:
        if v > 0:
            found.append(v * v)
    total = 0.0
    for v in found:
        total = total + v
    return total


def fibonacci(x, n):
    found = [x, x]
    while len(found) < n + 2:
        found.append(found[-1] * 0.5 + found[-2])
    return found[-1]


def stack_of_values(x, n):
    todo = [x[0], x[1]]
    total = 0.0
    while len(todo) > 0:
        v = todo.pop()
        total = total + v * v
    return total


def state_in_a_dict(x, n):
    state = {"y": x, "k": 0}
    while state["k"] < n:
        state = {"y": state["y"] * x, "k": state["k"] + 1}
    return state["y"]


def dict_in_place(x, n):
    state = {"y": x, "z": 1.0}
    if n > 1:
        state["y"] = x * x
    return state["y"] * state["z"]


def tuple_state(x, n):
    pair = (x, 1.0)
    for i in range(n):
        pair = (pair[1] * x, gg.reduce_sum(pair[0]))
    return pair[0] * pair[1]


def defined_in_the_loop(x, n):
    for i in range(n + 1):
        last = x * gg.cast(i, gg.float32)
    return last


def python_loop_tensor_break(x, n):
    y = x
    for k in [1.0, 2.0, 3.0]:
        if gg.reduce_sum(y) > 5.0:
            break
        y = y * k
    return y


def helper(v):
    if v > 0:
        return v * v
    return -v


def calls(x, n):
    total = 0.0
    for v in x:
        total = total + helper(v)
    return total


def builtin_functions(x, n):
    total = sum(x) + max(x[0], x[1]) - min(x[0], 1.0)
    if any([x[0] > 5, n > 2]) or all([x[1] < 5, True]):
        total = total + float(n) * abs(x[2])
    return total


def long_range(x, n):
    total = x
    for i in range(40):
        total = total * 0.9 + x * i
    return total


def nested_return(x, n):
    i = 0
    while i < n:
        for v in x:
            if v * gg.cast(i, gg.float32) > 1.0:
                return v
        i += 1
    return gg.reduce_sum(x)


def branch_in_branch(x, n):
    y = x
    if n > 0:
        if n > 1:
            y = y * x
        else:
            y = gg.sin(y)
        y = y + 1.0
    return y


def no_trip(x, n):
    y = x
    for _ in range(n - 10):
        y = y * 2.0
    return y


def descends(x, n):
    for _ in range(n):
        with gg.GradientTape() as tape:
            tape.watch(x)
            loss = gg.reduce_sum((x - 2.0) ** 4)
        x = x - 0.01 * tape.gradient(loss, x)
    return x


def handled_in_the_loop(x, n):
    for i in range(n):
        try:
            y = {}["none"]
        except KeyError as error:
            y = x * float(len(error.args))
        match (y, 2.0):
            case (z, k):
                x = x + z * k
    return x


def tests_of_several_kinds(x, n):
    left = [x[0], x[1]]
    while left and n and not (x[0] > 5.0 or n > 9):
        x = x + left.pop()
        n = n - 1
    if n or left:
        x = x * 2.0
    return x


FUNCTIONS = [
    absolute, without_else, chained, numbers, ternary, logic, comparison, countdown, python_numbers,
    forever, over_range, over_rows, over_pairs, backwards, breaks, continues, loop_else,
    early_return, returns_from_while, nested, python_list, appends, filtered, fibonacci,
    stack_of_values, state_in_a_dict, dict_in_place, tuple_state, defined_in_the_loop,
    python_loop_tensor_break, calls, builtin_functions, long_range, nested_return,
    branch_in_branch, no_trip, descends, handled_in_the_loop,
    tests_of_several_kinds,
]  # fmt: skip
