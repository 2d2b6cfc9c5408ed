"""The watch: looks at a training loop from outside, a few steps closely and all others not at all."""

from __future__ import annotations

import math
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sounding.errors import UserError
from sounding.finding import Finding
from sounding.watching import probes
from sounding.watching.experiments import BrokenOffError, Laboratory, apart
from sounding.watching.flow import flow_of
from sounding.watching.graph import Graph, named_parameters
from sounding.watching.over_time import over_time
from sounding.watching.rule import Rule
from sounding.watching.rules import RULES, in_order
from sounding.watching.seen import KEPT_BYTES, Lost, Seen, Step, Validation
from sounding.watching.tape import Recorder, Weight

FIRST = 6
"""Steps at the beginning that are all looked at."""
SPARSER = 6
"""After that, the next one comes when this part of all steps so far has passed: what was found does not depend on how
busy the machine is, and long runs are looked at no more than short ones, nearly ..."""
SETTLED = 500
"""... but after so many steps only where the run is in trouble; else when the steps have doubled."""
SHARE = 0.02
"""Of the CPU time that has passed, what looking at steps may take at the very most: how busy the machine is with other
work is to change nothing ..."""
ALLOWANCE = 1.0
"""... beside so many seconds."""
SPARING_FIRST = 3
"""Steps at the beginning that a sparing watch looks at; after them, the next one comes when the steps have doubled."""
TROUBLED, HEADWAY = 60, 0.1
"""After so many steps with less of the loss gone a run is in trouble."""
LONG_ENOUGH = 100
"""Steps after which two more, to see how gradients went over time, hardly count."""
EXPERIMENTS, EXPERIMENTS_ALLOWANCE = 0.05, 20.0
"""Of the time that has passed, what experiments may take beside so many seconds, where a run is in trouble ..."""
CALM, CALM_ALLOWANCE = 0.01, 0.5
"""... and where it is not: the next one, as long as it is expected to be, has to fit in."""

_active: list[Watch] = []
_plain_backward = torch.autograd.backward


def watch(
    model: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
    optimizer: Optimizer | Sequence[Optimizer] | Mapping[str, Optimizer],
    *,
    say: Callable[[str], None] | None = lambda line: print(line, file=sys.stderr),
    sparing: bool = False,
    is_told: bool = False,
) -> Watch:
    """Watch a training loop; nothing in it has to change.

    model, optimizer: what the loop trains; for several players (a generator and its discriminator) sequences or
                      mappings of them, in the same order or under the same names.
    say:              is told of each warning and error when it arises, and of all findings at the end; none keeps
                      silent.
    sparing:          look seldom, and experiment only where the run is in trouble: for loops that are mostly healthy.
    is_told:          the loop calls `stepped` after each step, so that between looks no hook has to see it.

    Raises:
        UserError: where models and optimizers do not match.

    >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    >>> with watch(model, optimizer, say=None) as w:
    ...     for _ in range(5):
    ...         loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
    ...         loss.backward()
    ...         optimizer.step()
    >>> w.findings[0].rule
    'zero_grad_missing'
    """
    models, optimizers = _named(model), _named(optimizer)
    if list(models) != list(optimizers):
        raise UserError(
            f"the watch was given the models {', '.join(models)} and the optimizers {', '.join(optimizers)}",
            "give one optimizer for each model, under the same names",
        )
    return Watch(models, optimizers, say=say, sparing=sparing, is_told=is_told)


def _named(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, Sequence):
        return {f"player {number}": one for number, one in enumerate(given, start=1)}
    return {"model": given}


class Watch:
    """Sees a loop through hooks, and says what is wrong with it; a context manager, see `watch`."""

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        *,
        rules: Iterable[type[Rule]] = RULES,
        say: Callable[[str], None] | None = None,
        sparing: bool = False,
        is_told: bool = False,
    ) -> None:
        self._sparing, self._is_told = sparing, is_told
        self.patient = False
        """Whether looking and experimenting take as long as they do: what is found depends on no clock then."""
        self.scale_of: Callable[[str], float] = lambda player: 1.0
        """What a player's loss is multiplied by before its backward pass, as it is for float16."""
        self.is_urgent: Callable[[], bool] = lambda: False
        """Whether the loop waits for its turn: experiments are then broken off between two of their steps."""
        self._models = dict(models)
        self._say = say
        self._asked = [rule.looks_at for rule in rules]
        self._rules = {name: [rule() for rule in rules] for name in models}
        self._found: list[Finding] = []
        self.players = {name: Seen(name, models[name], optimizers[name]) for name in models}
        """What was seen of each, by name."""
        for seen in self.players.values():
            seen.others = [other for other in self.players.values() if other is not seen]
            seen.laboratory = Laboratory(self._models, seen)
            seen.laboratory.is_broken_off = lambda: self.is_urgent()
        self._due = Counter[str]()  # by player: the steps after which to think again about looking closely
        self._names = named_parameters(self._models)
        self._handles: list[Any] = []
        self._close_handles: dict[str, list[Any]] = {name: [] for name in models}
        self._before_handles: list[Any] = []  # while anybody's step is looked at
        self._pending: list[Tensor | float] = []
        self._recorder: Recorder | None = None
        self._listening: Recorder | None = None  # to a validation
        self._records_early = False  # from the step before on, not only from the call of the model
        self._close: set[str] = set()  # players whose coming step is looked at
        self._stepped = Counter[str]()  # by player: steps that were seen and not told yet; a GPU's come several at once
        self._notes: dict[str, probes.Notes] = {}
        self._spent, self._began = 0.0, 0.0
        self._a_step, self._noted = math.inf, 0.0  # seconds of the fastest step so far, and when the last one was done

    # What the user calls.

    @property
    def findings(self) -> list[Finding]:
        """All findings: errors before warnings before the rest, and causes before what follows from them."""
        return in_order(self._found)

    def flow(self) -> dict[str, Any]:
        """How gradients, updates and activations went in each layer: plain JSON values, by player as `flow_of` says."""
        players = {name: flow_of(seen) for name, seen in self.players.items()}
        return {"looked_for": self._asked, "players": players}

    def loss(self, value: Tensor | float) -> None:
        """Tell the loss of the coming step, where no backward pass shows it."""
        self._pending.append(torch.as_tensor(value).detach())

    def stepped(self, player: str, loss: float, rate: float) -> None:
        """Tell of a step that is done, in a loop that reads its loss anyway."""
        if self._stepped[player]:
            self._stepped[player] -= 1
        else:
            self._note_step(self.players[player], loss, rate)
            if player in self._close:  # the optimizer left it out, as a scaler does where gradients overflow
                self._look_anew()
            elif self._is_time(self.players[player]):
                self._attach()
                self._look_closely(player)
        if not self._close:
            self._detach()

    def renew(self, optimizers: Mapping[str, Optimizer]) -> None:
        """Optimizers take the place of those there were, by player; a step that was begun is forgotten."""
        self._detach()
        for name, optimizer in optimizers.items():
            self.players[name].optimizer = optimizer
        self._attach()
        self._look_anew()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """See what happens inside, such as a validation, also where no step is looked at."""
        self._attach()
        try:
            yield
        finally:
            if self._is_told and not self._close:
                self._detach()

    def validation(
        self, loss: Tensor | float, *, score: Tensor | float | None = None, higher_is_better: bool = True
    ) -> None:
        """Tell the loss on rows that are not trained on, where the watch cannot see it.

        score: what the answers for these rows are judged by. Where it is told, a loss that rises is no harm as long as
               the score does not get worse.
        """
        seen = next(iter(self.players.values()))
        self._stop_listening()
        if not seen.validations or seen.validations[-1].step != seen.done:
            seen.validations.append(Validation(seen.done))
        latest = seen.validations[-1]
        latest.told, latest.higher_is_better = float(loss), higher_is_better
        latest.score = None if score is None else float(score)
        self._judge(seen)

    def __enter__(self) -> Watch:
        """Begin to watch."""
        self._began = time.thread_time()
        self._attach()
        for name, seen in self.players.items():
            seen.laboratory.keep_start()
            self._look_closely(name)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End: take all hooks off, and say what was found."""
        self._detach()
        if self._recorder is not None:
            self._recorder.end()
            self._recorder = None
        for handle in (one for several in self._close_handles.values() for one in several):
            handle.remove()
        self._close_handles.clear()
        self._stop_recording()
        self._notes.clear()  # they hold the last batch
        for seen in self.players.values():
            seen.graph = None
            if kind is None:
                seen.ended = True
                if self.patient or seen.done >= LONG_ENOUGH:
                    seen.over_time = over_time(seen)
                self._judge(seen)
        if self._say is not None:
            self._say(self.summary())

    def _attach(self) -> None:
        """See every call of the models, every backward pass and every step."""
        if self in _active:
            return
        for name, seen in self.players.items():
            self._handles.append(seen.model.register_forward_hook(self._forward_hook(name), with_kwargs=True))
            if seen.optimizer is not None:
                self._handles.append(seen.optimizer.register_step_post_hook(self._step_hook(name)))
        if not _active:
            torch.autograd.backward = _watched_backward
        _active.append(self)

    def _detach(self) -> None:
        """See nothing, at no cost."""
        if self not in _active:
            return
        self._stop_listening()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        _active.remove(self)
        if not _active:
            torch.autograd.backward = _plain_backward

    def summary(self) -> str:
        """All findings, a line each; or that there are none, and what was looked at."""
        looked = sum(len(seen.steps) for seen in self.players.values())
        steps = sum(seen.done for seen in self.players.values())
        if not self._found:
            looked_for = "; ".join(self._asked)
            text = f"watch: nothing found in {steps} steps, {looked} of them looked at closely, for: {looked_for}"
            return textwrap.fill(text, 120, subsequent_indent="  ")
        return "\n".join(f"watch: {told(finding)}" for finding in self.findings)

    # What hooks tell.

    def _forward_hook(self, name: str) -> Callable[..., None]:
        def forward(module: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
            if apart.depth:
                return
            if not torch.is_grad_enabled():
                self._validated(name, args, kwargs, outputs)
                return
            if self._listening is not None:
                self._stop_listening()
            self._notes_of(name).inputs = (args, kwargs)
            if (recorder := self._recorder) is not None and self._close:
                recorder.inside = max(recorder.inside - 1, 0)
                recorder.called(name, args, kwargs, outputs)
                recorder.begin()

        return forward

    def _before_forward_hook(self) -> Callable[..., None]:
        def before(module: nn.Module, args: Any) -> None:  # a function: a method would be copied with the model
            if apart.depth or not torch.is_grad_enabled() or self._recorder is None:
                return
            if self._recorder.tape.random is None:
                self._recorder.tape.random = torch.get_rng_state()
            self._recorder.inside += 1

        return before

    def _before_backward(self, root: Tensor) -> None:
        if root.device.type == "cpu" and root.numel() == 1:
            value = root.item()
            self._pending.append(value)
            if not math.isfinite(value):
                self._lost(root)
        else:  # to be read after the step
            self._pending.append(root.detach())
        if not self._close:
            return
        began = time.thread_time()
        if self._recorder is not None:
            self._recorder.ended_in(root)
            self._recorder.end()
        graph = Graph(root, self._names)
        for name in self._close:
            seen, notes = self.players[name], self._notes_of(name)
            notes.note_before(seen)
            reached = [own for own in graph.used if len(self.players) == 1 or own.startswith(f"{name}.")]
            if seen.graph is None or reached:
                seen.graph = graph
                notes.note_graph(graph)
        self._spent += time.thread_time() - began

    def _after_backward(self) -> None:
        if self._close:
            began = time.thread_time()
            for name in self._close:
                self._notes_of(name).note_after(self.players[name])
            self._spent += time.thread_time() - began

    def _before_step_hook(self, name: str) -> Callable[..., None]:
        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if not apart.depth:
                self._notes_of(name).note_before_step(self.players[name])

        return before

    def _step_hook(self, name: str) -> Callable[..., None]:
        seen = self.players[name]

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if apart.depth:
                return
            pending = self._pending
            if isinstance(optimizer, torch.optim.LBFGS):  # which asks for the loss several times in a step
                del pending[1:]
            loss = float(sum(one if isinstance(one, float) else one.sum() for one in pending)) / self.scale_of(name)
            self._note_step(seen, loss, optimizer.param_groups[0]["lr"])
            if self._is_told:
                self._stepped[name] += 1
            if name in self._close:
                self._looked(name)
            elif self._is_time(seen):
                self._look_closely(name)
            pending.clear()
            for other in self._close - {name}:  # what the backward passes so far left belongs to this step
                self._notes_of(other).backwards = 0

        return after

    def _note_step(self, seen: Seen, loss: float, rate: float) -> None:
        now = time.thread_time()
        if seen.losses:
            self._a_step = min(self._a_step, now - self._noted)
        self._noted = now
        seen.losses.append(loss)
        seen.rates.append(rate)
        if not math.isfinite(loss) and seen.lost is None:  # not seen before the step, as on a GPU
            seen.lost = Lost(seen.done, "the loss", "", [])

    # Looking closely at a step.

    def _is_time(self, seen: Seen) -> bool:
        """Whether the coming step is to be looked at."""
        done = seen.done
        if not seen.steps or done < (SPARING_FIRST if self._sparing else FIRST):
            return True
        doubled = 2 * (seen.last.number + 1)
        if self._sparing:
            return done >= doubled
        if done < self._due[seen.name] or done - seen.last.number < max(done // SPARSER, 1):
            return False
        if SETTLED < done < doubled and not _is_in_trouble(seen):
            self._due[seen.name] = done + done // SPARSER
            return False
        return self.patient or self._spent < SHARE * (time.thread_time() - self._began) + ALLOWANCE

    def _look_closely(self, name: str) -> None:
        seen = self.players[name]
        self._close.add(name)
        self._notes[name] = probes.Notes()
        if self._recorder is None:
            self._recorder = Recorder(self._weights())
        if self._records_early:
            self._recorder.begin()
        if not self._before_handles:
            before = self._before_forward_hook()
            self._before_handles = [model.register_forward_pre_hook(before) for model in self._models.values()]
        handles = []
        if seen.optimizer is not None:
            handles.append(seen.optimizer.register_step_pre_hook(self._before_step_hook(name)))
        if len(seen.steps) < 2:
            handles += [
                module.register_forward_hook(self._called_hook(seen, own))
                for own, module in seen.model.named_modules()
                if any(True for _ in module.parameters(recurse=False))
            ]
        self._close_handles[name] = handles

    def _look_anew(self) -> None:
        """What was seen of the coming step so far is of one that is not made."""
        self._pending.clear()
        if self._recorder is not None:
            self._recorder.end()
            self._recorder = None
        for name in list(self._close):
            for handle in self._close_handles[name]:
                handle.remove()
            self._look_closely(name)

    def _called_hook(self, seen: Seen, name: str) -> Callable[..., None]:
        def called(module: nn.Module, args: Any, outputs: Any) -> None:
            if not apart.depth and torch.is_grad_enabled():
                seen.called.add(name)

        return called

    def _looked(self, name: str) -> None:
        """The step is done: put together what was seen, and let the rules judge."""
        began = time.thread_time()
        seen, notes = self.players[name], self._notes.pop(name)
        self._close.discard(name)
        for handle in self._close_handles[name]:
            handle.remove()
        self._close_handles[name] = []
        step = notes.step_of(seen, backwards=len(self._pending))
        if self._recorder is not None:
            recorder, self._recorder = self._recorder, None
            recorder.end()
            if self._close:  # another player is looked at, too
                self._recorder = Recorder(self._weights())
            self._keep(seen, recorder, step)
        if notes.inputs is not None:
            seen.trained_rows.update(probes.fingerprints(*notes.inputs))
        seen.steps.append(step)
        self._spent += time.thread_time() - began
        self._judge(seen)
        seen.graph = None
        if self._is_time(seen):
            self._look_closely(name)
        if not self._close:
            self._stop_recording()

    def _stop_recording(self) -> None:
        for handle in self._before_handles:
            handle.remove()
        self._before_handles.clear()

    def _keep(self, seen: Seen, recorder: Recorder, step: Step) -> None:
        recorder.forget()
        if self._records_early:
            recorder.tape.prune()
        self._records_early = self._records_early or recorder.is_late
        recorder.tape.loss, recorder.tape.size = step.loss, recorder.tape.measure()
        if recorder.tape.is_whole:
            seen.tapes.append(recorder.tape)
            while len(seen.tapes) > 1 and sum(tape.size for tape in seen.tapes) > KEPT_BYTES:
                seen.tapes.popleft()
        seen.calls, seen.combined = recorder.losses, recorder.combined
        if recorder.losses:
            recorder.tape.target = recorder.losses[-1].target
            seen.targets.append(recorder.losses[-1].target)

    def _weights(self) -> dict[int, Weight]:
        return {
            id(tensor): Weight(player, name)
            for player, model in self._models.items()
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        }

    def _notes_of(self, name: str) -> probes.Notes:
        if name not in self._notes:
            self._notes[name] = probes.Notes()
        return self._notes[name]

    # Validation, and what is lost.

    def _validated(self, name: str, args: Any, kwargs: Any, outputs: Any) -> None:
        """A forward pass without gradients."""
        seen = self.players[name]
        if not seen.done or (name in self._close and self._pending):  # before training, or within a step
            return
        self._stop_listening()
        if not seen.validations or seen.validations[-1].step != seen.done:
            seen.validations.append(Validation(seen.done, training_modules=probes.modes(seen.model)))
        if len(seen.validations) == 1:
            seen.validations[0].rows.append(probes.fingerprints(args, kwargs))
        self._listening = Recorder({})
        self._listening.called(name, args, kwargs, outputs)
        self._listening.begin()

    def _stop_listening(self) -> None:
        """Take over what the validation batch of late showed."""
        if (recorder := self._listening) is None:
            return
        self._listening = None
        recorder.end()
        name = next(entry.run for entry in recorder.tape.entries if isinstance(entry.run, str))
        validation = self.players[name].validations[-1]
        for call in recorder.losses[-1:]:
            if call.value.numel() == 1:
                validation.losses.append(float(call.value))
                validation.sizes.append(len(call.target) if call.target.ndim else 1)
            if (answers := call.answers()) is not None:
                validation.outputs.append(answers.cpu())
                validation.targets.append((call.target if call.classes else (call.target > 0.5).long()).cpu())
        recorder.forget()

    def _lost(self, root: Tensor) -> None:
        """The loss is not a number: find out where that began, while the weights are still those of this step."""
        for name, seen in self.players.items():
            if seen.lost is None and (inputs := self._notes_of(name).inputs) is not None:
                seen.lost = probes.trace(seen, inputs, root)
                self._judge(seen)

    # Judging.

    def _judge(self, seen: Seen) -> None:
        with self._recorder.paused() if self._recorder is not None else nullcontext():
            self._judge_by_rules(seen)

    def _judge_by_rules(self, seen: Seen) -> None:
        laboratory, in_trouble = seen.laboratory, _is_in_trouble(seen)
        for rule in list(self._rules[seen.name]):
            if (seen.others and rule.goes_by_loss) or (seen.lost is not None and not rule.asked_when_lost):
                continue
            in_time = self.patient or self._is_affordable(seen, rule.experiment, in_trouble=in_trouble)
            laboratory.may_look = in_trouble or not self._sparing
            laboratory.is_open = in_time and (in_trouble or not self._sparing)
            try:
                finding = rule.check(seen)
            except BrokenOffError:
                return
            if finding is None:
                continue
            self._rules[seen.name].remove(rule)
            self._found.append(finding)
            if self._say is not None and finding.severity != "info":
                self._say(f"watch: step {seen.done}: {told(finding)}")

    def _is_affordable(self, seen: Seen, steps: int, *, in_trouble: bool) -> bool:
        """Whether there is time for another experiment of so many steps."""
        passed, spent = time.thread_time() - self._began, seen.laboratory.seconds
        if in_trouble:
            return spent < EXPERIMENTS_ALLOWANCE + EXPERIMENTS * passed
        a_step = self._a_step if math.isfinite(self._a_step) else passed
        return spent + steps * a_step < CALM_ALLOWANCE + CALM * passed


def _is_in_trouble(seen: Seen) -> bool:
    """Whether a run is lost, has got worse than it began, or does not get anywhere."""
    stands_still = seen.done >= TROUBLED and seen.headway() < HEADWAY and not seen.is_falling()
    return seen.lost is not None or stands_still or seen.has_risen()


def told(finding: Finding) -> str:
    """A finding in one line."""
    remedy = f"; {finding.remedy.text}" if finding.remedy is not None else ""
    return f"{finding.severity} {finding.rule}: {finding.title}{remedy}"


def _watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.autograd.backward`, with every active watch told before and after."""
    if apart.depth:
        _plain_backward(tensors, *args, **kwargs)
        return
    root = tensors if isinstance(tensors, Tensor) else next(iter(tensors))
    for one in _active:
        one._before_backward(root)
    _plain_backward(tensors, *args, **kwargs)
    for one in _active:
        one._after_backward()
