"""The geometry of the graph of hops: nothing lies over anything, what is new is on top, whatever the data."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hopgate.console.graph import ROW, TOP, draw
from hopgate.history import Hop, HopNode

names = st.integers(0, 30)
pairs = st.dictionaries(st.tuples(names, names), st.booleans(), max_size=120)


def hop(principal: str, connection: str, *, new: bool = False, operations: int = 3, denied: int = 0, refused: int = 0) -> Hop:
    return Hop(principal, connection, 1.0, 2.0, new, 1, refused, operations, denied, 0)


def node(name: str) -> HopNode:
    return HopNode(name, 1.0, 2.0, 1, 3, 0)


@given(pairs)
def test_every_hop_is_drawn_once_between_its_ends(pairs: dict[tuple[int, int], bool]) -> None:
    hops = [hop(f"p{left}", f"c{right}", new=new) for (left, right), new in pairs.items()]
    people = [node(name) for name in sorted({each.principal for each in hops})]
    targets = [node(name) for name in sorted({each.connection for each in hops})]
    picture = draw(people, targets, hops)
    assert {(line.hop.principal, line.hop.connection) for line in picture.lines} == {(each.principal, each.connection) for each in hops}
    for column in (picture.principals, picture.connections):
        ys = [dot.y for dot in column]
        assert ys == sorted(ys)
        assert all(second - first >= ROW - 0.01 for first, second in pairwise(ys))
        assert all(TOP <= y <= picture.height for y in ys)
        assert [dot.is_new for dot in column] == sorted((dot.is_new for dot in column), reverse=True)
    at = {dot.node.name: dot.y for dot in (*picture.principals, *picture.connections)}
    for line in picture.lines:
        assert line.path.startswith(f"M{picture.left} {at[line.hop.principal]:.1f}C")
        assert line.path.endswith(f"{picture.right} {at[line.hop.connection]:.1f}")
        assert picture.principals[line.left].node.name == line.hop.principal
    fresh = [line.hop.is_new for line in picture.lines]
    assert fresh == sorted(fresh)  # drawn last, over the others


def test_ways_that_were_shut_are_told_from_those_with_a_denial() -> None:
    hops = [hop("a", "x", operations=9, denied=1), hop("b", "x", operations=2, denied=1), hop("c", "x", operations=0, refused=1)]
    picture = draw([node("a"), node("b"), node("c")], [node("x")], hops)
    assert {line.hop.principal for line in picture.lines if line.refused} == {"b", "c"}


def test_nothing_is_a_picture_too() -> None:
    assert draw([], [], []).lines == ()
