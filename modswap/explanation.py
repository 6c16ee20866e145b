"""A forward pass explained line by line, for callers from Python."""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from modswap.core.explained.record import Explained
from modswap.core.words.python_spelling import for_python

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Explanation:
    """The values and costs of each line of a forward; it prints as a table.

    Args:
        record: The lines with their values and numbers, as plain data.
    """

    record: Explained

    def text(self, *, lang: str = "en", width: int = 100) -> str:
        """Return the explanation as text, in English (`en`) or Chinese (`zh`)."""
        return self._formed("text", lang, width)

    def markdown(self, *, lang: str = "en") -> str:
        """Return the explanation as Markdown."""
        return self._formed("markdown", lang)

    def html(self, *, lang: str = "en") -> str:
        """Return the explanation as a page of HTML."""
        return self._formed("html", lang)

    def _formed(self, form: str, lang: str, width: int = 100) -> str:
        from modswap.report.explained import FORMS
        from modswap.report.page import Page

        return FORMS[form](self.record, lang, Page(width))

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        # a frame of its own, so that its styles and its script do not reach the notebook
        return (
            '<iframe sandbox title="modswap explain" width="100%" height="640" '
            f'style="border: 0" srcdoc="{escape(self.html())}"></iframe>'
        )


@for_python
def explain(
    module: "nn.Module",
    *inputs: Any,
    depth: int | None = None,
    plain: bool | None = None,
    times: bool = True,
    **named: Any,
) -> Explanation:
    """Return what each line of a module's forward computes on inputs.

    The module runs in the mode it is in, without gradients and on one thread, several times on
    copies of the inputs; its buffers and the random states are restored.

    Args:
        module: The module.
        inputs: Its inputs.
        depth: How many functions below the forward are followed; None: as the module needs.
        plain: Whether the paper's form of a module of the catalogue is explained, or, if False, the
            form that runs; None: the paper's, where there is one.
        times: Whether lines are timed.
        named: Its named inputs.

    Raises:
        ExplainError: If the module is compiled, or its source cannot be read.
        ShapeError: If the recorded run differs from the plain run.

    Examples:
        >>> import torch
        >>> from modswap.nn import ECA
        >>> print(modswap.explain(ECA(16).eval(), torch.zeros(1, 16, 8, 8)).record.counter)
        96
    """
    from modswap.ops.explain.job import ExplainOptions, explain_module

    options = ExplainOptions(depth, plain, times)
    return Explanation(explain_module(module, inputs, named, options))
