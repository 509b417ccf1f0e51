"""Where it is computed."""

from __future__ import annotations

import torch


class DeviceError(Exception):
    """A device that is not there."""


def choose_device(device: str) -> torch.device:
    """`auto`: the first accelerator there is, else the CPU. Raises DeviceError for one that is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DeviceError(f"device {device!r} cannot be used here ({reason}). Try --device auto.") from None
    return chosen
