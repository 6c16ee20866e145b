"""Notes on libraries that build a model from its configuration, and lose a swap so."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.finding import Finding
from modswap.ops.load.hub_folder import CONFIG

LIGHTNING = ("pytorch_lightning", "lightning")


@dataclass(frozen=True, slots=True)
class Host:
    """A swapped model and its file, for a note on its library."""

    model: nn.Module
    subject: Subject | None  # the file; None for a model in memory
    keys: Sequence[str]  # of the file's outermost mapping
    factory: str  # of files that hold weights without code; empty for none
    written: str = ""  # the file that is written, as the user named it; empty for none
    policy: Policy = field(default_factory=Policy)  # for loading the written file

    @property
    def out(self) -> str:
        """Return the written file, or a name for it in examples."""
        return self.written or (f"out{self.subject.file.suffix}" if self.subject else "FILE")

    @property
    def folder(self) -> bool:
        """Return whether it is a folder with a configuration."""
        return self.subject is not None and (self.subject.file / CONFIG).is_file()

    def of(self, *packages: str) -> bool:
        """Return whether the model's class is one of a library's, or derived from one."""
        return any(cls.__module__.split(".")[0] in packages for cls in type(self.model).__mro__)

    def loading(self) -> str:
        """Return the call that loads the swapped model."""
        given = [repr(self.out)]
        if self.factory:
            given.append(repr(self.factory))
        policy = self.policy
        renames = self.subject.renames if self.subject else ()
        asked = {
            "allow": [*dict.fromkeys(policy.allow)],
            "alias": [*policy.aliases],
            "trust": policy.trust,
        }
        asked["rename"] = [(one.old, one.new) for one in renames]
        given += [f"{name}={value!r}" for name, value in asked.items() if value]
        return f"modswap.load({', '.join(given)})"


def host_notes(host: Host) -> Iterator[Finding]:
    """Yield where the model's own library would build it without the swap, and how to keep it."""
    for applies, note in NOTES:
        if applies(host):
            what, lines = note(host)
            data = {"host": type(host.model).__module__.split(".")[0]}
            yield Finding("survival", "", "passed", what, "\n".join(lines), data)
            return


Note = tuple[str, tuple[str, ...]]


def _ultralytics(host: Host) -> Note:
    what = (
        "`YOLO(...).train()` builds the model anew from its YAML and would lose the swap; "
        "loading it and predicting with it keep it"
    )
    whole = "ema" in host.keys or "model" in host.keys
    yaml = vars(host.model).get("yaml")
    name = yaml.get("yaml_file", "model.yaml") if isinstance(yaml, dict) else "model.yaml"
    return what, (
        *(() if whole else ("import modswap",)),
        "from ultralytics import YOLO",
        f"yolo = YOLO({host.out if whole else str(name)!r})",
        "class Keeping(yolo.task_map[yolo.task]['trainer']):",
        "    def get_model(self, cfg=None, weights=None, verbose=True):",
        f"        return {'weights' if whole else host.loading()}",
        "yolo.train(data='data.yaml', trainer=Keeping)",
    )


def _folder(host: Host) -> Note:
    what = (
        f"`from_pretrained` and `create_model` build the model of {CONFIG} "
        "and would lose the swap, or refuse its weights"
    )
    return what, ("import modswap", f"model = {host.loading()}")


def _lightning(host: Host) -> Note:
    what = (
        "`load_from_checkpoint` builds the model by its class, whose own modules the swapped "
        "weights do not fit"
    )
    fit = f"trainer.fit(task, data, ckpt_path={host.out!r}, weights_only=False)"
    if host.of(*LIGHTNING):
        return what, ("import modswap", f"task = {host.loading()}", fit)
    return what, (
        "import modswap",
        f"model = {host.loading()}",
        "for name, child in model.named_children():",
        "    task.add_module(name, child)  # of your LightningModule, before it is trained",
        fit,
    )


def _configured(host: Host) -> Note:
    cls = type(host.model)
    way = next(name for name in REBUILDERS if callable(getattr(cls, name, None)))
    what = f"`{cls.__name__}.{way}` builds the model from its configuration and would lose the swap"
    return what, ("import modswap", f"model = {host.loading()}")


REBUILDERS = ("from_pretrained", "from_config")


def _rebuilds(host: Host) -> bool:
    cls = type(host.model)
    own = not cls.__module__.startswith("torch.")
    return own and any(callable(getattr(cls, name, None)) for name in REBUILDERS)


NOTES: tuple[tuple[Callable[[Host], bool], Callable[[Host], Note]], ...] = (
    (lambda host: host.of("ultralytics"), _ultralytics),
    (lambda host: host.folder, _folder),
    (lambda host: host.of(*LIGHTNING) or "pytorch-lightning_version" in host.keys, _lightning),
    (_rebuilds, _configured),
)
