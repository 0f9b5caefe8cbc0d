"""The CNN of McMahan et al. 2017 (arXiv:1602.05629) for images of 28 by 28: two convolutions of 5
by 5 with 32 and 64 channels, each followed by max pooling, 512 units, 10 classes."""

import numpy as np

SHAPES = [
    (32, 1, 5, 5), (32,),
    (64, 32, 5, 5), (64,),
    (512, 3136), (512,),
    (10, 512), (10,),
]  # fmt: skip


def initial():
    """The weights that the run begins with, as arrays."""
    rng = np.random.default_rng(42)
    bound = [1 / np.sqrt(np.prod(shape[1:]) or 1) for shape in SHAPES]
    draw = zip(SHAPES, bound)
    return [rng.uniform(-limit, limit, shape).astype(np.float32) for shape, limit in draw]


def trained(arrays, config, part):
    """The weights after passes over a client's own images."""
    import torch
    from torch.nn import functional

    # The processes share the machine's cores.
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(part)
    count, size = int(config["images"]), int(config["batch-size"])
    images = torch.rand(count, 1, 28, 28, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    weights = [torch.tensor(array, requires_grad=True) for array in arrays]
    optimizer = torch.optim.SGD(weights, lr=float(config["lr"]))

    def logits(batch):
        for layer in (0, 2):
            batch = functional.conv2d(batch, weights[layer], weights[layer + 1], padding=2)
            batch = functional.max_pool2d(batch.relu(), 2)
        hidden = functional.linear(batch.flatten(1), weights[4], weights[5]).relu()
        return functional.linear(hidden, weights[6], weights[7])

    for _ in range(int(config["epochs"])):
        order = torch.randperm(count, generator=generator)
        for chosen in order.split(size):
            optimizer.zero_grad()
            functional.cross_entropy(logits(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return [tensor.detach().numpy() for tensor in weights]
