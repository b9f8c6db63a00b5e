"""The code of PyTorch's own layers, with our functions in the place of those of ``torch._VF`` that do the arithmetic.

This module has the names of ``torch.nn.modules.rnn``, because functions made here look their names up here, also those that
``torch.compile`` looks up for them.
"""

import types
from typing import Any, Callable

from torch.nn.modules import rnn as _rnn

from . import _vf

globals().update({name: value for name, value in vars(_rnn).items() if not name.startswith("__")})
_VF = _vf


def ours(function: Any) -> Callable[..., Any]:
    """PyTorch's function, which finds ours here."""
    made = types.FunctionType(function.__code__, globals(), function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
