"""ACmix's output from its weights, by plain operations or in tiles with a backward pass."""

from typing import Any, NamedTuple

import torch
from torch.nn.functional import conv2d, pad, unfold

from modswap.nn.kernels.half_precision import imitated
from modswap.nn.kernels.local_attention import KERNEL, Geometry, attend, attend_backward
from modswap.nn.kernels.maps import order_of, ordered_as
from modswap.nn.kernels.tracing import recorded, transformed

CHUNK_BYTES = 8 << 20  # of the maps of a chunk of images, which stay in the cache
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Terms(NamedTuple):
    """The tensors from which ACmix is computed."""

    x: torch.Tensor  # the map, (N, in_planes, H, W)
    projection: torch.Tensor  # of queries, keys and values below each other, (3 * C, in_planes)
    bias: torch.Tensor  # (3 * C)
    position: torch.Tensor  # of each pixel, (H * W, head_dim)
    # of the convolution of queries, keys and values, channels of a position in a head together,
    # scaled by its rate: (C, 3 * heads, kernel_conv, kernel_conv)
    kernel: torch.Tensor
    rate: torch.Tensor  # of the attention, (1)


class Saved(NamedTuple):
    """The tensors of a chunk of images that the backward pass needs."""

    qkv: torch.Tensor  # queries, keys less their positions and values, (N, H, W, 3 * C)
    mixed: torch.Tensor  # channels for the convolution, (N, 3 * C, H, W)
    attended: torch.Tensor  # output of the attention, (N, H', W', heads, head_dim)
    logsumexp: torch.Tensor  # of each query's logits, (N, H', W', heads, 1)


def supported(tensors: tuple[torch.Tensor, ...]) -> bool:
    """Return whether the kernel of the tiles takes these tensors, and they are plain tensors."""
    return (
        not (torch.compiler.is_compiling() or recorded())
        and all(type(t) in {torch.Tensor, torch.nn.Parameter} for t in tensors)
        # also on tensors without data, where the cost of the tiles is predicted
        and all(t.device.type in {"cpu", "meta"} for t in tensors)
        and all(t.dtype is tensors[0].dtype for t in tensors)
        and not transformed(*tensors)
        and tensors[0].dtype in DTYPES
        and hasattr(torch.ops.aten, KERNEL)
        and hasattr(torch.ops.aten, f"{KERNEL}_backward")
    )


def computable(terms: Terms) -> Terms:
    """Return terms in float32 if this machine has no fast matrix products of their half type."""
    if not imitated(terms.x.dtype, terms.x.device):
        return terms
    return Terms(*(term.float() for term in terms))


def mix_plain(terms: Terms, geometry: Geometry) -> torch.Tensor:
    """Return ACmix's output by differentiable operations, windows unfolded."""
    x, projection, bias, position, kernel, rate = terms
    qkv = conv2d(x, projection[:, :, None, None], bias)  # (N, 3 * C, H, W)
    return ordered_as(mix_projected(qkv, position, kernel, rate, geometry), x)


def mix_projected(
    qkv: torch.Tensor,
    position: torch.Tensor,
    kernel: torch.Tensor,
    rate: torch.Tensor,
    geometry: Geometry,
) -> torch.Tensor:
    """Return ACmix's output from queries, keys and values below each other, (N, 3 * C, H, W)."""
    N, _, H, W = qkv.shape
    C, D = len(kernel), position.shape[1]
    heads, window = geometry.heads, geometry.kernel**2
    out_size = ((H - 1) // geometry.stride + 1, (W - 1) // geometry.stride + 1)
    q, k, v = qkv.view(N, 3, heads, D, H, W).unbind(1)  # each (N, heads, D, H, W)
    # q (k + p_query - p_key): the query's own position adds the same to all its logits
    k = k - position.t().view(D, H, W)
    near = [_unfold(t.reshape(N, C, H, W), geometry) for t in (k, v)]
    k, v = (t.view(N, heads, D, window, -1).permute(0, 1, 4, 2, 3) for t in near)
    asked = q[..., :: geometry.stride, :: geometry.stride]  # (N, heads, D, H', W')
    asked = asked.flatten(3).transpose(2, 3)[..., None, :]  # (N, heads, L', 1, D)
    weights = (asked @ k * D**-0.5).softmax(-1)  # (N, heads, L', 1, window)
    attended = (weights @ v.transpose(3, 4)).squeeze(3)  # (N, heads, L', D)
    attended = attended.transpose(2, 3).reshape(N, C, *out_size)
    mixed = qkv.view(N, 3 * heads, D, H, W).transpose(1, 2)  # (N, D, 3 * heads, H, W)
    mixed = mixed.reshape(N, 3 * C, H, W)
    side = kernel.shape[-1] // 2
    convolved = conv2d(mixed, kernel, stride=geometry.stride, padding=side, groups=D)
    total: torch.Tensor = rate * attended + convolved
    return total


def _unfold(pixels: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Return every query's window, (N, C * kernel ** 2, L')."""
    padded = pad(pixels, [geometry.padding] * 4, mode="reflect")
    return unfold(padded, geometry.kernel, dilation=geometry.dilation, stride=geometry.stride)


def _chunks(terms: Terms) -> list[slice]:
    """Return the images that are computed together, as slices of the batch."""
    N, _, H, W = terms.x.shape
    size = (len(terms.projection) * 2 + terms.x.shape[1]) * H * W * terms.x.element_size()
    step = max(1, CHUNK_BYTES // max(1, size))
    return [slice(start, min(start + step, N)) for start in range(0, N, step)]


def _empty_output(terms: Terms, geometry: Geometry) -> torch.Tensor:
    N, _, H, W = terms.x.shape
    size = (N, len(terms.kernel), -(-H // geometry.stride), -(-W // geometry.stride))
    x = terms.x
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=order_of(x))


def mix(terms: Terms, geometry: Geometry) -> torch.Tensor:
    """Return ACmix's output, in tiles; keeps nothing for a backward pass."""
    out = _empty_output(terms, geometry)
    for images in _chunks(terms):
        _mix_chunk(terms._replace(x=terms.x[images]), geometry, out[images], keep=False)
    return out


def _mix_chunk(terms: Terms, geometry: Geometry, out: torch.Tensor, *, keep: bool) -> Saved:
    """Write the output of some images, and return the tensors that its backward pass needs."""
    x, projection, bias, position, kernel, rate = terms
    N, _, H, W = x.shape
    D, s = position.shape[1], geometry.stride
    qkv = x.new_empty(N, H, W, len(bias))
    for image, pixels in zip(x, qkv, strict=True):
        torch.addmm(bias, image.flatten(1).t(), projection.t(), out=pixels.flatten(0, 1))
    by_head = qkv.view(N, H, W, 3 * geometry.heads, D)
    # always a copy, as the keys change below
    mixed = by_head.transpose(3, 4).clone(memory_format=torch.contiguous_format)
    mixed = mixed.flatten(3).permute(0, 3, 1, 2)  # (N, D * 3 * heads, H, W)
    q, k, v = by_head.chunk(3, 3)  # each (N, H, W, heads, D)
    k.sub_(position.view(H, W, 1, D))
    attended, logsumexp = attend(q[:, ::s, ::s], k, v, geometry, keep=keep)
    side = kernel.shape[-1] // 2
    convolved = conv2d(mixed, kernel, stride=s, padding=side, groups=D).permute(0, 2, 3, 1)
    convolved.addcmul_(attended.flatten(3), rate)  # (N, H', W', C)
    for into, pixels in zip(out, convolved, strict=True):
        # as matrices, which torch transposes fast
        into.flatten(1).copy_(pixels.flatten(0, 1).t())
    return Saved(qkv, mixed, attended, logsumexp)


class Mix(torch.autograd.Function):
    """ACmix's output, with a backward pass that computes the attention's weights again."""

    @staticmethod
    def forward(ctx: Any, geometry: Geometry, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        terms = Terms(*tensors)
        out = _empty_output(terms, geometry)
        kept: list[torch.Tensor] = []
        for images in _chunks(terms):
            chunk = terms._replace(x=terms.x[images])
            kept += _mix_chunk(chunk, geometry, out[images], keep=True)
        ctx.geometry = geometry
        ctx.save_for_backward(*tensors, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of the terms; differentiable if autograd says so."""
        (gradient,) = gradients
        saved = ctx.saved_tensors
        terms, kept = Terms(*saved[:6]), saved[6:]
        if torch.is_grad_enabled():
            return (None, *_open_gradients(gradient, terms, ctx.geometry))
        zeros = [torch.zeros_like(term) for term in terms[1:]]
        results = Terms(torch.empty_like(terms.x), *zeros)
        for number, images in enumerate(_chunks(terms)):
            part = Saved(*kept[4 * number : 4 * number + 4])
            chunk = terms._replace(x=terms.x[images])
            into = results._replace(x=results.x[images])
            _chunk_backward(gradient[images], chunk, part, into, ctx.geometry)
        return (None, *results)


def _open_gradients(
    gradient: torch.Tensor, terms: Terms, geometry: Geometry
) -> list[torch.Tensor | None]:
    """Return the gradients that the terms need, themselves differentiable."""
    needed = [term for term in terms if term.requires_grad]
    found = torch.autograd.grad(
        mix_plain(terms, geometry), needed, gradient, create_graph=True, materialize_grads=True
    )
    left = iter(found)
    return [next(left) if term.requires_grad else None for term in terms]


def _chunk_backward(
    gradient: torch.Tensor, terms: Terms, kept: Saved, into: Terms, geometry: Geometry
) -> None:
    """Write the gradient of some images, and add to the gradients of the other terms."""
    x, projection, _, _, kernel, rate = terms
    heads, s = geometry.heads, geometry.stride
    pixels = torch.empty_like(kept.attended).flatten(3)  # (N, H', W', C)
    for row, image in zip(pixels, gradient, strict=True):
        row.flatten(0, 1).copy_(image.flatten(1).t())
    side = kernel.shape[-1] // 2
    d_mixed, d_kernel, _ = torch.ops.aten.convolution_backward(
        *(pixels.permute(0, 3, 1, 2), kept.mixed, kernel),
        bias_sizes=None,
        stride=[s, s],
        padding=[side, side],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=kept.attended.shape[4],
        output_mask=[True, True, False],
    )
    into.kernel.add_(d_kernel)
    by_head = pixels.view_as(kept.attended)  # (N, H', W', heads, D)
    into.rate.add_(torch.dot(pixels.flatten(), kept.attended.flatten()))
    d_qkv = torch.empty_like(kept.qkv)
    dq, dk, dv = d_qkv.unflatten(3, (3 * heads, -1)).chunk(3, 3)  # each (N, H, W, heads, D)
    for zero in (dk, dv) if s == 1 else (dq, dk, dv):
        zero.zero_()
    q, k, v = kept.qkv.unflatten(3, (3 * heads, -1)).chunk(3, 3)
    inputs, outputs = (q[:, ::s, ::s], k, v), (dq[:, ::s, ::s], dk, dv)
    results = (kept.attended, kept.logsumexp)
    attend_backward(by_head.mul_(rate), inputs, results, outputs, geometry)
    into.position.sub_(dk.sum((0, 3)).flatten(0, 1))
    mixed = d_mixed.permute(0, 2, 3, 1).unflatten(3, (-1, 3 * heads))  # (N, H, W, D, 3 * heads)
    d_qkv.unflatten(3, (3 * heads, -1)).add_(mixed.transpose(3, 4))
    into.bias.add_(d_qkv.sum((0, 1, 2)))
    for image, d_image, rows in zip(x, into.x, d_qkv.flatten(1, 2), strict=True):
        into.projection.addmm_(rows.t(), image.flatten(1).t())
        if d_image.is_contiguous():
            torch.mm(projection.t(), rows.t(), out=d_image.flatten(1))
        else:
            d_image.copy_((projection.t() @ rows.t()).view_as(d_image))
