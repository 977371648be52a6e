"""Several objectives at once: who dominates whom, and in which order trials stand."""

import math
from collections.abc import Sequence


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is at least as good in every objective and better in one (all minimised)."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def fronts(points: Sequence[Sequence[float]]) -> list[list[int]]:
    """Sort points (all minimised) into fronts: the non-dominated, then those of the rest, …"""
    above = [sum(dominates(other, point) for other in points) for point in points]
    rest, fronts = set(range(len(points))), []
    while rest:
        front = sorted(i for i in rest if above[i] == 0)
        fronts.append(front)
        rest -= set(front)
        for i in rest:
            above[i] -= sum(dominates(points[j], points[i]) for j in front)
    return fronts


def crowding(points: Sequence[Sequence[float]], front: Sequence[int]) -> dict[int, float]:
    """Return how much room each point of a front has; Deb et al. 2002, NSGA-II, III.B."""
    room = dict.fromkeys(front, 0.0)
    for axis in range(len(points[0])):
        line = sorted(front, key=lambda i: points[i][axis])
        width = points[line[-1]][axis] - points[line[0]][axis]
        room[line[0]] = room[line[-1]] = math.inf
        for before, middle, after in zip(line, line[1:], line[2:], strict=False):
            if width > 0:
                room[middle] += (points[after][axis] - points[before][axis]) / width
    return room


def nondominated_order(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices from the best to the worst: by front, within a front by room, then by arrival."""
    order: list[int] = []
    for front in fronts(points):
        room = crowding(points, front)
        order += sorted(front, key=lambda i: (-room[i], i))
    return order
