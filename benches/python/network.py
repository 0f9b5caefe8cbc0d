"""The networks of the cases, under the names of the Rust side's state dicts: the CIFAR ResNet of
basic blocks, LeNet-5 without padding, and the five-layer CNN."""

import torch.nn as nn
import torch.nn.functional as F


def call(layer, hidden):
    """Batch norm as a plain module call."""
    return layer(hidden)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, hidden, norm, inplace):
        body = F.relu(norm(self.bn1, self.conv1(hidden)), inplace=inplace)
        body = norm(self.bn2, self.conv2(body))
        if len(self.shortcut):
            hidden = norm(self.shortcut[1], self.shortcut[0](hidden))
        return F.relu(body.add_(hidden) if inplace else body + hidden, inplace=inplace)


class ResNet(nn.Module):
    def __init__(self, width, blocks, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs, self.stages = width, []
        for stage, count in enumerate(blocks):
            outputs, layer = width << stage, []
            for index in range(count):
                layer.append(Block(inputs, outputs, 2 if stage > 0 and index == 0 else 1))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            self.stages.append(layer)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, images, norm=call, inplace=False):
        """Logits. `norm(layer, hidden)` applies each batch norm; `inplace` saves the copies
        that autograd can do without."""
        hidden = F.relu(norm(self.bn1, self.conv1(images)), inplace=inplace)
        for layer in self.stages:
            for block in layer:
                hidden = block(hidden, norm, inplace)
        return self.linear(hidden.mean((2, 3)))


class Convolutional(nn.Module):
    """Convolutions of stride 1, each with a ReLU and perhaps 2×2 max pooling, and linear layers
    with ReLU between them. `stages` has (channels, kernel, whether it pools)."""

    def __init__(self, stages, hidden, channels, size, classes):
        super().__init__()
        self.convs, self.linears = [], []
        for index, (outputs, kernel, pools) in enumerate(stages, 1):
            conv = nn.Conv2d(channels, outputs, kernel)
            self.add_module(f"conv{index}", conv)
            self.convs.append((conv, pools))
            channels, size = outputs, (size - kernel + 1) // (2 if pools else 1)
        inputs = channels * size * size
        for index, outputs in enumerate([*hidden, classes], 1):
            self.add_module(f"fc{index}", nn.Linear(inputs, outputs))
            self.linears.append(getattr(self, f"fc{index}"))
            inputs = outputs

    def forward(self, images):
        hidden = images
        for conv, pools in self.convs:
            hidden = F.relu(conv(hidden))
            hidden = F.max_pool2d(hidden, 2) if pools else hidden
        hidden = hidden.flatten(1)
        for linear in self.linears[:-1]:
            hidden = F.relu(linear(hidden))
        return self.linears[-1](hidden)


def make(shape, image):
    """The network of an entry of `networks` in `cases.json`."""
    channels, size, classes = image["channels"], image["size"], image["classes"]
    if shape["kind"] == "lenet5_unpadded":
        stages, hidden = [(6, 5, True), (16, 5, True)], [120, 84]
        return Convolutional(stages, hidden, channels, size, classes)
    if shape["kind"] == "cnn5":
        stages = [(128, 3, True), (128, 3, True), (128, 3, False)]
        return Convolutional(stages, [], channels, size, classes)
    return ResNet(shape["width"], shape["blocks"], channels, classes)
