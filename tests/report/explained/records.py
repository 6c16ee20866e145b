"""An explained pass for the tests of its reports, with hostile names."""

from modswap.core.explained.record import (
    Explained,
    Followed,
    Formula,
    Line,
    Numbers,
    OtherForm,
    SetValue,
    Shape,
    UsedOption,
)
from modswap.core.explained.words import ModuleText, Words
from tests.core.explained.test_routing import FIRST, PADDED

MAP = Shape((1, 8, 4), ("N", "C", "4"))
NASTY = "<script>|`\x1b[31m"


def numbers(flops: int = 0, seconds: float | None = None) -> Numbers:
    return Numbers(flops, flops // 2, 4 * flops, seconds)


def explained(*, timed: bool = True, lesson: bool = True) -> Explained:
    """Return a pass over a function that calls two others, with and without times and texts."""
    second = 0.002 if timed else None
    leaf = Followed("Linear", "l.py", 1, 2, numbers(9), ("fc.0", "fc.2"), SetValue("", (MAP,)))
    inner = Followed(
        "Net.part", "n.py", 9, 1, numbers(5, second),
        lines=(Line(10, 10, ("return x",), 1, numbers(5, second), (SetValue("", (MAP,)),)),
               Line(11, 11, ("never()",))),
    )  # fmt: skip
    box = Followed(
        "Sequential", "s.py", 3, 1, numbers(9), ("fc",),
        lines=(Line(4, 4, ("for module in self:",), 3),
               Line(5, 5, ("    x = module(x)",), 3, numbers(9), calls=(leaf, leaf))),
        container=True,
    )  # fmt: skip
    lines = (
        Line(2, 2, ("if x:",), 0),
        Line(3, 3, ("    never()",), 0),
        Line(4, 6, ("y = f(", f"    {NASTY!r}", ")"), 1, numbers(1_234_567, second),
             (SetValue("y", (MAP,)), SetValue(NASTY, ("1",))), "a = C; Σ b", ("NaN",),
             Words("the <b>first</b> step", "第一步"), (inner,)),
        Line(7, 7, ("z = fc(y)",), 2, numbers(), calls=(box,)),
        Line(8, 8, ("w = g(z)",), 1, numbers(), calls=(leaf,)),
        Line(9, 9, ("return z",), 1, numbers(2_000_000_000_000, second)),
    )  # fmt: skip
    text = ModuleText(
        Words("A module.", "一个模块。"), ("y = f(x)", "z = y"), {"y": Words("a map", "特征图")}, {}
    )
    return Explained(
        title=f"Net{NASTY}",
        inputs=("(1, 8, 4)",),
        facts=(Words("float32, CPU", "float32, CPU"), Words("evaluation", "推理模式")),
        left_out=(("aten::flash", 500),) if lesson else (),
        root=Followed("Net", "n.py", 1, 1, numbers(10, second), lines=lines),
        numbers=Numbers(1_000, 500 if lesson else 0, 4_000, second),
        counter=1_000,
        equal=lesson,
        plain_seconds=second,
        axes=(("N", "1"), ("C", "8")) if lesson else (),
        options=(UsedOption("dim", "8", Words("channels", "通道数")), UsedOption("bias", ""))
        if lesson
        else (),
        form="plain" if lesson else "",
        other=OtherForm("fast", numbers(7, second), 1e-7 if timed else 0.0) if lesson else None,
        formula=Formula("8*x", 8) if lesson else None,
        text=text if lesson else None,
        routing=(PADDED if timed else FIRST) if lesson else None,
        notes=(Words("a note", "一条说明"),),
    )
