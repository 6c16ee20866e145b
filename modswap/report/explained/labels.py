"""Words of the reports on an explained pass, in English and Chinese."""

from modswap.core.explained.record import Explained, Numbers
from modswap.core.explained.words import Words

LABELS = {
    "source": Words("source, and what it set", "源代码，以及该行得到的值"),
    "code": Words("source", "源代码"),
    "flops": Words("FLOP", "FLOP"),
    "beyond": Words("+", "+"),
    "bytes": Words("bytes", "字节"),
    "ms": Words("ms", "毫秒"),
    "share": Words("%", "%"),
    "all": Words("all lines", "合计"),
    "formula": Words("the catalogue's formula", "目录中的公式"),
    "line": Words("line", "行"),
    "sets": Words("what it set", "得到的值"),
    "step": Words("step", "说明"),
    "equation": Words("equation", "公式"),
    "symbols": Words("symbols", "符号"),
    "symbol": Words("symbol", "符号"),
    "meaning": Words("meaning", "含义"),
    "options": Words("options", "参数"),
    "option": Words("option", "参数"),
    "value": Words("value in use", "当前值"),
    "unknown": Words("not kept by the module", "模块没有保存"),
    "axes": Words("axes: ", "各轴："),
    "name": Words("name", "名称"),
    "size": Words("size", "大小"),
    "input": Words("input", "输入"),
    "plain": Words("the paper's form", "论文形式"),
    "fast": Words("the form that runs", "实际运行的形式"),
    "padding": Words("padding", "补边"),
    "routing": Words("Which windows attend to which", "哪些窗口关注哪些窗口"),
    "window": Words("Window", "窗口"),
    "window_place": Words("row {0}, column {1}", "第 {0} 行，第 {1} 列"),
    "steps": Words(
        "The slider chooses the window with the red frame; so do the arrow keys; page up and page "
        "down go by a row, and a click on the picture chooses too. Blue are the windows that it "
        "attends to, numbered from the best; the darker, the larger their weight.",
        "用滑块选择一个窗口（红框），也可用方向键；Page Up 和 Page Down 按行移动，也可以点击图片。"
        "蓝色为它所关注的窗口，编号从最优先的开始；颜色越深，权重越大。",
    ),
    "no_picture": Words(
        "The input is a dummy one; `--image photo.jpg` takes a picture in its place.",
        "输入为随机数据；用 `--image photo.jpg` 可换成图片。",
    ),
    "too_many": Words(
        "There are too many windows for a page: `--routing OUT.svg --window 3,4` draws some.",
        "窗口太多，网页无法全部显示：用 `--routing OUT.svg --window 3,4` 画出其中几个。",
    ),
    "attends": Words("attends to", "关注的窗口"),
    "used": Words("attended to by", "被关注次数"),
    "all_windows": Words("All windows", "所有窗口"),
    "again": Words("Print the numbers again", "再次输出这些数字"),
    "skipped": Words("… {0} statements did not run", "……有 {0} 条语句没有执行"),
    "skipped_one": Words("… 1 statement did not run", "……有 1 条语句没有执行"),
}
NUMBERS = ("flops", "beyond", "bytes", "ms", "share")  # labels of the columns of numbers
_SEMICOLON, _COLON, _COMMA = Words("; ", "；"), Words(": ", "："), Words(", ", "，")
_COUNTED = Words(
    "FLOP {0} = torch's own counter, + {1} in operators that it leaves out",
    "FLOP {0}，与 torch 自带计数器一致；另有 {1} 属于该计数器不统计的算子",
)
_EXACT = Words("FLOP {0} = torch's own counter", "FLOP {0}，与 torch 自带计数器一致")
_FORMULA = Words("the catalogue's formula, {0}: {1}", "目录中的公式 {0}：{1}")
_TIMES = Words(
    "lines {0} ms, plain forward {1} ms, on one thread",
    "各行合计 {0} 毫秒，普通前向 {1} 毫秒，单线程",
)
_EQUAL = Words("outputs equal the plain run's bit for bit", "输出与普通运行逐位相同")
_BYTES = Words("bytes are those of newly allocated results", "字节数为新分配的结果所占")
_OTHER = {
    "plain": Words("beside it, the paper's form", "对照：论文形式"),
    "fast": Words("beside it, the form that runs", "对照：实际运行的形式"),
}
_OTHER_COST = Words("FLOP {0} + {1}, {2} bytes", "FLOP {0} + {1}，{2} 字节")
_ROUTED = Words(
    "routing: each window attends to {0} of {1} windows; {2} of them hold a part of the picture, "
    "the measures are of those",
    "路由：每个窗口关注 {1} 个窗口中的 {0} 个；其中 {2} 个含有图片内容，以下统计只计这些窗口",
)
_DISTANCE = Words(
    "average attention distance {0} pixels of the picture, centre to centre; any two windows: {1}",
    "平均注意力距离 {0} 像素（图片坐标，中心到中心）；任意两个窗口之间为 {1}",
)
_EVEN = Words(
    "evenness of use {0} (1: all windows alike); {1} windows that none attends to; the most used "
    "one serves {2}",
    "使用的均匀程度 {0}（1 表示完全均匀）；{1} 个窗口无人关注；用得最多的窗口被 {2} 个窗口关注",
)
_PADDED = Words("{0} of their routes lead into padding", "其中 {0} 的路由指向补边")
_ROUTES = Words("Window {0},{1} (row, column) attends to {2}", "窗口 {0},{1}（行, 列）关注 {2}")
_MS = Words(", {0} ms", "，{0} 毫秒")
_APART = Words(
    "; outputs are {0} of their size apart; `{1}` explains it",
    "；两者输出相差其数值大小的 {0}；用 `{1}` 查看其解释",
)


def label(name: str, language: str) -> str:
    """Return a label of the table."""
    return LABELS[name].into(language)


def skipped(count: int, language: str) -> str:
    """Return the row in place of statements that did not run."""
    return label("skipped_one" if count == 1 else "skipped", language).format(count)


def short(count: int) -> str:
    """Return a number with three digits, such as 1.23M; empty for 0."""
    if not count:
        return ""
    for unit in ("", "k", "M", "G"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000  # type: ignore[assignment] # the rest is no whole number
    return f"{count:.3g}T"


def milliseconds(seconds: float | None) -> str:
    """Return a time; empty where none was taken."""
    return "" if seconds is None else f"{seconds * 1e3:.2f}"


def share_of(part: float | None, whole: float | None) -> float | None:
    """Return a part over the whole; None where no time was taken."""
    return part / whole if part is not None and whole else None


def share(part: float | None, whole: float | None) -> str:
    """Return a part in percent; empty where no time was taken."""
    found = share_of(part, whole)
    return "" if found is None else f"{found:.0%}"


def cells(numbers: Numbers, whole: Numbers) -> tuple[str, str, str, str, str]:
    """Return the numbers of a line as cells of a table."""
    return (
        short(numbers.flops),
        short(numbers.beyond),
        short(numbers.nbytes),
        milliseconds(numbers.seconds),
        share(numbers.seconds, whole.seconds),
    )


def totals(explained: Explained, language: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the rows below the lines: their names, and their cells of numbers."""
    whole = explained.numbers
    count = len(shown_numbers(explained))
    rows = [(label("all", language), cells(whole, whole)[:count])]
    if explained.formula is not None:
        blank = [""] * (count - 1)
        rows.append((label("formula", language), (short(explained.formula.flops) or "0", *blank)))
    return rows


def shown_numbers(explained: Explained) -> tuple[str, ...]:
    """Return the columns of numbers: without those of time where none was taken."""
    return NUMBERS if explained.numbers.seconds is not None else NUMBERS[:3]


def heading(explained: Explained, language: str) -> str:
    """Return the module with its form, its input and its facts."""
    facts = _COMMA.into(language).join(fact.into(language) for fact in explained.facts)
    form = ""
    if explained.form:
        form = _COMMA.into(language) + label(explained.form, language)
    colon, semicolon = (mark.into(language) for mark in (_COLON, _SEMICOLON))
    return f"{explained.title}{form}{colon}{', '.join(explained.inputs)}{semicolon}{facts}"


def routed_words(place: tuple[int, int], routes: list[str], language: str) -> str:
    """Return the windows that a window attends to in a sentence."""
    return _ROUTES.into(language).format(*place, _COMMA.into(language).join(routes))


def closing(explained: Explained, language: str) -> list[str]:
    """Return the sentences below the table: what was compared, and with what result."""
    notes = (note.into(language) for note in explained.notes)
    return [*compared(explained, language), *routing_measures(explained, language), *notes]


def compared(explained: Explained, language: str) -> list[str]:
    """Return the sentences on the counts, the times and the other form."""
    numbers = explained.numbers
    counts = (f"{explained.counter:,}", f"{numbers.beyond:,}")
    first = (_COUNTED if numbers.beyond else _EXACT).into(language).format(*counts)
    if explained.left_out:
        first += f" ({', '.join(f'{name} {count:,}' for name, count in explained.left_out)})"
    if explained.formula is not None:
        first += _SEMICOLON.into(language) + _FORMULA.into(language).format(
            explained.formula.text, f"{explained.formula.flops:,}"
        )
    second = [_BYTES.into(language)]
    if numbers.seconds is not None:
        times = (milliseconds(numbers.seconds), milliseconds(explained.plain_seconds))
        second.append(_TIMES.into(language).format(*times))
    second += [_EQUAL.into(language)] if explained.equal else []
    return [first, _SEMICOLON.into(language).join(second), *_other(explained, language)]


def routing_measures(explained: Explained, language: str) -> list[str]:
    """Return the measures of the routing: how far windows look, and how evenly they are used."""
    found = explained.routing
    if found is None:
        return []
    routed = len(found.routes[0]) if found.routes else 0
    return [
        _ROUTED.into(language).format(routed, len(found.boxes), len(found.real)),
        _DISTANCE.into(language).format(f"{found.distance:.1f}", f"{found.any_distance:.1f}"),
        _EVEN.into(language).format(
            f"{found.evenness:.2f}", found.unused, max(found.uses.values(), default=0)
        ),
        *([_PADDED.into(language).format(f"{found.into_padding:.0%}")] * bool(found.into_padding)),
    ]


def _other(explained: Explained, language: str) -> list[str]:
    other = explained.other
    if other is None:
        return []
    numbers = other.numbers
    cost = _OTHER_COST.into(language).format(
        f"{numbers.flops:,}", f"{numbers.beyond:,}", f"{numbers.nbytes:,}"
    )
    if numbers.seconds is not None:
        cost += _MS.into(language).format(milliseconds(numbers.seconds))
    apart = f"{other.difference:.1g}" if other.difference else "0"
    more = _APART.into(language).format(apart, f"--{other.name}")
    return [f"{_OTHER[other.name].into(language)}{_COLON.into(language)}{cost}{more}"]
