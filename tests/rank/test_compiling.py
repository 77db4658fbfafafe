"""What is kept of torch.compile's messages."""

from __future__ import annotations

import pytest

from bench.rank.compiling import in_one_line

PRINT = """Failed to trace builtin operator
  Explanation: Dynamo does not know how to trace builtin operator `print` with argument types ['str']
  Hint: Avoid calling builtin `print` with argument types ['str'].

  Developer debug context: builtin print [<class 'torch._dynamo.variables.constant.ConstantVariable'>] False

 For more details about this graph break, please visit: https://meta-pytorch.github.io/x.html"""


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        (
            PRINT,
            "Failed to trace builtin operator: Dynamo does not know how to trace builtin operator `print` with argument "
            "types ['str']",
        ),
        ("call of <function f at 0x7f3a11c0>", "call of <function f at 0x…>"),
        ("", ""),
    ],
)
def test_a_reason_is_one_line_that_is_the_same_in_each_run(reason: str, kept: str) -> None:
    assert in_one_line(reason) == kept
