"""What a loop trains, found by listening to all modules and all optimizers: for loops that do not say it themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from sounding.finding import Finding
from sounding.watching.experiments import apart
from sounding.watching.watcher import Watch, watch

YOUNG = 10
"""Steps within which a watch is begun anew together with another optimizer: players take turns from the start."""


class Discovery:
    """Watches every optimizer from its second step on, with the module that was called for it.

    An optimizer that comes when others are long at work, as in the next fold of a cross-validation, gets a watch of its
    own, from its third step on, and theirs ends.
    """

    def __init__(self, *, say: Callable[[str], None] | None = None, model: nn.Module | None = None) -> None:
        """`model` is what to watch where no module was called that holds what is trained."""
        self.watches: list[Watch] = []
        """Those that have ended, and the present one."""
        self._tell, self._otherwise = say, model
        self._players: dict[str, tuple[nn.Module, Optimizer]] = {}
        self._called: dict[nn.Module, None] = {}  # by the loop itself, not by other modules; in order
        self._depth = 0
        self._is_quiet = False
        self._listening: list[Any] = []
        self._steps: Any = None

    def __enter__(self) -> Discovery:
        """Begin to listen."""
        self._steps = register_optimizer_step_post_hook(self._stepped)
        self._listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Take everything off, end the watch, and say what was found."""
        self._steps.remove()
        self._stop_listening()
        if self._players:
            self._end(kind)
        if self._tell is not None:
            self._tell(self.summary())

    @property
    def findings(self) -> list[Finding]:
        """Those of all watches."""
        return [finding for one in self.watches for finding in one.findings]

    def summary(self) -> str:
        """What was found; or what was looked at."""
        if not self.watches:
            return "watch: no optimizer of PyTorch made two steps, so there was nothing to watch"
        return "\n".join(dict.fromkeys(one.summary() for one in self.watches))

    def _say(self, line: str) -> None:
        if self._tell is not None and not self._is_quiet:
            self._tell(line)

    # What is called.

    def _listen(self) -> None:
        self._called, self._depth = {}, 0
        self._listening = [
            register_module_forward_pre_hook(self._before_call),
            register_module_forward_hook(self._after_call, always_call=True),
        ]

    def _stop_listening(self) -> None:
        for handle in self._listening:
            handle.remove()
        self._listening = []

    def _before_call(self, module: nn.Module, args: Any) -> None:
        if not apart.depth:
            if not self._depth:
                self._called[module] = None
            self._depth += 1

    def _after_call(self, module: nn.Module, args: Any, outputs: Any) -> None:
        if not apart.depth:
            self._depth -= 1

    # What makes a step.

    def _stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if apart.depth:
            return
        if any(optimizer is known for _, known in self._players.values()):
            if self._listening and not self._is_young(optimizer):
                self._stop_listening()
            return
        if not self._listening:  # its forward pass is over: the next one tells
            self._listen()
            return
        model = called_for(optimizer, self._called) or self._otherwise
        if model is not None:
            self._begin(model, optimizer)

    def _is_young(self, optimizer: Optimizer) -> bool:
        players = self.watches[-1].players.values()
        return any(seen.optimizer is optimizer and seen.done <= YOUNG for seen in players)

    def _begin(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Watch it, and with it those that began just before."""
        known = list(self._players.values())
        young = [one for one in known if self._is_young(one[1])]
        if known:
            self._end(None)
            if young:
                self.watches.pop()  # what it saw, the next one sees again
        self._players = _by_name([*young, (model, optimizer)])
        models = {name: module for name, (module, _) in self._players.items()}
        optimizers = {name: one for name, (_, one) in self._players.items()}
        self.watches.append(watch(models, optimizers, say=self._say).__enter__())

    def _end(self, kind: type[BaseException] | None) -> None:
        self._is_quiet = True  # all is told at the very end
        self.watches[-1].__exit__(kind, None, None)
        self._is_quiet = False
        self._players = {}


def called_for(optimizer: Optimizer, called: Iterable[nn.Module]) -> nn.Module | None:
    """The module that an optimizer trains, of those that a loop called; several are put in a list.

    The smallest that holds all of the optimizer's parameters: where a generator is called alone and as a part of
    generator and discriminator together, it is the generator.

    >>> body, head = nn.Linear(4, 4), nn.Linear(4, 2)
    >>> optimizer = __import__("torch").optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
    >>> whole = nn.Sequential(body, nn.ReLU(), head)
    >>> called_for(optimizer, [body, whole]) is whole
    True
    >>> called_for(__import__("torch").optim.SGD(body.parameters(), lr=0.1), [whole, body]) is body
    True
    >>> called_for(optimizer, [body, head])
    ModuleList(
      (0): Linear(in_features=4, out_features=4, bias=True)
      (1): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    sizes = {module: [id(p) for p in module.parameters() if p.requires_grad] for module in called}
    sizes = {module: parameters for module, parameters in sizes.items() if parameters}
    whole = [module for module, parameters in sizes.items() if held <= set(parameters)]
    if whole:
        return min(whole, key=lambda module: len(sizes[module]))
    partly = [module for module, parameters in sizes.items() if held & set(parameters)]
    candidates = partly or list(sizes)  # an optimizer of something else is a fault that the watch knows
    inside = {id(part) for module in candidates for part in list(module.modules())[1:]}
    outermost = [module for module in candidates if id(module) not in inside]
    if len(outermost) == 1:
        return outermost[0]
    return nn.ModuleList(outermost) if partly else None


def _by_name(players: Iterable[tuple[nn.Module, Optimizer]]) -> dict[str, tuple[nn.Module, Optimizer]]:
    """By the class of the module, numbered where there are several."""
    named: dict[str, tuple[nn.Module, Optimizer]] = {}
    for model, optimizer in players:
        kind = type(model).__name__
        name, number = kind, 2
        while name in named:
            name, number = f"{kind} {number}", number + 1
        named[name] = (model, optimizer)
    return named
