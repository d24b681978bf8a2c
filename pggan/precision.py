"""Number formats: autocast, and the scale that keeps float16's gradients in range."""

import math
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

PrecisionName = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: PrecisionName, device: torch.device) -> AbstractContextManager[Any]:
    """Compute forward passes in that precision, inside this context; no change for fp32."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


def computes(precision: PrecisionName, device: torch.device) -> bool:
    """Return whether a device has instructions for products in that precision; without, it converts to fp32."""
    if device.type == "cuda" and precision == "bf16":
        with torch.cuda.device(device):  # of several ones it asks the current one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or precision == "fp32":
        return True
    if precision == "bf16" and platform.machine().lower() in ("x86_64", "amd64"):  # oneDNN would count any AVX-512
        questions = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
        return any(question is None or question() for question in questions)  # other versions may lack them
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported", None)
    return supported is not None and bool(supported())


def allow_tf32(allowed: bool) -> None:
    """Allow TF32 on CUDA: products keep 10 bits of mantissa and are several times as fast."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def full_products() -> Iterator[None]:
    """Keep all bits of float32 products and convolutions, inside this context, whatever the process allows."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


@dataclass
class LossScale:
    """Factor of the loss, and of the inner gradient of the penalty, for float16; 1 for the other formats.

    An overflow halves it and skips the update; `patience` updates without one double it.
    """

    enabled: bool
    value: float = 1.0
    good: int = 0
    patience: int = 2000
    lowest: float = 2.0**-10

    @classmethod
    def for_precision(cls, precision: PrecisionName) -> "LossScale":
        return cls(precision == "fp16", 2.0**12 if precision == "fp16" else 1.0)

    def after(self, finite: bool) -> bool:
        """Adapt the scale to an update; return False when not even the smallest scale helps."""
        if not self.enabled:
            return finite
        if finite:
            self.good += 1
            if self.good >= self.patience:
                self.value, self.good = self.value * 2.0, 0
            return True
        self.value, self.good = self.value / 2.0, 0
        return self.value >= self.lowest and math.isfinite(self.value)

    def state(self) -> dict[str, float]:
        return {"value": self.value, "good": float(self.good)}

    def load(self, state: dict[str, float]) -> None:
        if self.enabled:
            self.value, self.good = float(state["value"]), int(state["good"])
