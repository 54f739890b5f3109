"""`inpaintkit doctor`: what this machine and installation can do, and what is broken."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.core.errors import BadInput, InpaintError

PACKAGES = ("inpaintkit", "torch", "diffusers", "safetensors", "numpy", "pillow", "scikit-image", "pydantic", "tyro", "rich")

PARTS = {
    "train": ("peft", "inpaintkit train, and fill --tune"),
    "classic": ("cv2", "telea and ns"),
    "onnx": ("onnxruntime", ".onnx files as fillers"),
    "evaluate": ("torchmetrics", "ms_ssim, and LPIPS without its heads' file"),
}
"""Optional part of the installation -> a module of it, and what it is for."""


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Versions, processor, devices, bundled models. Exit code 0 unless something is broken, else 3."""


@dataclass(frozen=True)
class Finding:
    about: str
    text: str
    broken: bool = False


def run(argv: Sequence[str]) -> None:
    parse(Doctor, argv, "inpaintkit doctor")
    found = []
    for finding in findings():
        print(f"{'BROKEN' if finding.broken else 'ok':<7} {finding.about:<13} {finding.text}", flush=True)
        found.append(finding)
    if broken := [finding.about for finding in found if finding.broken]:
        raise BadInput(f"doctor: broken: {', '.join(broken)}; the lines above say what to do")


def findings() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()} ({sys.executable})")
    for name in PACKAGES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "is not installed; install inpaintkit again", broken=True)
    for part, (module, use) in PARTS.items():
        there = find_spec(module) is not None
        yield Finding(part, f"{use}: " + ("installed" if there else f"not installed; pip install 'inpaintkit[{part}]' brings it"))
    yield from _hardware()
    yield _torchvision()
    yield from _models()


def _hardware() -> Iterator[Finding]:
    import torch

    from inpaintkit.models.catalog import bfloat16_is_fast

    cpu = torch.device("cpu")
    yield Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} processors; OMP_NUM_THREADS changes it")
    fast = bfloat16_is_fast(cpu)
    yield Finding(
        "bfloat16", "the processor has instructions for it" if fast else "the processor has no instructions for it: float32 is used"
    )
    devices = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]
    yield Finding("devices", ", ".join(devices + (["mps"] if torch.backends.mps.is_available() else [])))


def _torchvision() -> Finding:
    """It is not needed, but diffusers imports it where it exists, and a build for another torch then breaks diffusers."""
    if find_spec("torchvision") is None:
        return Finding("torchvision", "not installed, and not needed")
    try:
        import torchvision
    except Exception as error:  # whatever a mismatched binary raises
        cause = " ".join(str(error).split())[:120]
        return Finding("torchvision", f"does not fit this torch ({cause}); pip uninstall torchvision", broken=True)
    return Finding("torchvision", f"{torchvision.__version__}, not needed")


def _models() -> Iterator[Finding]:
    from inpaintkit.models import catalog, damage

    for name in (*catalog.MODELS, *catalog.DETECTORS):
        load = damage.load if name in catalog.DETECTORS else catalog.load
        try:
            yield Finding(name, f"complete, sha256 {load(name).sha256}")
        except InpaintError as error:
            yield Finding(name, str(error), broken=True)
