"""The loops of `torch_hoisted` with gradients written by hand.

Forward, the loops keep what they computed in buffers; backward, they compute the gradients of
pre-activations only, and those of the matrices follow as one product each over all steps. Tensors
in the loops are batch-major [B, N], or feature-major [N, B] with transposed matrices, in which many
machines multiply faster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.torch_hoisted import Left, LoopInputs, LoopWeights
from benchmarks.peers.torch_parts import Weights, lrelu3, project

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class Layout:
    """How tensors lie in the loop.

    Args:
        feature_major: [N, B] rather than [B, N].
    """

    def __init__(self, feature_major: bool) -> None:
        self.feature_major = feature_major
        self.axis = 0 if feature_major else 1

    def flipped(self, x: Tensor) -> Tensor:
        """[T, B, N] as it lies in the loop, or back."""
        return x.transpose(1, 2).contiguous() if self.feature_major else x.contiguous()

    def matrix(self, w: Tensor) -> Tensor:
        """A matrix [in, out] as `product` takes it."""
        return w.t().contiguous() if self.feature_major else w

    def product(self, x: Tensor, matrix: Tensor, add: Tensor | None, out: Tensor) -> Tensor:
        """`x w`, onto `add` if there is one."""
        factors = (matrix, x) if self.feature_major else (x, matrix)
        if add is None:
            return torch.mm(*factors, out=out)
        return torch.addmm(add, *factors, out=out)

    def back(self, d: Tensor, w: Tensor, add: Tensor) -> Tensor:
        """`d w^T + add` for w [in, out]."""
        factors = (w, d) if self.feature_major else (d, w.t())
        return torch.addmm(add, *factors)

    def columns(self, x: Tensor) -> Tensor:
        """[N, T B] from a sequence as it lies in the loop."""
        if self.feature_major:
            return x.transpose(0, 1).reshape(x.shape[1], -1)
        return x.reshape(-1, x.shape[2]).t()

    def gradient(self, x: Tensor, d: Tensor) -> Tensor:
        """Gradient [in, out] of a matrix over all steps."""
        return self.columns(x) @ self.columns(d).t()

    def empty(self, like: Tensor, steps: int, width: int) -> Tensor:
        """A buffer for `steps` steps."""
        rows = like.shape[2 - self.axis]
        shape = (steps, width, rows) if self.feature_major else (steps, rows, width)
        return like.new_empty(shape)


def _cell(layout: Layout, gates: Tensor, c: Tensor, new_c: Tensor, tanh: Tensor, h: Tensor) -> None:
    """The LSTM's point-wise part, in place: pre-activations become activations."""
    units = c.shape[layout.axis]
    gates.narrow(layout.axis, 0, 2 * units).sigmoid_()
    i, f, g, o = gates.chunk(4, layout.axis)
    g.tanh_()
    o.sigmoid_()
    torch.mul(f, c, out=new_c).addcmul_(i, g)
    torch.tanh(new_c, out=tanh)
    torch.mul(o, tanh, out=h)


def _cell_backward(
    layout: Layout, gates: Tensor, c: Tensor, tanh: Tensor, dh: Tensor, dc: Tensor, d_gates: Tensor
) -> None:
    """Gradient of pre-activations into `d_gates`; `dc` becomes that of the step before."""
    units = c.shape[layout.axis]
    i, f, g, o = gates.chunk(4, layout.axis)
    d_i, d_f, d_g, d_o = d_gates.chunk(4, layout.axis)
    torch.mul(dh, o, out=d_o)
    _tanh_backward(d_o, tanh, grad_input=d_o)
    dc.add_(d_o)
    torch.mul(dh, tanh, out=d_o)
    _sigmoid_backward(d_o, o, grad_input=d_o)
    torch.mul(dc, g, out=d_i)
    torch.mul(dc, c, out=d_f)
    both, values = (v.narrow(layout.axis, 0, 2 * units) for v in (d_gates, gates))
    _sigmoid_backward(both, values, grad_input=both)
    torch.mul(dc, i, out=d_g)
    _tanh_backward(d_g, g, grad_input=d_g)
    dc.mul_(f)


class _Infer(torch.autograd.Function):
    """The loop of inference; sequences as they lie in it."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, drive: Tensor, share: Tensor, noise: Tensor, *w: Tensor):
        state, head, head_bias, latent = w
        steps, units, hidden_size = len(drive), state.shape[0], head.shape[0]
        axis, latent_size = layout.axis, latent.shape[0]
        matrices = [layout.matrix(v) for v in (state, head, latent)]
        bias = head_bias[:, None] if layout.feature_major else head_bias
        # Index 0 of h and c is the state before the first step.
        h, c = (layout.empty(drive, steps + 1, units) for _ in range(2))
        h[0] = c[0] = 0.0
        met = torch.cat([share, drive], axis + 1)  # becomes pre-activations, gates in place
        tanh = layout.empty(drive, steps, units)
        head_out = layout.empty(drive, steps, 2 * latent_size)
        z = torch.empty_like(noise)
        for t in range(steps):
            layout.product(h[t], matrices[0], met[t], met[t])
            hidden = met[t].narrow(axis, 0, hidden_size)
            gates = met[t].narrow(axis, hidden_size, 4 * units)
            layout.product(lrelu3(hidden), matrices[1], bias, head_out[t])
            mean, log_variance = head_out[t].clamp(-8.0, 8.0).chunk(2, axis)
            torch.addcmul(mean, torch.exp(0.5 * log_variance), noise[t], out=z[t])
            layout.product(z[t], matrices[2], gates, gates)
            _cell(layout, gates, c[t], c[t + 1], tanh[t], h[t + 1])
        ctx.layout = layout
        ctx.save_for_backward(*w, noise, h, c, met, tanh, head_out, z)
        return h[1:], head_out.clamp(-8.0, 8.0), z

    @staticmethod
    def backward(ctx: Any, d_h: Tensor, d_posterior: Tensor, d_z: Tensor):
        state, head, _, latent, noise, h, c, met, tanh, head_out, z = ctx.saved_tensors
        layout, axis = ctx.layout, ctx.layout.axis
        steps, units, hidden_size = len(noise), state.shape[0], head.shape[0]
        hidden = met.narrow(axis + 1, 0, hidden_size)
        activated = lrelu3(hidden)
        slope = torch.where(hidden >= 0, 1.0, 1 / 3) * (activated.abs() < 3.0)
        log_variance = head_out.narrow(axis + 1, latent.shape[0], latent.shape[0])
        of_z = 0.5 * torch.exp(0.5 * log_variance.clamp(-8.0, 8.0)) * noise
        inside = (head_out.abs() <= 8.0).to(noise.dtype)
        d_posterior = d_posterior * inside
        d_met, d_head = torch.empty_like(met), torch.empty_like(head_out)
        dh, dc = d_h[-1], torch.zeros_like(c[0])
        for t in range(steps - 1, -1, -1):
            gates = met[t].narrow(axis, hidden_size, 4 * units)
            d_gates = d_met[t].narrow(axis, hidden_size, 4 * units)
            _cell_backward(layout, gates, c[t], tanh[t], dh, dc, d_gates)
            dz = layout.back(d_gates, latent, d_z[t])
            both = torch.cat([dz, dz * of_z[t]], axis)
            torch.addcmul(d_posterior[t], both, inside[t], out=d_head[t])
            factors = (head, d_head[t]) if layout.feature_major else (d_head[t], head.t())
            torch.mul(torch.mm(*factors), slope[t], out=d_met[t].narrow(axis, 0, hidden_size))
            if t:
                dh = layout.back(d_met[t], state, d_h[t - 1])
        d_gates = d_met.narrow(axis + 1, hidden_size, 4 * units)
        return (
            None,
            d_gates,
            d_met.narrow(axis + 1, 0, hidden_size),
            None,
            layout.gradient(h[:-1], d_met),
            layout.gradient(activated, d_head),
            d_head.sum((0, 2 - axis)),
            layout.gradient(z, d_gates),
        )


class _LSTM(torch.autograd.Function):
    """The backward network's loop, from the last step to the first."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, drive: Tensor, recurrent: Tensor):
        steps, units = len(drive), recurrent.shape[0]
        matrix = layout.matrix(recurrent)
        h, c = (layout.empty(drive, steps + 1, units) for _ in range(2))
        h[-1] = c[-1] = 0.0
        gates, tanh = torch.empty_like(drive), layout.empty(drive, steps, units)
        for t in range(steps - 1, -1, -1):
            layout.product(h[t + 1], matrix, drive[t], gates[t])
            _cell(layout, gates[t], c[t + 1], c[t], tanh[t], h[t])
        ctx.layout = layout
        ctx.save_for_backward(recurrent, h, c, gates, tanh)
        return h[:-1]

    @staticmethod
    def backward(ctx: Any, d_h: Tensor):
        recurrent, h, c, gates, tanh = ctx.saved_tensors
        layout = ctx.layout
        d_gates, dc = torch.empty_like(gates), torch.zeros_like(c[0])
        dh = d_h[0]
        for t in range(len(gates)):
            _cell_backward(layout, gates[t], c[t + 1], tanh[t], dh, dc, d_gates[t])
            if t + 1 < len(gates):
                dh = layout.back(d_gates[t], recurrent, d_h[t + 1])
        return None, d_gates, layout.gradient(h[1:], d_gates)


def loop(layout: Layout, inputs: LoopInputs, w: LoopWeights) -> Left:
    """`torch_hoisted.plain_loop` with the gradient by hand."""
    return Left(*map(layout.flipped, _Infer.apply(layout, *map(layout.flipped, inputs), *w)))


def encoder(layout: Layout, w: Weights, y: Tensor) -> Tensor:
    """`torch_hoisted.library_encoder` with the gradient by hand."""
    drive = project(w, y, w["backward.input"], w["backward.bias"])
    return layout.flipped(_LSTM.apply(layout, layout.flipped(drive), w["backward.recurrent"]))
