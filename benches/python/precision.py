"""Mixed precision as PyTorch's recipe has it: autocast, and a scaled loss for float16."""

import torch


class Amp:
    """Autocast to a half-precision type with a gradient scaler; does nothing where not enabled.

    float16 on CUDA; bfloat16 on a CPU, whose convolutions have no float16 backward pass.
    """

    def __init__(self, device, enabled):
        self.kind, self.enabled = torch.device(device).type, enabled
        self.dtype = torch.float16 if self.kind == "cuda" else torch.bfloat16
        self.scaler = torch.amp.GradScaler(self.kind, enabled=enabled)

    def autocast(self):
        return torch.autocast(self.kind, self.dtype, enabled=self.enabled)

    def step(self, loss, optimizer):
        """Backward and an optimiser step, which is left out where a gradient overflows."""
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()

    def gradient(self, loss, of):
        """The gradient of `loss`, scaled on its way where small values would be lost."""
        scale = 1024.0 if self.enabled else 1.0
        return torch.autograd.grad(loss * scale, of)[0] / scale


def bfloat16(device, enabled):
    """Autocast to bfloat16, which needs no scaled loss."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def synchronize(device):
    """Waits for all that a CUDA device was told to compute."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
