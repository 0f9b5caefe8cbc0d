"""Steps of inversion and training: ours and PyTorch's in alternation."""

import json
import time
import types

import setting
from driver import variants, workers

CASES = json.loads((setting.BENCHES / "cases.json").read_text())
COMPILED = "compiled+bf16+channels_last"
OURS = ["ours-plain", "ours-fused", "ours-fused+bf16"]
INVERSION = ["public", "public+amp", "fixed+bf16+channels_last", COMPILED, COMPILED + "+graphs"]
TRAINING = ["public+loaders", "public+amp+loaders", "fixed+bf16+channels_last", COMPILED]
# Seconds for starting, in which `torch.compile` compiles.
STARTING = 110


def inversion(context):
    alternate(context, ("di", "adi"), INVERSION, OURS)


def training(context):
    alternate(context, ("train",), TRAINING, ["ours", "ours+bf16"])


def alternate(context, names, theirs, ours):
    """Cases `names` of this size one after another, each with its part of the time."""
    data = {"cases": {}}
    for index, short in enumerate(names):
        name = f"{'tiny' if context.tiny else 'gpu'}-{short}"
        now, left = time.monotonic(), context.seconds_left() - 5
        end = now + left / (len(names) - index)
        options = types.SimpleNamespace(
            python=context.python,
            threads=1 if context.tiny else 4,
            device=context.device,
            limits=workers.Limits(min(now + STARTING, end - 10), end - 8, end),
        )
        data["cases"][name] = case(context, name, chosen(context, theirs, ours), options)
        context.keep(data, problems(data))


def chosen(context, theirs, ours):
    """The reference first: the loss and the gradient of the others are compared with its."""
    if context.python is None:
        return ours
    # On a CPU `torch.compile` takes a minute a variant, and `make bench` has it.
    skipped = "compiled" if context.device == "cpu" else "no such name"
    return [name for name in theirs if not name.startswith(skipped)] + ours


def case(context, name, names, options):
    settings, failures = CASES["gpu"][name], {}
    names = [variant for variant in names if variants.fits(settings["task"], variant)]
    folder = context.folder / name
    folder.mkdir()
    seconds, facts = workers.alternate(
        folder, name, settings, names, settings["rounds"], options, failures
    )
    return {
        "settings": settings | {"network": CASES["networks"][settings["network"]]},
        "operations": operations(settings, CASES["networks"][settings["network"]]),
        "seconds": seconds,
        "facts": facts,
        "failures": {variant: str(error) for variant, error in failures.items()},
        "wrong": [
            variant
            for variant, error in failures.items()
            if not isinstance(error, workers.Unavailable)
        ],
    }


def problems(data):
    """The variants that should have run and did not; None where all did."""
    failed = [
        f"{name}: {', '.join(case['wrong'])}"
        for name, case in data["cases"].items()
        if case["wrong"]
    ]
    return "failed: " + "; ".join(failed) if failed else None


def operations(settings, network):
    """Floating-point operations a step that the result needs, of convolutions and linear layer.

    Inversion: forward, and the gradient of the inputs. Training: forward, and the gradients of
    weights and inputs, but for the images.
    """
    image = CASES["image"]
    macs, stem = forward(network, image)
    if settings["task"] == "training":
        macs = 3 * macs - stem
    else:
        macs *= 2 * (2 if settings["student"] else 1)
    return 2 * macs * settings["batch"]


def forward(network, image):
    """Multiply-adds an image: of all layers, and of the first."""
    side, inputs = image["size"], network["width"]
    stem = total = 9 * image["channels"] * inputs * side**2
    for stage, count in enumerate(network["blocks"]):
        outputs = network["width"] << stage
        for index in range(count):
            if stage and not index:
                side = (side + 1) // 2
            total += 9 * (inputs + outputs) * outputs * side**2
            if inputs != outputs:
                total += inputs * outputs * side**2
            inputs = outputs
    return total + inputs * image["classes"], stem
