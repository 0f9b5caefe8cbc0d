"""One inversion step in PyTorch: as the public code writes it, with everything obvious fixed,
compiled, and its convolutions alone.

The loss is that of Adaptive DeepInversion's CIFAR-10 release (Yin et al. 2020, arXiv:1912.08795):
norms, not squared norms.
"""

import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from precision import Amp, bfloat16, synchronize

JITTER = 2
LR = 0.1


def total_variation(x):
    right = x[:, :, :, :-1] - x[:, :, :, 1:]
    down = x[:, :, :-1, :] - x[:, :, 1:, :]
    rising = x[:, :, 1:, :-1] - x[:, :, :-1, 1:]
    falling = x[:, :, :-1, :-1] - x[:, :, 1:, 1:]
    return torch.norm(right) + torch.norm(down) + torch.norm(rising) + torch.norm(falling)


def jensen_shannon(first, second, temperature=3.0):
    p, q = F.softmax(first / temperature, 1), F.softmax(second / temperature, 1)
    m = (0.5 * (p + q)).clamp(0.01, 0.99)
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    divergence = F.kl_div(p.log(), m, reduction="batchmean") + F.kl_div(
        q.log(), m, reduction="batchmean"
    )
    return (0.5 * divergence).clamp(0, 1)


def inversion_loss(images, labels, logits, distances, student, scales):
    loss = F.cross_entropy(logits, labels)
    if scales["l2_scale"] > 0:
        loss = loss + scales["l2_scale"] * torch.norm(images)
    loss = (
        loss + scales["var_scale"] * total_variation(images) + scales["bn_scale"] * sum(distances)
    )
    if student is not None:
        loss = loss + scales["comp_scale"] * (1 - jensen_shannon(logits, student))
    return loss


def jittered(images):
    offsets = random.randint(-JITTER, JITTER), random.randint(-JITTER, JITTER)
    return torch.roll(images, shifts=offsets, dims=(2, 3))


class FeatureHook:
    """Keeps a batch norm's distance between running statistics and those of its input, as the
    public code's forward hook does."""

    def __init__(self, layer):
        self.handle = layer.register_forward_hook(self.look)

    def look(self, layer, inputs, _output):
        hidden = inputs[0]
        mean = hidden.mean([0, 2, 3])
        var = (
            hidden.permute(1, 0, 2, 3).contiguous().view(hidden.shape[1], -1).var(1, unbiased=False)
        )
        self.distance = torch.norm(layer.running_var - var) + torch.norm(layer.running_mean - mean)


class Public:
    """Weights require gradients, so that backward computes theirs too; statistics by hooks in two
    passes; the best batch by comparing losses on the host; mixed precision by `amp`."""

    def __init__(self, teacher, student, images, labels, scales, amp=False):
        self.teacher, self.student = teacher.eval(), student and student.eval()
        self.labels, self.scales, self.amp = labels, scales, Amp(images.device, amp)
        self.hooks = [
            FeatureHook(layer) for layer in teacher.modules() if isinstance(layer, nn.BatchNorm2d)
        ]
        self.images = images.clone().requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.images], lr=LR)
        self.best_loss, self.best = 1e6, self.images.data

    def loss(self, images):
        with self.amp.autocast():
            logits = self.teacher(images)
            student = self.student(images) if self.student else None
            distances = [hook.distance for hook in self.hooks]
            return inversion_loss(images, self.labels, logits, distances, student, self.scales)

    def check(self):
        loss = self.loss(self.images)
        return loss.item(), self.amp.gradient(loss, self.images)

    def step(self):
        images = jittered(self.images)
        self.optimizer.zero_grad()
        loss = self.loss(images)
        if self.best_loss > loss.item():
            self.best_loss = loss.item()
            self.best = images.data
        self.amp.step(loss, self.optimizer)

    def close(self):
        for hook in self.hooks:
            hook.handle.remove()


def moments_by_means(layer, hidden):
    """Variance around the running mean: two means, without a variance kernel."""
    centred = hidden - layer.running_mean.view(1, -1, 1, 1)
    shift = centred.mean((0, 2, 3))
    return centred.square().mean((0, 2, 3)) - shift.square(), shift


def moments_by_var_mean(layer, hidden):
    var, mean = torch.var_mean(hidden, (0, 2, 3), correction=0)
    return var, mean - layer.running_mean


class Fixed:
    """Frozen weights, in-place element-wise operations, statistics by `moments`, nothing read back
    from the device; convolutions in bfloat16 where `bf16` is set, statistics and losses in
    float32."""

    def __init__(self, teacher, student, images, labels, scales, options):
        self.teacher, self.student = teacher.eval(), student and student.eval()
        self.labels, self.scales = labels, scales
        for network in filter(None, (teacher, student)):
            network.requires_grad_(False)
        self.moments = moments_by_var_mean if "var_mean" in options else moments_by_means
        compiled, self.bf16 = "compiled" in options, "bf16" in options
        self.inplace = not compiled
        self.images = images.clone().requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.images], lr=LR, fused=True)
        self.best_loss = torch.tensor(float("inf"), device=images.device)
        self.best = self.images.detach().clone()
        mode = "reduce-overhead" if "graphs" in options else None
        self.loss = self.plain_loss
        if compiled:
            self.loss = torch.compile(self.plain_loss, dynamic=False, mode=mode)

    def plain_loss(self, images):
        with bfloat16(images.device, self.bf16):
            return self.summed_loss(images)

    def summed_loss(self, images):
        distances = []

        def norm(layer, hidden):
            var, shift = self.moments(layer, hidden.float())
            distances.append(
                torch.linalg.vector_norm(layer.running_var - var) + torch.linalg.vector_norm(shift)
            )
            return F.batch_norm(
                hidden,
                layer.running_mean,
                layer.running_var,
                layer.weight,
                layer.bias,
                False,
                0.1,
                layer.eps,
            )

        logits = self.teacher(images, norm, self.inplace)
        student = self.student(images, inplace=self.inplace) if self.student else None
        return inversion_loss(images, self.labels, logits, distances, student, self.scales)

    def check(self):
        loss = self.loss(self.images)
        return loss.item(), torch.autograd.grad(loss, self.images)[0]

    def step(self):
        images = jittered(self.images)
        loss = self.loss(images)
        self.images.grad = torch.autograd.grad(loss, self.images)[0]
        with torch.no_grad():
            better = loss < self.best_loss
            self.best = torch.where(better, images, self.best)
            self.best_loss = torch.where(better, loss, self.best_loss)
        self.optimizer.step()


class Convolution:
    """Forward and gradients of one convolution or linear layer, without autograd."""

    def __init__(self, layer, hidden, gradient, wanted):
        self.layer, self.hidden, self.gradient, self.wanted, self.weight = (
            layer,
            hidden,
            gradient,
            wanted,
            layer.weight.detach(),
        )

    def linear(self):
        F.linear(self.hidden, self.weight, self.layer.bias)
        self.gradient @ self.weight
        if self.wanted[1]:
            self.gradient.t() @ self.hidden

    def step(self):
        if isinstance(self.layer, nn.Linear):
            return self.linear()
        window = self.layer.stride, self.layer.padding
        F.conv2d(self.hidden, self.weight, None, *window)
        torch.ops.aten.convolution_backward(
            self.gradient,
            self.hidden,
            self.weight,
            None,
            *window,
            (1, 1),
            False,
            (0, 0),
            1,
            self.wanted,
        )

    def seconds(self):
        def once():
            start = time.perf_counter()
            self.step()
            synchronize(self.hidden.device)
            return time.perf_counter() - start

        return min(once() for _ in range(3))

    def choose_layout(self):
        """The faster one for this layer: what no engine that calls these kernels can beat."""
        if isinstance(self.layer, nn.Linear):
            return
        planes = self.hidden, self.gradient, self.weight
        before = self.seconds()
        self.hidden, self.gradient, self.weight = (
            tensor.contiguous(memory_format=torch.channels_last) for tensor in planes
        )
        if self.seconds() > before:
            self.hidden, self.gradient, self.weight = planes


class Convolutions:
    """Forward and input gradient of every convolution and linear layer of the networks, one after
    another, each in the layout that suits it, and nothing else.

    With `weights` also their weight gradients, and no input gradient at the images: what training
    needs.
    """

    @torch.no_grad()
    def __init__(self, networks, images, weights=False):
        self.layers, self.weights = [], weights
        for network in networks:
            handles = [
                layer.register_forward_hook(self.record)
                for layer in network.eval().modules()
                if isinstance(layer, (nn.Conv2d, nn.Linear))
            ]
            self.stem = network.conv1
            network(images)
            for handle in handles:
                handle.remove()
        for layer in self.layers:
            layer.choose_layout()

    def record(self, layer, inputs, output):
        wanted = [not (self.weights and layer is self.stem), self.weights, False]
        self.layers.append(
            Convolution(layer, torch.randn_like(inputs[0]), torch.randn_like(output), wanted)
        )

    @torch.no_grad()
    def step(self):
        for layer in self.layers:
            layer.step()


def make(variant, teacher, student, images, labels, scales):
    """The variant's step, and the seconds its compilation took (0 where nothing is compiled).

    Options follow the name (`variants.py` beside `compare.py`'s driver has them all): `+var_mean`
    for statistics by that kernel, `+channels_last` for that layout, `+bf16` for autocast to it,
    `+amp` for the public code's mixed precision, `+graphs` for CUDA graphs of what is compiled.
    """
    name, *options = variant.split("+")
    networks = [network for network in (teacher, student) if network]
    if name == "public":
        return Public(teacher, student, images, labels, scales, amp="amp" in options), 0.0
    if name == "convolutions":
        return Convolutions(networks, images), 0.0
    if name not in ("fixed", "compiled"):
        raise SystemExit(f"no variant `{variant}`")
    if "channels_last" in options:
        images = images.contiguous(memory_format=torch.channels_last)
        for network in networks:
            network.to(memory_format=torch.channels_last)
    subject = Fixed(teacher, student, images, labels, scales, [name, *options])
    start = time.perf_counter()
    if name == "compiled":
        subject.check()
        synchronize(images.device)
    return subject, time.perf_counter() - start if name == "compiled" else 0.0
