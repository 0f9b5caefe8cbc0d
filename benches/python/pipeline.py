"""The pipeline of `make demo` in PyTorch, as the public code writes its loops: `pipeline.py THREADS
SETTINGS`.

The same digits, nodes, network, numbers of steps and losses. Prints a line of JSON: the student's
test accuracy and the seconds of each
part. One process does everything, so that PyTorch is imported once and not once a stage.
"""

import csv
import gzip
import json
import pathlib
import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from inversion import Public
from network import ResNet
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from training import Pictures, public_epoch, sgd

NODES, CLASSES, SIZE, CROP = 3, 10, 16, 2
BATCH, TEST_BATCH, INVERSION_BATCH, BATCHES = 64, 500, 128, 4
TEMPERATURE = 3.0
SCALES = {"l2_scale": 0.0, "var_scale": 1.414e-3, "bn_scale": 10.0}


def digits():
    """Training and test images u8 [M,16,16] with labels: every fifth image of a class is a test
    image."""
    path = pathlib.Path(__file__).resolve().parents[2] / "assets" / "digits.csv.gz"
    seen, splits = [0] * CLASSES, ([], [])
    with gzip.open(path, "rt") as text:
        for row in csv.reader(text):
            values, label = np.array(row[:-1], dtype=np.uint32), int(row[-1])
            seen[label] += 1
            small = Image.fromarray(((values * 255 + 8) // 16).astype(np.uint8).reshape(8, 8))
            splits[seen[label] % 5 == 0].append(
                (np.array(small.resize((SIZE, SIZE), Image.Resampling.BILINEAR)), label)
            )
    return [
        (np.stack([image for image, _ in split]), np.array([label for _, label in split]))
        for split in splits
    ]


def one_cycle(optimizer, steps):
    """Linear up over a fifth of all steps, linear down to zero after, by the middle of each."""

    def share(step):
        done = (step + 0.5) / steps
        return min(done / 0.2, (1 - done) / 0.8)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def network():
    return ResNet(16, [1, 1, 1], 1, CLASSES)


def accuracy(model, loader):
    model.eval()
    with torch.no_grad():
        correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loader)
    return correct / len(loader.dataset)


def train(model, loader, test, epochs, loss=F.cross_entropy):
    """Trains and evaluates epoch by epoch; the last accuracy."""
    optimizer = sgd(model)
    schedule = one_cycle(optimizer, epochs * len(loader))
    last = 0.0
    for _ in range(epochs):
        public_epoch(model, optimizer, loader, loss, schedule)
        last = accuracy(model, test)
    return last


def train_teachers(train_set, test, epochs, constants):
    pixels, labels = train_set
    teachers, counts = [], []
    for part in np.array_split(np.random.permutation(len(labels)), NODES):
        pictures = Pictures(pixels[part], labels[part], *constants, crop=CROP)
        model = network()
        train(model, DataLoader(pictures, BATCH, shuffle=True), test, epochs)
        teachers.append(model)
        counts.append(torch.bincount(torch.from_numpy(labels[part]), minlength=CLASSES).float())
    shares = torch.stack(counts)
    return teachers, shares / shares.sum(0)


def invert(teachers, steps):
    """Synthetic batches, the teachers in turn, every class equally often."""
    images, labels = [], []
    for index in range(BATCHES):
        wanted = (torch.arange(INVERSION_BATCH) % CLASSES)[torch.randperm(INVERSION_BATCH)]
        start = torch.randn(INVERSION_BATCH, 1, SIZE, SIZE)
        batch = Public(teachers[index % NODES], None, start, wanted, SCALES)
        for _ in range(steps):
            batch.step()
        batch.close()
        images.append(batch.best.detach().clone())
        labels.append(wanted)
    return torch.cat(images), torch.cat(labels)


class Synthetic(Dataset):
    """Synthetic images, each cropped at random out of itself padded with black when it is asked
    for."""

    def __init__(self, images, labels, black):
        self.images, self.labels, self.black = images, labels, black

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        padded = F.pad(self.images[index], [CROP] * 4, value=self.black)
        top, left = random.randint(0, 2 * CROP), random.randint(0, 2 * CROP)
        return padded[:, top : top + SIZE, left : left + SIZE], int(self.labels[index])


def distillation(teachers, shares):
    """Divergence from the teachers' label-share ensemble at a temperature."""

    def loss(logits, images):
        with torch.no_grad():
            weighted = sum(
                F.softmax(teacher(images) / TEMPERATURE, 1) * share
                for teacher, share in zip(teachers, shares)
            )
            target = weighted / weighted.sum(1, keepdim=True)
        return (
            F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), target, reduction="batchmean")
            * TEMPERATURE**2
        )

    return loss


def main():
    threads, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(42)
    np.random.seed(42)
    random.seed(42)
    train_set, (test_pixels, test_labels) = digits()
    mean, std = float(train_set[0].mean() / 255), float(train_set[0].std() / 255)
    constants = (mean,), (std,)
    test = DataLoader(Pictures(test_pixels, test_labels, *constants), TEST_BATCH)
    marks = [time.perf_counter()]
    teachers, shares = train_teachers(train_set, test, settings["teacher_epochs"], constants)
    marks.append(time.perf_counter())
    images, labels = invert(teachers, settings["inversion_steps"])
    marks.append(time.perf_counter())
    synthetic = DataLoader(
        Synthetic(images, labels, -mean / std), BATCH, shuffle=True, drop_last=True
    )
    reached = train(
        network(), synthetic, test, settings["student_epochs"], distillation(teachers, shares)
    )
    marks.append(time.perf_counter())
    parts = dict(
        zip(("teachers", "inversion", "student"), (b - a for a, b in zip(marks, marks[1:])))
    )
    print(json.dumps({"accuracy": reached, "parts": parts}))


if __name__ == "__main__":
    main()
