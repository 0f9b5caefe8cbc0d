"""Makes the files of this folder with PyTorch and safetensors: what the tests compare the Rust code
with.

    python make.py                (PyTorch 2.11, in this folder)
    python make.py checkpoints    (only the files `checkpoint_*.pt` and the three below them)

`NAME.pt` were written by torch.save; `NAME.safetensors` beside one holds the tensors that must be
read from it. `networks.json` holds,
for networks stated here in plain PyTorch, names and shapes of the state dict and logits in float64,
of weights and images given by
`wave`, so that no weights need to be stored. `state_dicts.json` has name, shape and type of every
entry of two networks' state dicts.
"""

import argparse, collections, json, math, os, sys
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)


# -------------------- networks


class Block(nn.Module):
    def __init__(self, inputs, layers):
        super().__init__()
        self.depth, channels, total = len(layers), inputs, 1
        for i, (outputs, kernel, stride) in enumerate(layers, 1):
            setattr(
                self,
                f"conv{i}",
                nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, bias=False),
            )
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))
            channels, total = outputs, total * stride
        self.shortcut = nn.Sequential()
        if total != 1 or channels != inputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, total, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x):
        h = x
        for i in range(1, self.depth + 1):
            h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
            h = F.relu(h) if i < self.depth else h
        return F.relu(h + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, bottleneck, width, blocks, channels, classes):
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(channels, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        inputs, self.stages = width, len(blocks)
        for i, count in enumerate(blocks):
            inner, stage = width * 2**i, []
            for j in range(count):
                s = 2 if i > 0 and j == 0 else 1
                layers = (
                    [(inner, 1, 1), (inner, 3, s), (inner * 4, 1, 1)]
                    if bottleneck
                    else [(inner, 3, s), (inner, 3, 1)]
                )
                stage.append(Block(inputs, layers))
                inputs = layers[-1][0]
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.linear(x.mean((2, 3)))


class LeNet5(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.Conv2d(6, 16, 5, padding=2 if size < 12 else 0),
        )
        left = (size // 2 - (0 if size < 12 else 4)) // 2
        self.fc1, self.fc2, self.fc3 = (
            nn.Linear(16 * left * left, 120),
            nn.Linear(120, 84),
            nn.Linear(84, classes),
        )

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Cnn5(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        p = 1 if size < 18 else 0
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(i, 128, 3, padding=p) for i in (channels, 128, 128)
        )
        features = self.features(torch.zeros(1, channels, size, size))
        self.fc1 = nn.Linear(features.shape[1], classes)

    def features(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.conv3(x)).flatten(1)

    def forward(self, x):
        return self.fc1(self.features(x))


class Cnn64(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        p, left = (1, size // 4) if size < 18 else (0, ((size - 2) // 2 - 2) // 2 - 2)
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=p)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=p)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=p)
        self.fc1, self.fc2 = nn.Linear(64 * left * left, 64), nn.Linear(64, classes)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        x = F.relu(self.conv3(x)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class WideBlock(nn.Module):
    """Pre-activation; the shortcut of a block that widens takes the activated input."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        a = F.relu(self.bn1(x))
        h = self.conv2(F.relu(self.bn2(self.conv1(a))))
        return h + (self.convShortcut(a) if hasattr(self, "convShortcut") else x)


class WideStage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, channels, size, classes):
        super().__init__()
        widths, each = [16, 16, 32, 64], (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        for i in (1, 2, 3):
            first = WideBlock(widths[i - 1], widths[i], 1 if i == 1 else 2)
            rest = [WideBlock(widths[i], widths[i], 1) for _ in range(each - 1)]
            setattr(self, f"block{i}", WideStage([first, *rest]))
        self.bn1, self.fc = nn.BatchNorm2d(64), nn.Linear(64, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class FedAvgCnn(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(channels, 32, 5, padding="same"),
            nn.Conv2d(32, 64, 5, padding="same"),
        )
        self.fc1, self.fc2 = nn.Linear(64 * (size // 4) ** 2, 512), nn.Linear(512, classes)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class MnistCnn(nn.Module):
    """Net of https://github.com/pytorch/examples/blob/main/mnist/main.py, for any size, and without
    its log_softmax."""

    def __init__(self, channels, size, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 32, 3), nn.Conv2d(32, 64, 3)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1 = nn.Linear(64 * ((size - 4) // 2) ** 2, 128)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        return self.fc2(self.dropout2(x))


class Linear(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.fc1 = nn.Linear(channels * size * size, classes)

    def forward(self, x):
        return self.fc1(x.flatten(1))


def wave(index, shape):
    """Values sin(index + 0.7·i) rounded to float32."""
    n = math.prod(shape)
    return (
        torch.tensor([math.sin(index + 0.7 * i) for i in range(n)], dtype=torch.float32)
        .double()
        .reshape(shape)
    )


def fill(name, index, t):
    """Element-wise rules that keep activations near 1; the test states the same ones."""
    if name.endswith("num_batches_tracked"):
        return t.clone()
    if name.endswith("running_var") or (t.dim() == 1 and name.endswith("weight")):
        return 1 + 0.5 * wave(index, t.shape)
    if t.dim() == 1:
        return 0.1 * wave(index, t.shape)
    return wave(index, t.shape) / math.sqrt(math.prod(t.shape[1:]) / 4)


def network_case(kind, channels, size, classes, width=None, blocks=None):
    if kind.startswith("resnet"):
        published = [2, 2, 2, 2] if kind == "resnet18" else [3, 4, 6, 3]
        net = ResNet(kind == "resnet50", width or 64, blocks or published, channels, classes)
    else:
        kinds = {
            "lenet5": LeNet5,
            "cnn5": Cnn5,
            "cnn64": Cnn64,
            "wrn16_1": lambda *shape: WideResNet(16, *shape),
            "wrn40_1": lambda *shape: WideResNet(40, *shape),
            "fedavg_cnn": FedAvgCnn,
            "mnist_cnn": MnistCnn,
            "linear": Linear,
        }
        net = kinds[kind](channels, size, classes)
    net = net.double().eval()
    state = net.state_dict()
    case = dict(
        kind=kind,
        channels=channels,
        size=size,
        classes=classes,
        width=width,
        blocks=blocks,
        names=list(state),
        shapes=[list(t.shape) for t in state.values()],
        parameters=sum(p.numel() for p in net.parameters()),
    )
    net.load_state_dict({n: fill(n, i, t) for i, (n, t) in enumerate(state.items())})
    images = wave(1000, (3, channels, size, size))
    with torch.no_grad():
        case["eval_logits"] = net(images).tolist()
        # Dropout's masks are not ours: as if nothing were dropped.
        net.train(kind != "mnist_cnn")
        case["train_logits"] = net(images).tolist()
        after = net.state_dict()
        case["running_after"] = {
            n: after[n].double().tolist()
            for n in after
            if n.split(".")[-1].startswith(("running", "num"))
        }
    return case


def networks():
    cases = [
        network_case("resnet18", 1, 9, 10, 4),
        network_case("resnet34", 3, 16, 5, 2),
        network_case("resnet50", 3, 11, 4, 4, [1, 2]),
        network_case("resnet50", 1, 16, 2, 1, [1] * 5),
        network_case("resnet18", 3, 33, 7, 3, [3]),
    ]
    cases += [
        network_case("lenet5", c, s, 10) for c, s in ((1, 8), (3, 11), (1, 12), (1, 28), (3, 33))
    ]
    cases += [network_case("cnn5", c, s, 10) for c, s in ((1, 8), (3, 17), (3, 18), (3, 32))]
    cases += [network_case("fedavg_cnn", c, s, 10) for c, s in ((1, 9), (1, 28), (3, 15))]
    cases += [network_case("linear", c, s, 10) for c, s in ((1, 28), (3, 9))]
    cases += [network_case("mnist_cnn", c, s, 10) for c, s in ((1, 28), (3, 9))]
    cases += [network_case("cnn64", c, s, 10) for c, s in ((1, 8), (3, 17), (3, 18), (3, 32))]
    cases += [network_case("wrn16_1", c, s, 10) for c, s in ((1, 9), (3, 16))]
    cases += [network_case("wrn40_1", 3, 8, 10)]
    with open("networks.json", "w") as file:
        json.dump(cases, file, separators=(",", ":"))


def state_dicts():
    """What `load_state_dict(strict=True)` asks for: ResNet-18 for CIFAR-10, and a narrow ResNet
    of bottleneck blocks."""
    networks = {
        "resnet18": ResNet(False, 64, [2, 2, 2, 2], 3, 10),
        "resnet50_narrow": ResNet(True, 4, [1, 2], 3, 10),
    }
    listed = {
        kind: [
            [name, list(tensor.shape), str(tensor.dtype).split(".")[1]]
            for name, tensor in net.state_dict().items()
        ]
        for kind, net in networks.items()
    }
    with open("state_dicts.json", "w") as file:
        json.dump(listed, file, separators=(",", ":"))


# -------------------- files


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.linear = (
            nn.Conv2d(1, 2, 3, bias=False),
            nn.BatchNorm2d(2),
            nn.Linear(2, 3),
        )


def expect(name, tensors):
    save_file(
        {n: t.detach().clone().contiguous() for n, t in tensors.items()}, f"{name}.safetensors"
    )


class Malicious:
    """What a hostile file looks like: unpickling it in Python would run a command."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def files():
    net = Small()
    state = net.state_dict()
    torch.save(state, "state_dict.pt")
    expect("state_dict", state)
    torch.save(dict(state), "protocol4.pt", pickle_protocol=4)
    expect("protocol4", state)
    torch.save(dict(net.named_parameters()), "parameters.pt")
    expect("parameters", dict(net.named_parameters()))
    torch.save(nn.DataParallel(net).state_dict(), "module_prefix.pt")
    expect("module_prefix", state)
    torch.save(
        {
            "epoch": 300,
            "state_dict": state,
            "optimizer": torch.optim.SGD(net.parameters(), 0.1, 0.9).state_dict(),
        },
        "nested.pt",
    )
    expect("nested", state)
    torch.save({"model": state}, "nested_model.pt")
    expect("nested_model", state)

    base = torch.arange(24.0).reshape(4, 6)
    views = {
        "base": base,
        "transposed": base.t(),
        "part": base[1:3, 2:5],
        "strided": base[:, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "channels_last": torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last),
    }
    torch.save(views, "views.pt")
    expect("views", views)
    x = torch.tensor([1.5, -2.25, 3e-5])
    kinds = {
        "f16": x.half(),
        "bf16": x.bfloat16(),
        "f32": x,
        "f64": x.double(),
        "i64": torch.tensor([-3, 2**40]),
        "i32": torch.tensor([-3, 9]).int(),
        "i16": torch.tensor([-300]).short(),
        "i8": torch.tensor([-3]).char(),
        "u8": torch.tensor([200]).byte(),
        "bool": torch.tensor([True, False]),
    }
    torch.save(kinds, "kinds.pt")
    expect("kinds", kinds)

    # Not to be read.
    torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"weight": x, "bias": Malicious()}, "malicious.pt")
    torch.save({"weight": x, "optimizer": {"lr": 0.1}}, "not_a_tensor.pt")
    torch.save(net, "whole_module.pt")
    torch.save([x, x], "list.pt")


def checkpoints():
    """What training scripts save: all hold the state dict of `state_dict.pt`."""
    state = torch.load("state_dict.pt")
    prefixed = lambda prefix: {prefix + name: tensor for name, tensor in state.items()}
    arguments = argparse.Namespace(lr=0.1, layers=[2, 2], name="small", seed=None)
    sgd = torch.optim.SGD([torch.zeros(3, requires_grad=True)], 0.1).state_dict()
    made = {
        # kuangliu/pytorch-cifar
        "net": {"net": state, "acc": 93.2, "epoch": 199},
        # PyTorch's own tutorial
        "model_state_dict": {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": sgd},
        # torchvision's and ImageNet's example: a numpy scalar, arguments, a tensor beside it
        "checkpoint": {
            "args": arguments,
            "best_acc1": torch.tensor(93.2),
            "best_loss": np.float64(0.25),
            "state_dict": prefixed("module."),
            "seen": {1, 2},
            "large": 2**80,
            "scaler": collections.defaultdict(int, {"growth": 2}),
        },
        "any_key": {"uploaded": state, "round": 7},
        # timm: the usual name wins over the moving average
        "moving_average": {"state_dict_ema": prefixed("x."), "state_dict": state},
        "compiled_parallel": prefixed("_orig_mod.module."),
        "lightning": {"state_dict": prefixed("model.net."), "pytorch-lightning_version": "2.2.0"},
        "protocol5": {"net": state},
    }
    for name, checkpoint in made.items():
        protocol = 5 if name == "protocol5" else 2
        torch.save(checkpoint, f"checkpoint_{name}.pt", pickle_protocol=protocol)
    # Not to be read.
    torch.save({"first": state, "second": state}, "two_state_dicts.pt")
    torch.save([state, state], "list_of_state_dicts.pt")
    torch.save({"model": Small(), "epoch": 3}, "module_in_checkpoint.pt")


if __name__ == "__main__":
    if sys.argv[1:] == ["checkpoints"]:
        checkpoints()
    else:
        networks()
        state_dicts()
        files()
        checkpoints()
