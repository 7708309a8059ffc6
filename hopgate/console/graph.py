"""The graph of hops as a picture: identities at the left, connections at the right, a line for each hop. Pure geometry, no markup.

Whoever reaches for something new comes first. The order of both columns is found by a few rounds of averaging (Sugiyama's barycentre
method), so that lines cross little; 200 identities and 50 connections stay legible because nothing shrinks: the picture grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hopgate.history import Hop, HopNode

SPAN: Final = 420  # pixels between the columns
MARGIN: Final = 26
LETTER: Final = 7.1  # pixels of a wide letter: names that are taken for longer than they are only leave room
ROW: Final = 20  # pixels between identities, and the least between connections
TOP: Final = 30
ROUNDS: Final = 6
MAX_EDGES: Final = 4000  # a browser draws more, and nobody reads them
_NAME: Final = 42  # characters


@dataclass(frozen=True, slots=True)
class Dot:
    """One node of the picture."""

    node: HopNode
    y: float
    is_new: bool  # seen for the first time in this window
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One hop of the picture: an SVG path, how thick, and what it stands for."""

    hop: Hop
    path: str
    width: float
    left: int
    right: int

    @property
    def refused(self) -> bool:
        """Whether this way was mostly shut: sessions refused, or half of what was asked denied."""
        return bool(self.hop.refused) or self.hop.denied * 2 >= max(1, self.hop.operations)


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that the template draws."""

    principals: tuple[Dot, ...]
    connections: tuple[Dot, ...]
    lines: tuple[Line, ...]
    left: int  # where lines leave; names stand to the left of it
    right: int  # where they arrive
    width: int
    height: int
    left_out: int = 0


def draw(principals: Sequence[HopNode], connections: Sequence[HopNode], hops: Iterable[Hop]) -> Picture:
    """The picture of these hops. New ones are drawn last, so that nothing lies over them."""
    edges = sorted(hops, key=lambda hop: (not hop.is_new, -hop.operations, hop.principal, hop.connection))
    left_out, edges = max(0, len(edges) - MAX_EDGES), edges[:MAX_EDGES]
    left, right = _order([node.name for node in principals], [node.name for node in connections], edges)
    ys, height = _places(left, right)
    nodes = {**{("p", node.name): node for node in principals}, **{("c", node.name): node for node in connections}}
    new = {("p", hop.principal) for hop in edges if hop.is_new} | {("c", hop.connection) for hop in edges if hop.is_new}
    dots = {key: Dot(node, ys[key], key in new, _short(key[1])) for key, node in nodes.items() if key in ys}
    at = {name: number for number, name in enumerate(left)}, {name: number for number, name in enumerate(right)}
    most = max((hop.operations for hop in edges), default=1) or 1
    leave = MARGIN + int(LETTER * max((len(dots["p", name].label) for name in left), default=0))
    arrive = leave + SPAN
    width = arrive + 2 * MARGIN + int(LETTER * (6 + max((len(dots["c", name].label) for name in right), default=0)))
    lines = [_line(hop, ys, most, at, leave, arrive) for hop in reversed(edges)]
    return Picture(
        tuple(dots["p", name] for name in left),
        tuple(dots["c", name] for name in right),
        tuple(lines),
        leave,
        arrive,
        width,
        height,
        left_out,
    )


def _order(left: list[str], right: list[str], edges: Sequence[Hop]) -> tuple[list[str], list[str]]:
    """Both columns, each node near the middle of what it is joined to; in both, what has a new hop before the others."""
    fresh = {hop.principal for hop in edges if hop.is_new}
    reached = {hop.connection for hop in edges if hop.is_new}
    of_left: dict[str, list[str]] = {name: [] for name in left}
    of_right: dict[str, list[str]] = {name: [] for name in right}
    for hop in edges:
        of_left[hop.principal].append(hop.connection)
        of_right[hop.connection].append(hop.principal)
    left = sorted((name for name in left if of_left[name]), key=lambda name: (name not in fresh, name))
    right = sorted((name for name in right if of_right[name]), key=lambda name: (-len(of_right[name]), name))
    for _ in range(ROUNDS):
        right = _by_middle(right, of_right, left)
        right.sort(key=lambda name: name not in reached)
        left = _by_middle(left, of_left, right)
        left.sort(key=lambda name: name not in fresh)
    return left, right


def _by_middle(names: list[str], joined: Mapping[str, list[str]], others: list[str]) -> list[str]:
    place = {name: number for number, name in enumerate(others)}
    middle = {name: sum(place[other] for other in joined[name]) / len(joined[name]) for name in names}
    return sorted(names, key=lambda name: (middle[name], name))


def _places(left: list[str], right: list[str]) -> tuple[dict[tuple[str, str], float], int]:
    """The y of each node. Both columns are as high as the longer one."""
    ys: dict[tuple[str, str], float] = {("p", name): TOP + ROW * number for number, name in enumerate(left)}
    rows = max(len(left), len(right), 1)
    height = TOP + ROW * rows
    step = (height - TOP) / max(1, len(right))
    for number, name in enumerate(right):
        ys["c", name] = TOP + step * number
    return ys, height + ROW


def _line(
    hop: Hop, ys: Mapping[tuple[str, str], float], most: int, at: tuple[dict[str, int], dict[str, int]], leave: int, arrive: int
) -> Line:
    one, two = ys["p", hop.principal], ys["c", hop.connection]
    bend = SPAN * 0.45
    path = f"M{leave} {one:.1f}C{leave + bend:.0f} {one:.1f} {arrive - bend:.0f} {two:.1f} {arrive} {two:.1f}"
    return Line(hop, path, 1 + 2.5 * (hop.operations / most) ** 0.5, at[0][hop.principal], at[1][hop.connection])


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
