"""The network of the exercise, its gradient and its update, written out: a training step without autograd.

Networks this small spend most of their time between the operations. So each step is a short list of PyTorch's kernels:

- All weights are one vector, and so are their gradients and velocities: the update is two operations.
- Activations are channels-last, the layout in which the convolutions are fastest.
- On a GPU the first convolution, of a single channel, is a product of the images' patches and its weights, and so is
  its gradient: convolutions of one channel are slow there. On a CPU, cutting out the patches costs more than it saves.
- Pooling comes before ReLU: the same function, a quarter of the work.
- Dropout takes 16 random bits per unit, four units from one 64-bit draw.
- In bfloat16 the operations use a rounded copy of the weights; weights, velocities and losses stay float32
  (Micikevicius et al., Mixed Precision Training, ICLR 2018; Kalamkar et al., A Study of BFLOAT16, 2019).

No operation depends on values, allocates on the host or waits for the device, so CUDA graphs can record the steps.
`tests/test_network.py` compares it with the same network in plain PyTorch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
HIDDEN = 256
KERNEL = [5, 5]
LAYERS = 4
UNPADDED = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # a convolution's stride, padding, dilation, …
POOLED = ([2, 2], [2, 2], [0, 0], [1, 1], False)  # a pooling's window, stride, padding, dilation, rounding

aten = torch.ops.aten


class Network:
    """Maps images (n, 1, 28, 28) to logits (n, 10): two 5×5 convolutions, each with 2×2 max pooling and ReLU, then
    two fully connected layers, each behind dropout.

    Weights start Glorot uniform, biases zero (Glorot and Bengio, AISTATS 2010), drawn from PyTorch's default generator.
    There are 25·F² + 4123·F + 2826 of them for F filters.

    Args:
        filters: F, the number of filters of each convolution.
        dropout: share of inputs dropped before each fully connected layer.
        precision: torch.float32 or torch.bfloat16, for activations and gradients.

    Attributes:
        weights, velocities: float32 vectors. A training changes nothing else.
        rounded: the weights as the operations use them: a copy in `precision`, or the same vector.
        unfolds: is the first convolution a product of patches?
    """

    def __init__(self, filters: int, dropout: float, precision: torch.dtype, device: str) -> None:
        self.filters, self.precision, self.device = filters, precision, device
        self.unfolds = device != "cpu"
        # The threshold for 16 random bits, and the factor that keeps the expectation. Both fit the share really kept.
        self._first_kept = round(dropout * 2**16) - 2**15
        self._scale = 2**16 / (2**15 - self._first_kept)
        self._sizes = [25 * filters, 25 * filters**2, HIDDEN * 16 * filters, CLASSES * HIDDEN]
        self._sizes += [filters, filters, HIDDEN, CLASSES]
        count = sum(self._sizes)
        self.weights = torch.zeros(count, device=device)
        self.velocities = torch.zeros(count, device=device)
        self.rounded = (
            self.weights if precision == torch.float32 else torch.zeros(count, dtype=precision, device=device)
        )
        self._gradients = torch.zeros(count, dtype=precision, device=device)
        self._views = self.split(self.rounded)
        self._gradient_views = self.split(self._gradients)
        self._classes = torch.arange(CLASSES, device=device)
        for weight in self.split(self.weights)[:LAYERS]:
            # On the CPU, so that a seed gives the same start on every device.
            weight.copy_(nn.init.xavier_uniform_(torch.empty(weight.shape)))
        self.round()

    def split(self, vector: Tensor) -> list[Tensor]:
        """Split a vector of all weights into the layers' weights, then their biases.

        The weights of convolutions are channels-last. The third layer's inputs have the order row, column, channel.
        """
        parts, filters = list(vector.split(self._sizes)), self.filters
        # With one channel both layouts have the same bytes; these strides say channels-last.
        parts[0] = parts[0].as_strided((filters, 1, *KERNEL), (25, 1, 5, 1))
        parts[1] = parts[1].view(filters, *KERNEL, filters).permute(0, 3, 1, 2)
        parts[2] = parts[2].view(HIDDEN, 16 * filters)
        parts[3] = parts[3].view(CLASSES, HIDDEN)
        return parts

    def round(self) -> None:
        """Update the rounded copy that the operations use. Call it after `weights` have changed."""
        if self.rounded is not self.weights:
            self.rounded.copy_(self.weights)

    def __call__(self, images: Tensor) -> Tensor:
        """The logits in float32, without dropout. Images must have the network's precision."""
        _, w2, w3, w4, _, b2, b3, b4 = self._views
        hidden = functional.max_pool2d(self._convolve(images)[0], 2).relu_()
        hidden = functional.max_pool2d(functional.conv2d(hidden, w2, b2), 2).relu_()
        hidden = torch.addmm(b3, self._flatten(hidden), w3.t()).relu_()
        return torch.addmm(b4, hidden, w4.t()).float()

    def step(self, images: Tensor, labels: Tensor, learning_rate: float, momentum: float) -> Tensor:
        """Make one step of SGD with classical momentum and dropout. Returns the mean cross-entropy before the step."""
        loss = self.compute_gradients(images, labels)
        if momentum:
            self.velocities.mul_(momentum).add_(self._gradients)
            self.weights.add_(self.velocities, alpha=-learning_rate)
        else:
            self.weights.add_(self._gradients, alpha=-learning_rate)
        self.round()
        return loss

    def compute_gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Run forward and backward. Returns the mean cross-entropy, a scalar."""
        w1, w2, w3, w4, _, b2, b3, b4 = self._views
        examples, filters = len(images), self.filters

        conv1, patches = self._convolve(images)
        pool1, index1 = aten.max_pool2d_with_indices(conv1, *POOLED)
        relu1 = pool1.relu_()
        conv2 = aten.convolution(relu1, w2, b2, *UNPADDED)
        pool2, index2 = aten.max_pool2d_with_indices(conv2, *POOLED)
        relu2 = self._flatten(pool2.relu_())
        keep2, keep3 = self._draw_dropout(examples)
        drop2 = relu2 if keep2 is None else relu2 * keep2
        relu3 = torch.addmm(b3, drop2, w3.t()).relu_()
        drop3 = relu3 if keep3 is None else relu3 * keep3
        log_p = torch.addmm(b4, drop3, w4.t()).float().log_softmax(1)
        loss = functional.nll_loss(log_p, labels)

        # From here on `gradient` is the gradient of the loss with respect to ever earlier values of the forward pass.
        g1, g2, g3, g4, h1, h2, h3, h4 = self._gradient_views
        gradient = log_p.exp().sub_((labels[:, None] == self._classes).float()).div_(examples).to(self.precision)
        for drop, keep, relu, w, g, h in (drop3, keep3, relu3, w4, g4, h4), (drop2, keep2, relu2, w3, g3, h3):
            torch.mm(gradient.t(), drop, out=g)
            torch.sum(gradient, 0, out=h)
            gradient = gradient.mm(w)
            if keep is not None:
                gradient.mul_(keep)
            gradient = aten.threshold_backward(gradient, relu, 0)
        torch.sum(gradient.view(-1, filters), 0, out=h2)
        gradient = gradient.view(examples, 4, 4, filters).permute(0, 3, 1, 2)
        gradient = aten.max_pool2d_with_indices_backward(gradient, conv2, *POOLED, index2)
        gradient, weight2, _ = aten.convolution_backward(gradient, relu1, w2, [filters], *UNPADDED, [True, True, False])
        g2.copy_(weight2)
        gradient = aten.threshold_backward(gradient, relu1, 0)
        torch.sum(gradient.permute(0, 2, 3, 1).reshape(-1, filters), 0, out=h1)
        gradient = aten.max_pool2d_with_indices_backward(gradient, conv1, *POOLED, index1)
        if patches is not None:
            torch.mm(gradient.permute(0, 2, 3, 1).reshape(-1, filters).t(), patches, out=g1.view(filters, -1))
        else:
            _, weight1, _ = aten.convolution_backward(gradient, images, w1, [filters], *UNPADDED, [False, True, False])
            g1.copy_(weight1)
        return loss

    def _convolve(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The first convolution (n, F, 24, 24), channels-last; and the patches (n·24·24, 25), if it is made of them."""
        weight, bias, filters = self._views[0], self._views[LAYERS], self.filters
        if not self.unfolds:
            return aten.convolution(images, weight, bias, *UNPADDED), None
        rows, columns = KERNEL
        patches = images.unfold(2, rows, 1).unfold(3, columns, 1).reshape(-1, rows * columns)
        outputs = torch.addmm(bias, patches, weight.view(filters, -1).t())
        return outputs.view(len(images), 24, 24, filters).permute(0, 3, 1, 2), patches

    def _flatten(self, hidden: Tensor) -> Tensor:
        """Reshape (n, F, 4, 4), channels-last, to (n, 16·F) without moving a byte."""
        return hidden.permute(0, 2, 3, 1).reshape(len(hidden), 16 * self.filters)

    def _draw_dropout(self, examples: int) -> tuple[Tensor | None, Tensor | None]:
        """Factors for the inputs of the two fully connected layers: 0 for dropped ones, 1 / share kept for others."""
        if self._scale == 1:
            return None, None
        sizes = [examples * 16 * self.filters, examples * HIDDEN]
        draws = torch.empty(-(-sum(sizes) // 4), dtype=torch.int64, device=self.device).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: sum(sizes)]
        keep = (bits >= self._first_kept).to(self.precision).mul_(self._scale)
        first, second = keep.split(sizes)
        return first.view(examples, -1), second.view(examples, -1)
