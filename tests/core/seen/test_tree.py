"""Sums and first values over the branches of a tree."""

import random

from modswap.core.seen.tree import first_below, sums_below


def branch(parents: list[int], node: int) -> list[int]:
    """Return a node and those below it, by the parents alone."""

    def is_in(other: int) -> bool:
        while other > node:
            other = parents[other]
        return other == node

    return [other for other in range(len(parents)) if is_in(other)]


def tree(chance: random.Random) -> list[int]:
    """Return the parents of up to 12 nodes, in the order in which a walk meets them."""
    parents, chain = [0], [0]
    for node in range(1, chance.randint(2, 12)):
        chain = chain[: chance.randint(1, len(chain))]
        parents.append(chain[-1])
        chain.append(node)
    return parents


def test_sums_count_each_object_once_in_every_branch() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        parents = tree(chance)
        sizes = {name: chance.randint(0, 9) for name in "abcdef"}
        held = [chance.choices("abcdef", k=chance.randint(0, 4)) for _ in parents]

        sums = sums_below(parents, ([(name, sizes[name]) for name in own] for own in held))

        for node, total in enumerate(sums):
            names = {name for inside in branch(parents, node) for name in held[inside]}
            assert total == sum(sizes[name] for name in names)


def test_first_value_of_a_branch_is_the_first_that_a_walk_meets() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        parents = tree(chance)
        own = [chance.choice([None, None, node]) for node in range(len(parents))]

        found = first_below(parents, own)

        for node, value in enumerate(found):
            inside = (own[other] for other in branch(parents, node))
            assert value == next((one for one in inside if one is not None), None)
