"""The written-out training step against the same network in plain PyTorch, with autograd and torch.optim.

The plain network computes in double precision. In float32 its own gradient has an error of three in a thousand, because
the order of additions then decides which of the equal pixels of an empty background is the largest in its window.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from training.cnn import Training, set_up_process
from training.data import load
from training.network import CLASSES, HIDDEN, Network
from training.settings import complete

SHAPES = [(1, 1), (3, 7), (10, 16), (16, 1), (32, 100), (33, 5), (99, 13)]  # filters, batch size


class Given(nn.Module):
    """Dropout with given factors."""

    factors: torch.Tensor | float = 1.0

    def forward(self, inputs):
        return inputs * self.factors


def plain(network, dropout):
    """The network of the exercise as anyone would write it, with the weights of ours."""
    filters = network.filters
    twin = nn.Sequential(
        nn.Conv2d(1, filters, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(filters, filters, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        Given() if dropout else nn.Identity(),
        nn.Linear(16 * filters, HIDDEN),
        nn.ReLU(),
        Given() if dropout else nn.Identity(),
        nn.Linear(HIDDEN, CLASSES),
    )
    with torch.no_grad():
        for parameter, value in zip(parameters(twin), like_plain(network, network.weights), strict=True):
            parameter.copy_(value)
    return twin


def parameters(twin):
    layers = [layer for layer in twin if hasattr(layer, "weight")]
    return [layer.weight for layer in layers] + [layer.bias for layer in layers]


def like_plain(network, vector):
    """Our vector as the plain network's weights and biases. Its third layer takes channel, row, column."""
    parts = network.split(vector)
    parts[2] = parts[2].view(HIDDEN, 4, 4, network.filters).permute(0, 3, 1, 2).reshape(HIDDEN, -1)
    return parts


def examples(count, seed=0):
    part, generator = load("small").training, torch.Generator().manual_seed(seed)
    index = torch.randint(len(part), (count,), generator=generator)
    return part.images[index], part.labels[index]


@pytest.mark.parametrize("unfolds", [False, True])  # as on a GPU; in float32 more windows have ties there
@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.2])
@pytest.mark.parametrize(("filters", "batch_size"), SHAPES)
def test_every_step_is_that_of_plain_pytorch(filters, batch_size, dropout, unfolds, monkeypatch):
    torch.manual_seed(filters)
    precision = torch.float64 if unfolds else torch.float32
    network = Network(filters, dropout, precision, "cpu")
    network.unfolds = unfolds
    twin = plain(network, dropout).double()
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    draw = network._draw_dropout

    def draw_for_both(count):
        first, second = factors = draw(count)
        if dropout:  # theirs come in the order channel, row, column
            twin[7].factors = first.view(count, 4, 4, filters).permute(0, 3, 1, 2).reshape(count, -1)
            twin[10].factors = second
        return factors

    monkeypatch.setattr(network, "_draw_dropout", draw_for_both)
    ties = 0  # steps in which rounding decides which of two nearly equal pixels is the largest of its window
    for step in range(5):
        images, labels = examples(batch_size, step)
        loss = network.step(images.to(precision), labels, 0.05, 0.9)
        expected = functional.cross_entropy(twin(images.double()), labels)
        optimiser.zero_grad()
        expected.backward()
        optimiser.step()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-3 if ties else 1e-5, abs=1e-6)
        ours = like_plain(network, network._gradients) + like_plain(network, network.weights)
        theirs = [part.grad for part in parameters(twin)] + [part.detach() for part in parameters(twin)]
        error = max(map(distance, ours, theirs))
        assert error < 0.05
        ties += error > 1e-3
    assert ties <= 1


def distance(ours, theirs):
    """The relative distance of two tensors, each taken as a whole."""
    return ((ours - theirs).norm() / (theirs.norm() + 1e-3)).item()


def test_plain_sgd_has_no_velocity():
    network = Network(4, 0.0, torch.float32, "cpu")
    before = network.weights.clone()
    network.step(*examples(20), learning_rate=0.1, momentum=0.0)
    torch.testing.assert_close(network.weights, before - 0.1 * network._gradients)


@pytest.mark.parametrize("unfolds", [False, True])
@pytest.mark.parametrize(("filters", "batch_size"), SHAPES)
def test_the_logits_are_those_of_plain_pytorch_without_dropout(filters, batch_size, unfolds):
    network = Network(filters, 0.5, torch.float32, "cpu")
    network.unfolds = unfolds
    images, _ = examples(batch_size)
    torch.testing.assert_close(network(images), plain(network, 0.0)(images).detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("filters", "batch_size"), SHAPES)
def test_bfloat16_points_the_same_way(filters, batch_size):
    networks = []
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        network = Network(filters, 0.5, precision, "cpu")
        images, labels = examples(batch_size)
        network.compute_gradients(images.to(precision), labels)
        networks.append(network)
    single, low = (network._gradients.float() for network in networks)
    assert functional.cosine_similarity(single, low, dim=0) > 0.97
    assert networks[1].weights.dtype == networks[1].velocities.dtype == torch.float32


def test_in_bfloat16_the_small_steps_are_not_lost():
    network = Network(4, 0.0, torch.bfloat16, "cpu")
    images, labels = examples(50)
    before = network.weights.clone()
    for _ in range(20):
        network.step(images.bfloat16(), labels, 1e-5, 0.0)  # far below the precision of one weight in bfloat16
    expected = before - 20 * 1e-5 * network._gradients.float()
    assert (network.weights - before).norm().item() == pytest.approx((expected - before).norm().item(), rel=0.05)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9, 0.99])
def test_dropout_drops_its_share_and_keeps_the_mean(dropout):
    network = Network(32, dropout, torch.float32, "cpu")
    torch.manual_seed(0)
    draws = [network._draw_dropout(500) for _ in range(20)]
    for factors in (torch.stack([draw[0] for draw in draws]), torch.stack([draw[1] for draw in draws])):
        error = 5 * math.sqrt(dropout * (1 - dropout) / factors.numel())
        assert (factors == 0).double().mean().item() == pytest.approx(dropout, abs=error + 2**-17)
        assert factors.double().mean().item() == pytest.approx(1, abs=error / (1 - dropout))
        assert len(factors.unique()) == 2
        kept = (factors != 0).double()
        # Neither neighbours (the four of one draw, too) nor steps know of one another.
        for distance in (1, 2, 3, 4):
            both = (kept[..., :-distance] * kept[..., distance:]).mean().item()
            assert both == pytest.approx((1 - dropout) ** 2, abs=4 * error)
        assert (kept[:-1] * kept[1:]).mean().item() == pytest.approx((1 - dropout) ** 2, abs=4 * error)


def test_without_dropout_no_random_number_is_drawn():
    network = Network(4, 0.0, torch.float32, "cpu")
    before = torch.get_rng_state()
    network.step(*examples(5), 0.1, 0.9)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("filters", [1, 10, 32, 99])
def test_there_are_as_many_weights_as_the_exercise_says(filters):
    network = Network(filters, 0.5, torch.float32, "cpu")
    assert len(network.weights) == 25 * filters**2 + 4123 * filters + 2826
    assert sum(part.numel() for part in network.split(network.weights)) == len(network.weights)
    assert filters != 32 or len(network.weights) == 160_362


def test_weights_start_glorot_uniform_and_biases_zero():
    network = Network(32, 0.5, torch.float32, "cpu")
    parts = network.split(network.weights)
    for weight in parts[:4]:
        window = math.prod(weight.shape[2:])
        limit = math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * window))
        assert weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
    assert not any(bias.any() for bias in parts[4:])


def test_what_is_not_finite_stays_so():
    for precision in (torch.float32, torch.bfloat16):
        network = Network(8, 0.5, precision, "cpu")
        images, labels = (examples(20)[0].to(precision), examples(20)[1])
        losses = [network.step(images, labels, 1e30, 0.9).item() for _ in range(4)]
        assert not math.isfinite(losses[-1])


def test_an_epoch_trains_on_every_example_once_in_a_random_order(monkeypatch):
    data = load("small")
    training = Training(complete({"data": "small", "batch_size": 300, "filters": 1}), data, "cpu")
    seen: list[torch.Tensor] = []
    step = training.network.step
    monkeypatch.setattr(
        training.network, "step", lambda images, *rest: seen.append(images.float()) or step(images, *rest)
    )
    orders = []
    for _ in range(2):
        while training.advance():
            pass
        training.end_epoch()
        batches = torch.cat(seen)
        seen.clear()
        assert batches.shape == (4800, 1, 28, 28)
        rows = {image.numpy().tobytes() for image in batches}
        whole = {image.numpy().tobytes() for image in data.training.images}
        assert rows <= whole and len(rows) > 4790  # a few digits are in the data set twice
        orders.append(batches)
    assert not torch.equal(*orders)


def test_setting_up_the_process_is_done_once():
    set_up_process()
    assert set_up_process.cache_info().currsize == 1
    assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic
