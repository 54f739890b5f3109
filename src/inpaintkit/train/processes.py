"""The processes of a run: one, or several started by `torchrun` or `accelerate launch`."""

import os
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from inpaintkit.core.errors import InpaintError, UsageError


class Processes:
    """What they compute on, which one this is, and how they agree.

    device: auto, cpu, cuda, mps. Raises `UsageError` when it is not available.
    """

    def __init__(self, device: str = "auto"):
        started = int(os.environ.get("WORLD_SIZE", 1))  # how many a launcher started
        cpu = device == "cpu" or (device == "auto" and started > 1 and not torch.cuda.is_available())  # else each would be on its own
        self._accelerator = Accelerator(cpu=cpu, mixed_precision="no")  # autocast is the loop's
        self.device = self._accelerator.device
        if device not in ("auto", self.device.type):
            raise UsageError(f"device {device!r} is not available here; use cpu or auto")
        self.index, self.count = self._accelerator.process_index, self._accelerator.num_processes
        if self.count != started:
            raise UsageError(f"--device {device}: the {started} processes that were started do not find each other there; use cpu or cuda")
        self.main = self.index == 0

    def mean(self, parameters: Sequence[nn.Parameter], values: Tensor) -> Tensor:
        """The gradients of `parameters` become their means over the processes; returned are the means of `values` `(N,)`.

        Done here, and not by torch's wrapper around a network, so that a task may call its networks as often and in
        whatever way it likes. A parameter that took no part has a gradient of zero, whatever the number of processes.
        """
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if self.count == 1:
            return values
        flat = self._accelerator.reduce(torch.cat([*(gradient.flatten() for gradient in gradients), values]), "mean")
        assert isinstance(flat, Tensor)
        *parts, means = flat.split([*(gradient.numel() for gradient in gradients), len(values)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
        return means

    def every(self, number: int) -> list[int]:
        """The different numbers that the processes hold, sorted."""
        return sorted(set(self._accelerator.gather(torch.tensor([number], device=self.device)).tolist()))

    def on_main(self, action: Callable[[], object]) -> None:
        """Do something on the main process while the others wait; when it fails there, they leave with its exit code, silently."""
        failure: BaseException | None = None
        if self.main:
            try:
                action()
            except BaseException as error:
                failure = error
        if self.count > 1:
            code = None if failure is None else failure.exit_code if isinstance(failure, InpaintError) else 1
            codes = broadcast_object_list([code])
            if not self.main and codes[0] is not None:
                raise SystemExit(codes[0])
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Leave the group of processes."""
        if self.count > 1:
            self._accelerator.end_training()
