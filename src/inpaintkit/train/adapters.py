"""What tasks have in common that can train a LoRA adapter in place of all weights."""

from dataclasses import replace
from pathlib import Path

from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.core.settings import dumped
from inpaintkit.models import catalog, lora
from inpaintkit.models.checkpoints import save_folder
from inpaintkit.models.lora import Adapted, Adapter, LoRA
from inpaintkit.models.unet import Network, NetworkConfig, channels, inputs, settings, started


def adapted(network: Network, name: str, start: catalog.Model, wanted: LoRA, config: NetworkConfig) -> Adapted:
    """`network`, which has the weights of `start` (loaded by `name`) and perhaps more inputs, with an adapter. Takes `network` over.

    A start that is an adapter itself is trained on: its base stays as it is. config: of the network with the adapter. Raises
    `UsageError` for a start that differs in more than its inputs, for loading builds the network from the start, for an adapter
    of another kind than the wanted one, and what `Adapted` does.
    """
    mine, theirs = settings(network), settings(start.unet)
    if other := [key for key in theirs if key not in ("in_channels", "sample_size") and mine[key] != theirs[key]]:
        raise UsageError(f"task.lora: {name} has another {other[0]}, and an adapter changes the inputs alone; train without task.lora")
    if lora.holds(folder := catalog.locate(name)):
        return _resumed(network, name, folder, wanted, config)
    added = inputs(config, channels(network)) != theirs["in_channels"]
    if added and wanted.train_input is False:
        raise UsageError("task.lora.train_input = false: the inputs that were added would stay at zero weight; leave it out")
    base = name if name in catalog.MODELS else str(_absolute(name))
    settled = replace(wanted, train_input=added if wanted.train_input is None else wanted.train_input)
    return Adapted(network, Adapter(base, start.sha256, settled, config))


def _resumed(network: Network, name: str, folder: Path, wanted: LoRA, config: NetworkConfig) -> Adapted:
    """The adapter in a folder, to be trained on."""
    there = lora.read(folder)
    train_input = there.lora.train_input if wanted.train_input is None else wanted.train_input
    has, asked = (dumped(one) for one in (there.lora, replace(wanted, merge=there.lora.merge, train_input=train_input)))
    if other := [key for key in has if has[key] != asked[key]]:
        how = "is trained on as it is; give that, or merge it with `inpaintkit models convert`"
        raise UsageError(f"task.lora.{other[0]}: the adapter {name} has {has[other[0]]}, and {how}")
    if config.condition != there.network.condition:
        raise UsageError(f"task.network.condition: the adapter {name} has another one, and is trained on as it is; give that")
    base = catalog.load(catalog.locate(there.base, fetch=False))
    if base.sha256 != there.sha256:
        raise UsageError(f"task.start: {name} adapts {there.base}, which changed while it was read; begin again")
    adapter = Adapter(there.base, there.sha256, replace(there.lora, merge=wanted.merge), config)
    result = Adapted(started(network, base.unet), adapter)
    lora.restore(result, folder)
    return result


def export(folder: Path, network: Network, schedule: NoiseSchedule, card: str) -> None:
    """Write a model folder, or that of an adapter."""
    if not isinstance(network, Adapted):
        save_folder(folder, network, schedule, card)
        return
    lora.save(folder, network, schedule, card)
    if network.adapter.lora.merge:
        save_folder(folder / "merged", lora.merged(network), schedule, card)


def _absolute(name: str) -> Path | str:
    """A path that still means the same elsewhere; a hub id as it is."""
    return Path(name).resolve() if Path(name).exists() else name
