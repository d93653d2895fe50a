"""Workers on a Ray cluster: an actor for each, which holds the worker's process; knows Ray, alone.

An actor only carries: `work` streams what its worker says, `say` passes on what the head says. So a
worker is the same process as on one machine, with a main thread that signals reach, and ends with
its actor, because its pipe does; the actor ends with the driver. Ray restarts nothing and tries
nothing again: what a lost worker was at is planned anew by the head. Rejected: the engine inside
the actor (its methods run in threads, which no signal reaches, and Ray's own handlers are there).

Some names of Ray's are private, and used here alone: the back-pressure of generators, the draining
nodes, what prints a raylet's words, and what reads the token.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import platform
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil  # noqa: F401 - before Ray, which else brings its own
import ray
from ray._private import worker as ray_worker
from ray._private.state import state
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import RayError

from charsweep.config.settings.runtime import Runtime
from charsweep.core.errors import ConfigError
from charsweep.core.keys import differences
from charsweep.core.system.hardware import Card, find_card, processor
from charsweep.core.system.signals import delay_signals
from charsweep.core.system.versions import numerical_versions, source_digest
from charsweep.engine.messages import HALT, Hello, Lost, Message
from charsweep.engine.pipes import LOOK_SECONDS, Process
from charsweep.engine.units import MOST_LOSSES
from charsweep.plan.workers import TOKEN_REMEDY, has_token

OBJECTS = 300 << 20  # bytes of a local Ray's object store: pieces are fetched as they come
AHEAD = 4  # messages of a worker, and pieces for one, that lie unread in the object store
AT_ONCE = 64  # messages of one worker that are read before others'
LONGEST_TEMP = 40  # characters: Ray's sockets lie below it, and a socket's path holds 107


class Holder:
    """The actor: a worker's process, and the two ways of its pipe."""

    def about(self, device: str) -> dict[str, Any]:
        """What must be the same for all workers; what is this one's own comes under "own"."""
        card = find_card(device)
        is_cpu = card is None or card.device == "cpu"
        context = ray.get_runtime_context()
        own = {"host": platform.node(), "node": context.get_node_id(),
               "card": processor() if is_cpu or card is None else card.name}  # fmt: skip
        return {**what_must_agree(), "own": own}

    def card(self, device: str) -> Card | None:
        """The card that work is done on."""
        return find_card(device)

    def work(self, threads: int | None) -> Iterator[bytes]:
        """Start the worker; all that it says."""
        sys.path[:] = [path for path in sys.path if "thirdparty_files" not in path]  # Ray's own
        self.process = Process(threads)
        with contextlib.suppress(EOFError, OSError):
            while True:
                yield self.process.connection.recv_bytes()
        yield pickle.dumps(Lost(self.process.end))

    def say(self, said: bytes) -> None:
        """Pass it on; what has ended meanwhile is noticed elsewhere."""
        while not hasattr(self, "process"):  # `work` is on its way
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            self.process.connection.send_bytes(said)


class Link:
    """The head's end of the way to an actor's worker."""

    def __init__(self, actor: Any, about: dict[str, Any], threads: int | None) -> None:
        self.actor, self.place, self.node = actor, about["own"]["host"], about["own"]["node"]
        streaming = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        self.said = actor.work.options(**streaming).remote(threads)
        self._unread: list[Any] = []

    def send(self, said: Any) -> None:
        with delay_signals():
            self._send(said)

    def halt(self) -> None:
        self._send(HALT)

    def _send(self, said: Any) -> None:
        with contextlib.suppress(RayError):
            self._unread.append(self.actor.say.remote(pickle.dumps(said)))
            if len(self._unread) > AHEAD:
                _, self._unread = ray.wait(self._unread, num_returns=len(self._unread) - AHEAD)

    def leave(self) -> None:
        """Its worker ends with it; the machine is free for another."""
        with contextlib.suppress(RayError):
            ray.kill(self.actor)

    def read(self) -> Iterator[Message]:
        """What has been said since; nothing comes after `Lost`."""
        try:
            for _ in range(AT_ONCE):
                message: Message = pickle.loads(ray.get(next(self.said)))
                yield message
                if isinstance(message, Lost) or not ray.wait([self.said], timeout=0)[0]:
                    return
        except StopIteration:
            yield Lost("ended")
        except RayError as error:
            yield Lost(f"was lost: {reason_of(error)}")


class RayCluster:
    """Hires an actor for every card of a cluster, or for so many CPU threads; or a number of them.

    `cluster`: "local" starts Ray on this machine, "auto" finds the one that runs here.
    """

    shares_store, replaces = False, True

    def __init__(self, runtime: Runtime, count: int, threads: int, say: Any) -> None:
        self.runtime, self.threads, self._local, self._say = runtime, threads, count, say
        self.address = runtime.cluster or "local"
        self.kind: dict[str, Any] | None = None  # what the first worker said of its card
        self.links: list[Link] = []
        self._asked: dict[Any, Any] = {}  # actors by the reference of what they will say first
        self._refused: list[Any] = []  # actors that keep a place from being asked again
        self._failures = 0  # to start an actor
        self._temporary: str | None = None
        self._connect()
        with_cards = runtime.device != "cpu" and any(self._each("GPU"))
        self.on_cpu = not with_cards and runtime.device in ("auto", "cpu")
        self.resource, self.each = ("CPU", threads) if self.on_cpu else ("GPU", 1)

    # -- the cluster -------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Start Ray, or join what runs; ConfigError in one message where that cannot be done."""
        if ray.is_initialized():
            return
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        ray_worker.print_to_stdstream = _say_nothing  # who is lost is said by us
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        before = signal.getsignal(signal.SIGTERM)  # Ray has one of its own
        try:
            if self.address == "local":
                self._start_here()
            else:
                with_token("token" if has_token() else "disabled")
                ray.init(address=self.address, log_to_driver=False, configure_logging=False)
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            self.close()
            raise ConfigError(refusal(self.address, error)) from error
        finally:
            signal.signal(signal.SIGTERM, before)

    def _start_here(self) -> None:
        """A Ray of our own: its token is nobody else's, and it ends with this process."""
        with_token("token", secrets.token_hex(32))
        place = tempfile.gettempdir()
        place = place if len(place) <= LONGEST_TEMP else "/tmp"
        self._temporary = tempfile.mkdtemp(prefix="charsweep-ray-", dir=place)
        ray.init(
            address="local", num_cpus=self._local * self.threads, include_dashboard=False,
            log_to_driver=False, configure_logging=False, object_store_memory=OBJECTS,
            _temp_dir=self._temporary,
        )  # fmt: skip

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        for link in self.links:
            link.leave()
        self.links, self._asked, self._refused = [], {}, []
        ray.shutdown()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _each(self, resource: str) -> list[float]:
        """What every machine has of that which stays."""
        draining = state.get_draining_nodes()
        return [
            node["Resources"].get(resource, 0.0)
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"] and node["NodeID"] not in draining
        ]

    @property
    def count(self) -> int:
        """As many as asked for, or as there is room for."""
        if self.address == "local":
            return self._local
        return self.runtime.workers or max(1, self._room)

    @property
    def _room(self) -> int:
        return sum(int(number // self.each) for number in self._each(self.resource))

    @property
    def why_nobody(self) -> str:
        if self.links:
            return "workers are starting"
        what = "card" if self.resource == "GPU" else f"machine with {self.each} CPU(s)"
        return f"the Ray cluster has no free {what}; the work begins when one joins"

    # -- who works ---------------------------------------------------------------------------------

    def hire(self, hello: Hello) -> list[Link]:
        """Those whose machine has taken them, and who are what the others are."""
        self._connect()
        known = len(self.links) + len(self._asked)
        wanted = self.count if self.runtime.workers else self.count - len(self._refused)
        for _ in range(wanted - known):
            actor = self.make_actor()
            self._asked[actor.about.remote("cpu" if self.on_cpu else "auto")] = actor
        new = []
        if self._asked:
            ready, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
            new = [link for ref in ready if (link := self._welcome(ref, self._asked.pop(ref)))]
        for link in new:
            link.send(hello)
        self.links += new
        return new

    def make_actor(self) -> Any:
        cpus, gpus = (self.each, 0) if self.on_cpu else (0, 1)
        kind: Any = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0
        )(Holder)  # fmt: skip
        return kind.options(max_concurrency=2).remote()

    def _welcome(self, ref: Any, actor: Any) -> Link | None:
        """The link to somebody who is like us and the others; ConfigError for the first who is not,
        later ones are passed over."""
        try:
            about = ray.get(ref)
        except RayError as error:  # another is asked for instead
            self._failures += 1
            if self.kind is None and self._failures == MOST_LOSSES:
                raise ConfigError(not_started(error)) from error
            return None
        own, same = about["own"], {name: about[name] for name in about if name != "own"}
        unlike = list(differences(same, what_must_agree()))
        if self.kind and own["card"] != self.kind["card"]:
            unlike.append(f"card: {own['card']} instead of {self.kind['card']}")
        if unlike:
            why = f"{own['host']} is not as the others ({'; '.join(unlike)})"
            self._refused.append(actor)
            if self.kind is None:
                raise ConfigError(
                    f"runtime.cluster={self.address}: {why}; a trajectory of two could not be "
                    "repeated: install the same there, or take that machine out"
                )
            self._say(f"{why}; it is not worked on")
            return None
        self.kind = own
        return Link(actor, about, self.threads if self.on_cpu else None)

    def hear(self, links: Sequence[Link]) -> list[tuple[Link, Message]]:
        """What they say within a moment."""
        if not links:
            time.sleep(LOOK_SECONDS)
            return []
        said = [link.said for link in links]
        ready, _ = ray.wait(said, num_returns=1, timeout=LOOK_SECONDS)
        if ready:
            ready, _ = ray.wait(said, num_returns=len(said), timeout=0)
        heard = [(link, message) for link in links if link.said in ready for message in link.read()]
        for link, message in heard:
            if isinstance(message, Lost):
                self.links.remove(link)
        return heard

    def leaving(self, links: Sequence[Link]) -> list[Link]:
        """Those on machines that are being drained."""
        draining = state.get_draining_nodes()
        return [link for link in links if link.node in draining]


def _say_nothing(*_: Any, **__: Any) -> None:
    pass


def with_token(mode: str, token: str | None = None) -> None:
    """Have Ray show a token, or none; it read the environment when it was imported."""
    os.environ |= {"RAY_AUTH_MODE": mode, **({"RAY_AUTH_TOKEN": token} if token else {})}
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def card_there(runtime: Runtime) -> Card | None:
    """The card of a cluster's workers, of which the machine of the command knows nothing."""
    cluster = RayCluster(runtime, 1, 1, print)
    actor = cluster.make_actor()
    try:
        found: Card | None = ray.get(actor.card.remote("cpu" if cluster.on_cpu else "auto"))
    except RayError as error:
        raise ConfigError(not_started(error)) from error
    finally:
        ray.kill(actor)
    return found


def what_must_agree() -> dict[str, Any]:
    """What would make two workers' results differ, or keep them from understanding each other."""
    from charsweep import __version__

    versions = {"charsweep": __version__, "source": source_digest(), **numerical_versions()}
    return {**versions, "python": platform.python_version()}


def not_started(error: BaseException) -> str:
    """What is said where no actor starts."""
    return (
        f"no worker can be started on the Ray cluster: {reason_of(error)}; install charsweep "
        "there, in the same version as here"
    )


def reason_of(error: BaseException) -> str:
    """The sentence of Ray's words that says why: "its node has died"."""
    text = str(error)
    if found := re.search(r"The actor (?:is dead|died) because (.+?)(?:\. |\.?$)", text, re.M):
        return found[1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error:" in line]
    return (errors or lines or [type(error).__name__])[0][:300].rstrip(".")


def refusal(address: str, error: BaseException) -> str:
    """Why a cluster cannot be joined, and what to do."""
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        why = "other versions of Ray or Python run there: install the same, to the patch"
        return f"runtime.cluster={address}: {why} ({text[:300]})"
    if address == "local":
        return f"runtime.cluster=local: Ray does not start here ({text[:300]})"
    return (
        f"runtime.cluster={address}: no Ray that takes us answers there ({text[:160]}); "
        f"{TOKEN_REMEDY}"
    )
