"""The traffic between the processes of a healing, by formulas that a test holds to a real run.

`python -m benchmarks.heal_traffic` prints what 64 processes would exchange.
"""

from dataclasses import dataclass

DOUBLE, SINGLE = 8, 4  # bytes
FLAGS = 2  # numbers after each step, and at the end: Ctrl-C, and a file to be written
LENGTHS = 2  # numbers by which each step knows that all have as many terms
REPORTED_EVERY = 10  # steps, of whose last the loss is summed
PROCESSES, NETWORK = 64, 12.5e9  # bytes a second into each machine and out of it: 100 Gbit


@dataclass(frozen=True)
class Site:
    """A new module: its sizes, and those of what it is given and gives.

    Args:
        channels: Channels of the input.
        outputs: Channels of the output.
        taps: Values of each channel that its linear map sees at a place; of a
            `BiLevelRoutingAttention` those of the kernel, and one for each head.
        features: Inputs of the last linear layer.
        parameters: All of the new module.
        values: Values of its output for one sample.
    """

    channels: int
    outputs: int
    taps: int
    features: int
    parameters: int
    values: int


def closed(site: Site) -> dict[str, int]:
    """Return the bytes of a closed form: moments, the sums of the last layer, and weights."""
    width = (site.channels + 1) * site.taps
    moments = width * (width + site.outputs) + 2 * site.outputs + 1
    layer = (site.features + 1) * (site.features + 1 + site.outputs)
    weights = site.parameters + (site.features + 1) * site.outputs
    return {"sum": DOUBLE * (moments + layer), "broadcast": SINGLE * weights}


def error(site: Site, *, mechanism: bool = True) -> dict[str, int]:
    """Return the bytes of an error at a site, also of its mechanism alone: means over samples."""
    spreads = 4 if mechanism else 2
    return {"sum": DOUBLE * (spreads * site.values + 4 * 2)}


def norms(channels: int, count: int = 1) -> dict[str, int]:
    """Return the bytes of the statistics of norms."""
    return {"sum": SINGLE * 2 * channels * count + DOUBLE}


def fit(parameters: int, steps: int, terms: int = 1) -> dict[str, int]:
    """Return the bytes of the steps of a fit: gradients, and numbers of each step."""
    numbers = steps * (LENGTHS + terms) + (steps + 1) * FLAGS + steps // REPORTED_EVERY
    return {"gradient": SINGLE * parameters * steps, "sum": DOUBLE * numbers}


def ring(nbytes: float, processes: int = PROCESSES) -> float:
    """Return the bytes that a process sends to sum so many with the others."""
    return 2 * (processes - 1) / processes * nbytes


def parts(parameters: int, processes: int = PROCESSES) -> float:
    """Return the bytes that a process sends in a step of a model in parts.

    They are gathered forward and backward, and the gradients are summed into parts.
    """
    return 3 * (processes - 1) / processes * SINGLE * parameters


def main() -> None:
    """Print the bytes, and their seconds at the speed of the network."""
    wide = Site(512, 512, 9 + 8, 512, 4 * 512 * 513 + 512 * 10, 512 * 14 * 14)
    rows = [
        ("closed form, 512 channels at 14x14, 8 heads", ring(closed(wide)["sum"])),
        ("error at that site", ring(error(wide)["sum"])),
        ("statistics of 50 norms of 1,024 channels", ring(norms(1024, 50)["sum"])),
        ("step of fit at that site", ring(fit(wide.parameters, 1)["gradient"])),
        ("step of end --all, 25.6 million parameters", ring(fit(25_600_000, 1)["gradient"])),
        ("step of end --all --shard, 7 billion parameters", parts(7_000_000_000)),
    ]
    for name, nbytes in rows:
        print(f"{name:50} {nbytes / 1e6:12,.1f} MB {nbytes / NETWORK * 1e3:10,.1f} ms")  # noqa: T201 - a table for a terminal


if __name__ == "__main__":
    main()
