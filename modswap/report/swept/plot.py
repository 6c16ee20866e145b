"""A sweep as a drawing: the error of each trial against a cost, as SVG in light and dark."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10

from modswap.core.decided.cost import count_text, size_text
from modswap.core.swept.record import NO_COST, SweepResult, TrialResult
from modswap.core.version import __version__
from modswap.core.words.printable import tame

WIDTH, HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 40, 40, 56  # margins
_LEAST = 1e-6  # smaller errors are drawn there
_MOST_LABELS = 12
_COLOURS = 6  # of modules; all further ones are grey
_LETTER = 6.5  # width of a letter
_TITLES = {
    "flops": "FLOPs added to a pass",
    "params": "parameters added",
    "memory": "bytes added to the memory of a pass",
    "latency": "milliseconds added at the site",
}
_STYLE = """
text{font:12px system-ui,sans-serif;fill:#1f2328}
.paper{fill:#fff}.grid{stroke:#d8dee4}.front{stroke:#8c959f;fill:none;stroke-dasharray:4 3}
.m0{fill:#0969da}.m1{fill:#bf8700}.m2{fill:#8250df}.m3{fill:#1a7f37}.m4{fill:#bf3989}.m5{fill:#0f7b82}.m6{fill:#6e7781}
.chosen{stroke:#cf222e;stroke-width:2.5;fill-opacity:1}
circle{fill-opacity:.7}.way,.healed{stroke:#57606a;stroke-width:1.5;fill:none}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}.grid{stroke:#30363d}
.m0{fill:#58a6ff}.m1{fill:#d29922}.m2{fill:#bc8cff}.m3{fill:#3fb950}.m4{fill:#f778ba}.m5{fill:#39c5cf}.m6{fill:#8b949e}
.chosen{stroke:#ff7b72}.way,.healed{stroke:#9da7b1}}
"""


def sweep_svg(found: SweepResult, cost: str) -> str:
    """Return the drawing of the trials that hold; `cost` is a field of their cost."""
    return "\n".join(_Drawing(found, cost).elements()) + "\n"


class _Drawing:
    """The places of everything in the drawing.

    Args:
        found: The sweep, with at least one trial that holds.
        cost: The field of the cost on the horizontal axis.
    """

    def __init__(self, found: SweepResult, cost: str) -> None:
        self.results = found.ranked
        self.cost = cost
        self.chosen = {one.trial.key for one in found.choice.results} if found.choice else set()
        self.modules = list(dict.fromkeys(one.trial.module for one in found.results))
        costs = [self._cost(one) for one in self.results]
        errors = [log10(_error(one)) for one in self.results]
        errors += [log10(_healed(one)) for one in self.results if one.healed is not None]
        self.low, self.high = floor(min(errors)), max(ceil(max(errors)), floor(min(errors)) + 1)
        self.ticks = _ticks(min(*costs, 0.0), max(*costs, 0.0))

    def _cost(self, one: TrialResult) -> float:
        return float(getattr(one.added or NO_COST, self.cost))

    def x(self, cost: float) -> float:
        """Return the place of a cost."""
        first, last = self.ticks[0], self.ticks[-1]
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (cost - first) / (last - first)

    def y(self, error: float) -> float:
        """Return the place of an error, given as its logarithm."""
        share = (error - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    def elements(self) -> Iterator[str]:
        """Yield the elements of the drawing, in their order."""
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}">'
        )
        yield f"<metadata>modswap sweep {__version__}</metadata>"
        yield f"<style>{_STYLE}</style>"
        yield '<rect class="paper" width="100%" height="100%"/>'
        yield from self._axes()
        front = front_of(self.results, self._cost)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self._place, front))
        yield f'<polyline class="front" points="{points}"/>'
        for one in self.results:
            yield from self._healing(one)
            yield self._point(one)
        yield from self._labels(front)
        yield from self._legend()
        yield "</svg>"

    def _place(self, one: TrialResult) -> tuple[float, float]:
        return self.x(self._cost(one)), self.y(log10(_error(one)))

    @property
    def _title(self) -> str:
        healed = any(one.healed is not None for one in self.results)
        more = "; the ring below: after healing" if healed else ""
        return f"error of the outputs after the closed form{more}"

    def _axes(self) -> Iterator[str]:
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        for tick in self.ticks:
            x = self.x(tick)
            yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            yield _text(x, bottom + 18, self._said(tick), "middle")
        for power in range(self.low, self.high + 1):
            y = self.y(power)
            yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            yield _text(_LEFT - 8, y + 4, self._power(power), "end")
        yield _text((_LEFT + right) / 2, HEIGHT - 14, _TITLES[self.cost], "middle")
        yield _text(_LEFT, _TOP - 18, self._title, "start")

    def _power(self, power: int) -> str:
        """Return a power of ten as text; the lowest is that of smaller errors too."""
        least = 10.0**power <= _LEAST and any((one.error or 0.0) < _LEAST for one in self.results)
        return ("\N{LESS-THAN OR EQUAL TO}" if least else "") + f"{10.0**power:g}"

    def _said(self, value: float) -> str:
        if self.cost == "latency":
            return f"{value:+g}" if value else "0"
        text = (size_text if self.cost == "memory" else count_text)(round(abs(value)))
        return f"{'+' if value > 0 else '-'}{text}" if value else "0"

    def _point(self, one: TrialResult) -> str:
        x, y = self._place(one)
        kind = f"m{min(self.modules.index(one.trial.module), _COLOURS)}"
        chosen = " chosen" if one.trial.key in self.chosen else ""
        said = escape(f"{_name(one)} {one.trial.module}: error {one.error or 0:.3g}")
        circle = f'<circle class="{kind}{chosen}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
        return f"{circle}<title>{said}</title></circle>"

    def _healing(self, one: TrialResult) -> Iterator[str]:
        """Yield the way from a trial's error to that after its healing, if it was healed."""
        if one.healed is None:
            return
        (x, y), end = self._place(one), self.y(log10(_healed(one)))
        yield f'<line class="way" x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{end:.1f}"/>'
        healed = one.healed
        said = escape(
            f"{_name(one)} healed: error {healed.error:.3g}, {healed.metric} {healed.value:.3f}"
        )
        circle = f'<circle class="healed" cx="{x:.1f}" cy="{end:.1f}" r="4.5">'
        yield f"{circle}<title>{said}</title></circle>"

    def _labels(self, front: Sequence[TrialResult]) -> Iterator[str]:
        """Yield the names of the trials that no other one beats, where there is room."""
        taken: list[float] = []
        for one in front[:_MOST_LABELS]:
            x, y = self._place(one)
            if all(abs(y - other) > 14 for other in taken):
                taken.append(y)
                name = _name(one)
                right = x + 9 + _LETTER * len(name) > WIDTH - _RIGHT
                yield _text(x - 9 if right else x + 9, y + 4, name, "end" if right else "start")

    def _legend(self) -> Iterator[str]:
        if len(self.modules) < 2:
            return
        names = self.modules[:_COLOURS]
        names += ["others"] if len(self.modules) > _COLOURS else []
        for number, name in enumerate(names):
            y = _TOP + 10 + 18 * number
            yield f'<circle class="m{number}" cx="{WIDTH - 190}" cy="{y}" r="5"/>'
            yield _text(WIDTH - 178, y + 4, tame(name)[:26], "start")


def front_of(
    results: Sequence[TrialResult], cost_of: Callable[[TrialResult], float]
) -> list[TrialResult]:
    """Return the trials that no other one beats in error and cost, the least cost first."""
    front: list[TrialResult] = []
    for one in sorted(results, key=lambda each: (cost_of(each), _error(each))):
        if not front or _error(one) < _error(front[-1]):
            front.append(one)
    return front


def _name(one: TrialResult) -> str:
    return tame(f"{one.trial.site} {one.trial.words}".rstrip())


def _error(one: TrialResult) -> float:
    return max(one.error or 0.0, _LEAST)


def _healed(one: TrialResult) -> float:
    return max(one.healed.error if one.healed else 0.0, _LEAST)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from below the lowest value to above the highest one."""
    span = high - low or 1.0
    step = 10.0 ** floor(log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    first = floor(low / step)
    return [step * number for number in range(first, max(ceil(high / step), first + 1) + 1)]
