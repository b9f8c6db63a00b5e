"""The extension module: ``crates/tidegate-python/src``, where each function says what it does.

Arrays of numpy come as numbers, tensors as themselves. All of it is private to the package.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any, final

from torch import Tensor

from ._call import Config, Results
from ._file import Array, Block

__all__ = [
    "Layer",
    "Prepacked",
    "Saved",
    "Stream",
    "backward",
    "direct",
    "direct_cell",
    "forward",
    "inspect",
    "layers_kept",
    "load",
]

@final
class Layer:
    def forward(
        self,
        x: Array,
        state: tuple[Array, Array | None] | None,
        results: tuple[Block, Block, Block | None],
        lengths: Sequence[int] | None,
    ) -> None: ...

@final
class Stream:
    def __new__(cls, layer: Layer, batch: int) -> Stream: ...
    def push(self, x: Block, output: Block) -> None: ...
    def read_state(self, h: Block, c: Block | None) -> None: ...
    def set_state(self, h: Array, c: Array | None) -> None: ...
    def reset(self) -> None: ...

@final
class Saved:
    def cell_states(self, layer: int, into: Tensor) -> None: ...
    def release(self) -> None: ...

@final
class Prepacked:
    def __reduce__(self) -> tuple[type[bool], tuple[bool]]: ...

def forward(
    config: Config,
    weights: Sequence[Tensor],
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    batch_sizes: Sequence[int] | None,
    lengths: Sequence[int] | None,
    resets: Block | None,
    train: bool,
) -> tuple[Results, Saved | None]: ...
def backward(
    config: Config,
    saved: Saved,
    weights: Sequence[Tensor],
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    upstream: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None] | None: ...
def direct(module: Any, x: Any, hx: Any, lengths: Any) -> Any: ...
def direct_cell(mode: str, module: Any, x: Any, hx: Any) -> Any: ...
def inspect(path: str | PathLike[str]) -> list[dict[str, Any]]: ...
def load(
    path: str | PathLike[str], name: str | None, double: bool | None, nonlinearity: str | None
) -> tuple[Layer, dict[str, Any]]: ...
def layers_kept() -> tuple[int, int]: ...
