"""Time that a test passes, and controllers that run in it one at a time: each stops where it sleeps, or at any moment before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fleet.errors import ConvoyError
from registry.leases import Held

BEGAN = 1_800_000_000.0
CHORES_SECONDS = 2.0
MOST_RESUMED = 2_000
"""How often controllers are let on within one passing of time; more is a loop that never sleeps long enough to end."""


class Killed(BaseException):
    """The process of a controller is gone: nothing of it does anything any more."""


class Clock:
    """Stands for the module `time`: what is set is the time of day, what only rises is steady."""

    def __init__(self) -> None:
        self.steady = 1_000.0
        self.ahead = BEGAN
        self.sleep: Callable[[float], None] = lambda _: None

    def time(self) -> float:
        return self.ahead + self.steady

    def monotonic(self) -> float:
        return self.steady

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)


class Run:
    """One controller: a flow in a thread of its own that is let on by `resume` and hands back where it sleeps.

    `left` is after how many more moments it halts in the middle of what it does; with `only` those of one kind count.
    """

    def __init__(self, act: Callable[[], object], now: float) -> None:
        self.wakes = now
        self.left: int | None = None
        self.only = ""
        self.frozen = self.halted = self.gone = self.ended = False
        self.problem: ConvoyError | None = None
        self._broken: BaseException | None = None
        self._act = act
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._body, daemon=True)
        self.thread.start()

    def resume(self) -> None:
        """Let it on until it sleeps, halts or ends; raises what a check in it found wrong."""
        if not self.ended:
            self.halted = False
            self._go.release()
            self._back.acquire()
        if self._broken is not None:
            broken, self._broken = self._broken, None
            raise broken

    def kill(self) -> None:
        """End it where it stands, as SIGKILL does."""
        self.gone = True
        self.resume()

    def moment(self, kind: str) -> None:
        """Halt here if so many moments were asked for; called by the run itself."""
        if self.gone:
            raise Killed
        if self.left is not None and self.only in ("", kind):
            self.left -= 1
            if self.left <= 0:
                self.left, self.halted = None, True
                self.rest()

    def rest(self) -> None:
        """Hand back, and go on once resumed."""
        self._back.release()
        self._go.acquire()
        if self.gone:
            raise Killed

    def _body(self) -> None:
        self._go.acquire()
        try:
            if not self.gone:
                self._act()
        except Killed:
            pass
        except ConvoyError as problem:
            self.problem = problem
        except BaseException as problem:  # noqa: BLE001 - it is raised where the run was let on
            self._broken = problem
        finally:
            self.ended = True
            self._back.release()


class Runs:
    """All controllers of one world, their leases' renewals, and what edges do by themselves, in the order of the clock."""

    def __init__(self, clock: Clock, chores: Callable[[], None]) -> None:
        self.clock = clock
        self.all: list[Run] = []
        self._chores = chores
        self._chores_due = clock.steady
        self._kept: list[tuple[Held, Run | None, list[float]]] = []
        clock.sleep = self._sleep

    @property
    def alive(self) -> list[Run]:
        return [run for run in self.all if not run.ended]

    def begin(self, act: Callable[[], object]) -> Run:
        run = Run(act, self.clock.steady)
        self.all.append(run)
        return run

    def here(self) -> Run | None:
        """Return the run that asks, None for the test itself."""
        mine = threading.current_thread()
        return next((run for run in self.all if run.thread is mine), None)

    def moment(self, kind: str) -> None:
        """A point at which a controller may be stopped or killed; `kind` says at what it is."""
        run = self.here()
        if run is not None:
            run.moment(kind)

    def keep(self, held: Held) -> None:
        """Renew a lease three times within its length, as long as its holder runs."""
        self._kept.append((held, self.here(), [self.clock.steady + held.lease.seconds / 3]))

    def leave(self, held: Held) -> None:
        self._kept = [kept for kept in self._kept if kept[0] is not held]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and whatever falls due in it happen, until a run halts; nobody who is frozen does anything."""
        end, resumed = self.clock.steady + seconds, 0
        while (due := min(self._next())) <= end:
            self.clock.steady = max(self.clock.steady, due)
            now = self.clock.steady
            if self._chores_due <= now:
                self._chores()
                self._chores_due = now + CHORES_SECONDS
            self._renew(now)
            for run in [run for run in self.alive if not run.frozen and run.wakes <= now]:
                resumed += 1
                assert resumed < MOST_RESUMED, "a controller turns round and round"
                run.resume()
                if run.halted:
                    return
        self.clock.steady = end

    def end(self) -> None:
        """End whatever still runs."""
        for run in self.alive:
            run.kill()

    def _next(self) -> list[float]:
        wakes = [run.wakes for run in self.alive if not run.frozen]
        return [self._chores_due, *wakes, *(due[0] for _, run, due in self._kept if run is None or not (run.frozen or run.ended))]

    def _renew(self, now: float) -> None:
        for held, run, due in list(self._kept):
            if run is not None and run.ended:
                self.leave(held)
            elif due[0] <= now and not (run is not None and run.frozen):
                due[0] = now + held.lease.seconds / 3
                if not held._renewed():
                    held.lost.set()

    def _sleep(self, seconds: float) -> None:
        run: Any = self.here()
        assert run is not None, "only a controller may wait"
        run.wakes = self.clock.steady + seconds
        run.rest()
