"""Linear maps that modules of the catalogue hold beside their own mechanism."""

from collections.abc import Callable, Mapping

from torch import nn

from modswap.nn.acmix import ACmix
from modswap.nn.adapters import SiteAdapter
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.linear_forms.adapted import adapted
from modswap.nn.linear_forms.attended import Attended
from modswap.nn.linear_forms.form import LinearForm
from modswap.nn.linear_forms.mixed import Mixed
from modswap.nn.linear_forms.separable import Separable
from modswap.nn.multi_head_self_attention import MultiHeadSelfAttention

# the form of each row; a row without one has at most a last linear layer
FORMS: Mapping[type[nn.Module], Callable[..., LinearForm]] = {
    ACmix: Mixed,
    BiLevelRoutingAttention: Separable,
    MultiHeadSelfAttention: Attended,
}


def form_of(module: nn.Module, damp: float = 1.0) -> LinearForm | None:
    """Return the linear form that a module, or one in an adapter, has; None if it has none.

    A `damp` above 1 makes the module's own mechanism that much weaker beside the linear map.
    """
    adapter = module if isinstance(module, SiteAdapter) else None
    inner = module if adapter is None else adapter.module
    made = FORMS.get(type(inner))
    form = None if made is None else made(inner, damp=damp)
    if form is None or not form.present:
        return None
    return form if adapter is None else adapted(adapter, form)
