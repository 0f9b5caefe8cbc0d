"""Supervised training steps in PyTorch: as the public code writes them, with everything obvious
fixed, compiled, and their convolutions alone."""

import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from inversion import Convolutions
from PIL import Image, ImageOps
from precision import Amp, bfloat16, synchronize
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def transformed(image, mean, std, crop, flip):
    """One PIL image: random crop after zero padding, random mirroring, to a tensor in 0..1,
    normalised."""
    width, height = image.size
    if crop:
        image = ImageOps.expand(image, border=crop, fill=0)
        left, top = random.randint(0, 2 * crop), random.randint(0, 2 * crop)
        image = image.crop((left, top, left + width, top + height))
    if flip and random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels.view(height, width, -1).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return pixels.sub_(torch.tensor(mean).view(-1, 1, 1)).div_(torch.tensor(std).view(-1, 1, 1))


class Pictures(Dataset):
    """Images u8 [M,H,W] or [M,H,W,3], each made a PIL image and transformed when it is asked
    for."""

    def __init__(self, pixels, labels, mean=MEAN, std=STD, crop=0, flip=False):
        self.pixels, self.labels, self.with_ = pixels, labels, (mean, std, crop, flip)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return transformed(Image.fromarray(self.pixels[index]), *self.with_), int(
            self.labels[index]
        )


def second_forward_accuracy(network, images, labels):
    network.eval()
    with torch.no_grad():
        accuracy = float((network(images).argmax(1) == labels).sum() / len(labels))
    network.train()
    return accuracy


def sgd(network, lr=0.1, **more):
    return torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=5e-4, **more)


def public_epoch(network, optimizer, loader, loss_of=F.cross_entropy, schedule=None, amp=None):
    """An epoch of the public code's loop; the sums it reports."""
    network.train()
    device = next(network.parameters()).device
    amp = amp or Amp(device, False)
    total_loss = total_accuracy = 0.0
    for images, labels in loader:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        with amp.autocast():
            logits = network(images)
            loss = loss_of(logits, labels if loss_of is F.cross_entropy else images)
        amp.step(loss, optimizer)
        total_loss += loss.item() * len(labels)
        total_accuracy += second_forward_accuracy(network, images, labels) * len(labels)
        if schedule:
            schedule.step()
    return total_loss, total_accuracy


class Training:
    """What the ways of training share: a gradient to compare with the Rust side's."""

    def __init__(self, network, pixels, labels, batch):
        self.network, self.pixels, self.labels = network.train(), pixels, labels
        self.batch, self.device = batch, pixels.device
        self.mean, self.std = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in (MEAN, STD)
        )

    def loss(self, images, labels):
        """Logits and their mean cross-entropy."""
        raise NotImplementedError

    def check(self):
        images = (self.pixels / 255 - self.mean) / self.std
        _, loss = self.loss(self.laid_out(images), self.labels)
        return loss.item(), self.amp.gradient(loss, self.network.conv1.weight)

    def laid_out(self, images):
        return images


class Public(Training):
    """Images transformed one by one, by worker processes where `loaders` is set; a second forward
    pass for the accuracy; mixed precision where `amp` is set."""

    def __init__(self, network, pixels, labels, batch, lr, options):
        super().__init__(network, pixels, labels, batch)
        self.optimizer, self.amp = sgd(network, lr), Amp(self.device, "amp" in options)
        self.host = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        workers = min(8, os.cpu_count() or 1) if "loaders" in options else 0
        self.loading = {
            "num_workers": workers,
            "pin_memory": self.device.type == "cuda",
            "persistent_workers": workers > 0,
        }
        self.loaders = {}

    def loader(self, count):
        """One for each number of steps: its worker processes stay from block to block."""
        if count not in self.loaders:
            indices = np.arange(count * self.batch) % len(self.labels)
            labels = self.labels.cpu().numpy()[indices]
            pictures = Pictures(self.host[indices], labels, crop=4, flip=True)
            self.loaders[count] = DataLoader(pictures, self.batch, shuffle=True, **self.loading)
        return self.loaders[count]

    def loss(self, images, labels):
        with self.amp.autocast():
            logits = self.network(images)
            return logits, F.cross_entropy(logits, labels)

    def steps(self, count):
        loader = self.loader(count)
        return lambda: public_epoch(self.network, self.optimizer, loader, amp=self.amp)


class Fixed(Training):
    """Whole batches augmented as tensors, accuracy from the training pass, sums on the device, a
    fused optimiser; convolutions in bfloat16 where `bf16` is set."""

    def __init__(self, network, pixels, labels, batch, lr, options):
        super().__init__(network, pixels, labels, batch)
        self.bf16, self.last = "bf16" in options, "channels_last" in options
        self.amp = Amp(self.device, False)  # bfloat16 needs no scaled loss
        if self.last:
            network.to(memory_format=torch.channels_last)
        self.optimizer = sgd(network, lr, fused=True)
        self.forward = network
        if "compiled" in options:
            self.forward = torch.compile(
                network, dynamic=False, mode="reduce-overhead" if "graphs" in options else None
            )

    def augmented(self, pixels):
        count, _, height, width = pixels.shape
        padded = F.pad(pixels, (4, 4, 4, 4))
        device = pixels.device
        rows = torch.randint(0, 9, (count, 1), device=device) + torch.arange(height, device=device)
        columns = torch.randint(0, 9, (count, 1), device=device)
        columns = columns + torch.arange(width, device=device)
        columns = torch.where(torch.rand(count, 1, device=device) < 0.5, columns.flip(1), columns)
        flat = (
            (rows[:, :, None] * (width + 8) + columns[:, None, :])
            .view(count, 1, -1)
            .expand(-1, pixels.shape[1], -1)
        )
        return padded.flatten(2).gather(2, flat).view_as(pixels)

    def laid_out(self, images):
        return images.contiguous(memory_format=torch.channels_last) if self.last else images

    def loss(self, images, labels):
        with bfloat16(self.device, self.bf16):
            logits = self.forward(images)
            return logits, F.cross_entropy(logits, labels)

    def steps(self, count):
        order = torch.randperm(count * self.batch, device=self.device) % len(self.labels)
        return lambda: self.epoch(order)

    def epoch(self, order):
        total_loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        for chosen in order.split(self.batch):
            images = (self.augmented(self.pixels[chosen]) / 255).sub_(self.mean).div_(self.std)
            labels = self.labels[chosen]
            self.optimizer.zero_grad()
            logits, loss = self.loss(self.laid_out(images), labels)
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                total_loss += loss * len(labels)
                correct += (logits.argmax(1) == labels).sum()
        return total_loss.item(), correct.item()


def make(variant, network, pixels, labels, batch, lr):
    """The variant's way of training, and the seconds its compilation took."""
    name, *options = variant.split("+")
    if name == "public":
        return Public(network, pixels, labels, batch, lr, options), 0.0
    if name == "convolutions":
        return Convolutions([network], pixels[:batch].float(), weights=True), 0.0
    if name not in ("fixed", "compiled"):
        raise SystemExit(f"no variant `{variant}`")
    made = Fixed(network, pixels, labels, batch, lr, [name, *options])
    start = time.perf_counter()
    if name == "compiled":
        made.check()
        synchronize(pixels.device)
    return made, time.perf_counter() - start if name == "compiled" else 0.0
