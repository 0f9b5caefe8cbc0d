"""Supervised training steps in PyTorch: as the public code writes them, with everything obvious fixed, and their convolutions alone."""
import random

import numpy as np
import torch
import torch.nn.functional as F
from inversion import Convolutions
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def transformed(image, mean, std, crop, flip):
    """One PIL image: random crop after zero padding, random mirroring, to a tensor in 0..1, normalised."""
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
    """Images u8 [M,H,W] or [M,H,W,3], each made a PIL image and transformed when it is asked for."""

    def __init__(self, pixels, labels, mean=MEAN, std=STD, crop=0, flip=False):
        self.pixels, self.labels, self.with_ = pixels, labels, (mean, std, crop, flip)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return transformed(Image.fromarray(self.pixels[index]), *self.with_), int(self.labels[index])


def second_forward_accuracy(network, images, labels):
    network.eval()
    with torch.no_grad():
        accuracy = float((network(images).argmax(1) == labels).sum() / len(labels))
    network.train()
    return accuracy


def sgd(network, **more):
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, **more)


def public_epoch(network, optimizer, loader, loss_of=F.cross_entropy, schedule=None):
    """An epoch of the public code's loop; the sums it reports."""
    network.train()
    total_loss = total_accuracy = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        logits = network(images)
        loss = loss_of(logits, labels) if loss_of is F.cross_entropy else loss_of(logits, images)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(labels)
        total_accuracy += second_forward_accuracy(network, images, labels) * len(labels)
        if schedule:
            schedule.step()
    return total_loss, total_accuracy


class Training:
    """What both ways of training share: a gradient to compare with the Rust side's."""

    def __init__(self, network, pixels, labels, batch):
        self.network, self.pixels, self.labels, self.batch = network.train(), pixels, labels, batch

    def check(self):
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
        loss = F.cross_entropy(self.network((self.pixels / 255 - mean) / std), self.labels)
        return loss.item(), torch.autograd.grad(loss, self.network.conv1.weight)[0]


class Public(Training):
    def __init__(self, network, pixels, labels, batch):
        super().__init__(network, pixels, labels, batch)
        self.optimizer = sgd(network)
        self.host = pixels.permute(0, 2, 3, 1).contiguous().numpy()

    def steps(self, count):
        indices = np.arange(count * self.batch) % len(self.labels)
        pictures = Pictures(self.host[indices], self.labels.numpy()[indices], crop=4, flip=True)
        return lambda: public_epoch(self.network, self.optimizer, DataLoader(pictures, self.batch, shuffle=True))


class Fixed(Training):
    """Whole batches augmented as tensors, accuracy from the training pass, sums on the device, a fused optimiser."""

    def __init__(self, network, pixels, labels, batch):
        super().__init__(network, pixels, labels, batch)
        self.optimizer = sgd(network, fused=True)
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))

    def augmented(self, pixels):
        count, _, height, width = pixels.shape
        padded = F.pad(pixels, (4, 4, 4, 4))
        rows = torch.randint(0, 9, (count, 1)) + torch.arange(height)
        columns = torch.randint(0, 9, (count, 1)) + torch.arange(width)
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
        flat = (rows[:, :, None] * (width + 8) + columns[:, None, :]).view(count, 1, -1).expand(-1, pixels.shape[1], -1)
        return padded.flatten(2).gather(2, flat).view_as(pixels)

    def steps(self, count):
        order = torch.randperm(count * self.batch) % len(self.labels)
        return lambda: self.epoch(order)

    def epoch(self, order):
        total_loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for chosen in order.split(self.batch):
            images = (self.augmented(self.pixels[chosen]) / 255).sub_(self.mean).div_(self.std)
            labels = self.labels[chosen]
            self.optimizer.zero_grad()
            logits = self.network(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                total_loss += loss * len(labels)
                correct += (logits.argmax(1) == labels).sum()
        return total_loss.item(), correct.item()


def make(variant, network, pixels, labels, batch):
    if variant == "public":
        return Public(network, pixels, labels, batch)
    if variant == "fixed":
        return Fixed(network, pixels, labels, batch)
    if variant == "convolutions":
        return Convolutions([network], pixels[:batch].float(), weights=True)
    raise SystemExit(f"no variant `{variant}`")
