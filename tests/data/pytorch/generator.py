"""Makes `generator.json` with PyTorch in float64: what the tests compare the generator, its losses
and steps, the teachers' learnt weights and the perturbation of images with.

    python generator.py    (PyTorch 2.11, in this folder)

Weights and inputs are given by `fill` and `wave` of `make.py`, so that none need to be stored.
"""

import json
import torch, torch.nn as nn, torch.nn.functional as F
from make import ResNet, fill, wave

CLASSES, SIZE, IMAGES, NOISE = 4, 8, 6, 5
LABELS = torch.tensor([0, 3, 1, 2, 2, 0])


class Generator(nn.Module):
    def __init__(self, noise, width, size, channels):
        super().__init__()
        self.quarter = size // 4
        self.l1 = nn.Sequential(nn.Linear(noise, 2 * width * self.quarter**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, z):
        h = self.l1(z)
        return self.conv_blocks(h.view(len(z), -1, self.quarter, self.quarter))


def filled(net, offset):
    net = net.double()
    state = net.state_dict()
    net.load_state_dict({n: fill(n, offset + i, t) for i, (n, t) in enumerate(state.items())})
    return net


def generator(width=3, size=SIZE, channels=1):
    return filled(Generator(NOISE, width, size, channels), 0).train()


def classifier(offset):
    net = filled(ResNet(False, 2, [1], 1, CLASSES), offset).eval()
    with torch.no_grad():
        net.linear.weight *= 0.25
    return net


def teachers():
    return [classifier(100), classifier(200)]


def distances(net, x):
    """Sum over batch norms of the distances between running and batch statistics."""
    found = []

    def hook(layer, args, _):
        var, mean = torch.var_mean(args[0], (0, 2, 3), correction=0)
        found.append((layer.running_var - var).norm() + (layer.running_mean - mean).norm())

    hooks = [
        m.register_forward_hook(hook) for m in net.modules() if isinstance(m, nn.BatchNorm2d)
    ]
    logits = net(x)
    for h in hooks:
        h.remove()
    return logits, sum(found)


def features(net, x):
    kept = []
    hook = net.linear.register_forward_hook(lambda layer, args, _: kept.append(args[0]))
    net(x)
    hook.remove()
    return kept[0]


def terms(x, y, nets, student, combine, s):
    seen = [distances(net, x) for net in nets]
    joint = combine([logits for logits, _ in seen])
    if y is None:
        y = joint.argmax(1)
    own = joint.softmax(1).gather(1, y[:, None])[:, 0].detach()
    t = {
        "cross_entropy": (
            (1 - own) ** s["hardness"] * F.cross_entropy(joint, y, reduction="none")
        ).mean(),
        "batch_norm": sum(d for _, d in seen) / len(nets),
    }
    total = s["cross_entropy"] * t["cross_entropy"] + s["batch_norm"] * t["batch_norm"]
    if student is not None:
        at, logits = s["temperature"], student(x)
        each = F.kl_div(
            (logits / at).log_softmax(1), (joint / at).softmax(1), reduction="none"
        ).sum(1) * at**2
        if s["disagreeing"]:
            each = each * (logits.argmax(1) != joint.argmax(1))
        t["divergence"] = each.mean()
        total = total - s["divergence"] * t["divergence"]
    if s["activation"]:
        t["activation"] = sum(features(net, x).abs().mean() for net in nets) / len(nets)
        total = total - s["activation"] * t["activation"]
    if s["information"]:
        p = joint.softmax(1).mean(0)
        t["information"] = -(p * p.log()).sum()
        total = total - s["information"] * t["information"]
    t["total"] = total
    return t


def mean(logits):
    return sum(logits) / len(logits)


def weighted(logits):
    return (0.3 * logits[0] + 0.6 * logits[1]) / (0.3 + 0.6)


SETTINGS = dict(
    cross_entropy=1.0, hardness=0.0, batch_norm=1.0, divergence=1.0, temperature=1.0,
    disagreeing=True, activation=0.0, information=0.0,
)
# Name, settings, rule, whether labels are given, whether noise is learnt, largest norm.
CASES = [
    ("dense", {}, mean, True, True, None),
    (
        "co_boosting",
        dict(hardness=1.0, batch_norm=0.0, temperature=3.0, disagreeing=False),
        weighted, True, True, 0.05,
    ),
    (
        "dafl",
        dict(batch_norm=0.0, divergence=0.0, activation=0.001, information=20.0),
        mean, False, False, None,
    ),
]


def step_case(name, changes, combine, labelled, learnt, clip):
    s = {**SETTINGS, **changes}
    net, student = generator(), classifier(300)
    z = wave(1000, (IMAGES, NOISE)).requires_grad_(learnt)
    groups = list(net.parameters()) + ([z] if learnt else [])
    # A large ε keeps a step from depending on the sign of a gradient near zero.
    adam = torch.optim.Adam(groups, 1e-2, (0.5, 0.999), 1e-2)
    found = []
    for _ in range(2):
        adam.zero_grad()
        x = (net(z) - 0.5) / 1.5
        t = terms(x, LABELS if labelled else None, teachers(), student, combine, s)
        t["total"].backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        adam.step()
        found.append({k: v.item() for k, v in t.items()})
    return dict(
        name=name,
        settings=s,
        labelled=labelled,
        learnt=learnt,
        clip=clip,
        terms=found,
        parameters={n: p.detach().flatten().tolist() for n, p in net.named_parameters()},
        noise=z.detach().flatten().tolist(),
    )


def weights_case():
    w, found = torch.tensor([0.5, 0.5]), []
    x = wave(1000, (IMAGES, 1, SIZE, SIZE))
    # Labels that the first finds likely and the second unlikely: their weights part.
    first, second = [net(x).detach() - net(x).detach().mean(1, True) for net in teachers()]
    labels = torch.minimum(first, -second).argmax(1)
    for epoch in range(1, 4):
        v = w.clone().requires_grad_(True)
        logits = torch.stack([net(x).detach() for net in teachers()], 2)
        F.cross_entropy(logits @ v / v.sum(), labels).backward()
        w = (w - 0.1 * 0.9**epoch * v.grad.sign()).clamp(0, 1)
        found.append(w.tolist())
    return dict(labels=labels.tolist(), values=found)


def perturbation_case():
    x = wave(1000, (IMAGES, 1, SIZE, SIZE)).requires_grad_(True)
    u = wave(50, (IMAGES, CLASSES))
    (u * (weighted([net(x) for net in teachers()]) / 4).softmax(1)).sum().backward()
    return x.grad.flatten().tolist()


def main():
    torch.set_default_dtype(torch.float64)
    images = []
    for width, size, channels in ((3, 8, 1), (2, 12, 3)):
        net = generator(width, size, channels)
        state = net.state_dict()
        images.append(
            dict(
                width=width, size=size, channels=channels,
                names=list(state), shapes=[list(t.shape) for t in state.values()],
                images=((net(wave(1000, (IMAGES, NOISE))) - 0.5) / 1.5).flatten().tolist(),
            )
        )
    made = dict(
        forward=images,
        steps=[step_case(*case) for case in CASES],
        weights=weights_case(),
        perturbation=perturbation_case(),
    )
    with open("generator.json", "w") as file:
        json.dump(made, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
