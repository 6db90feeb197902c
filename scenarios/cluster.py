"""The engine on Ray: a Ray of this machine, or a cluster whose nodes share a file system.

Ray schedules, spreads the resources and retries the runs of lost workers. A task carries no data:
it works in its run folder, from the last checkpoint in it, so that it can be started anywhere and
any number of times. Ray is imported only here.
"""

import os
import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib import import_module
from math import nan
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ..formats.errors import InputError
from .engine import Task, cores
from .execution import Outcome
from .folder import RunFolder
from .storage import make_folder, write_bytes
from .study import Study
from .training import Report

#: How often Ray starts a run again whose worker or node was lost.
RETRIES = 20
STARTS = 3  # attempts to start or join
POST_EVERY = 0.5  # seconds between two messages of a worker
STORE = 100_000_000  # bytes of shared memory for a Ray started here; tasks put nothing there


@dataclass(frozen=True)
class Place:
    """What every node must see alike: the folder of the command, and a token in the out folder."""

    directory: str
    token: Path
    secret: str

    def enter(self) -> None:
        """Go there, so that relative paths mean what they mean to the command.

        Raises:
            InputError: this node does not see the same files.
        """
        try:
            shared = self.token.read_text() == self.secret
        except OSError:
            shared = False
        if not shared:
            raise InputError(
                f"{self.token.parent}: node {os.uname().nodename} does not see this folder as the "
                "command does: choose an --out on a file system that all nodes share"
            )
        if Path(self.directory).is_dir():
            os.chdir(self.directory)


class Bulletin:
    """The actor that holds the progress of the runs under way and whether they are to stop."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, float]] = {}
        self.stopping = False

    def post(self, index: int, step: int, loss: float) -> bool:
        """Publish the progress of run `index`; the answer is whether it is to stop."""
        self.rows[index] = (step, loss)
        return self.stopping

    def read(self, ended: list[int], stopping: bool) -> dict[int, tuple[int, float]]:
        """The rows of all runs but those that have ended; told again in case it was restarted."""
        self.stopping = stopping
        for index in ended:
            self.rows.pop(index, None)
        return self.rows


class RayEngine:
    """A Ray cluster; each run gets the resources that the scenario declares."""

    def __init__(self, address: str, study: Study, jobs: int | None) -> None:
        self.ray = _import_ray()
        self.address, self.study, self.jobs = address, study, jobs
        self.stopping = False
        self.ended: set[int] = set()
        self.references: dict[int, Any] = {}
        self.rows: Mapping[int, tuple[int, float]] = {}
        self.reply: Any = None

    def __enter__(self) -> Self:
        ray, resources = self.ray, self.study.resources
        self.connected = not ray.is_initialized()
        if self.connected:
            self._connect()
        out = self.study.path.parent.resolve()
        secret = secrets.token_hex(16)
        self.place = Place(str(Path.cwd()), out / f".token-{secret[:8]}", secret)
        make_folder(out)
        write_bytes(self.place.token, secret.encode())
        self.bulletin = ray.remote(num_cpus=0, max_restarts=-1)(Bulletin).remote()
        self.work = ray.remote(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_retries=RETRIES,
            retry_exceptions=False,
        )(_work_on_node)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.place.token.unlink(missing_ok=True)
        self.ray.kill(self.bulletin)
        if self.connected:
            self.ray.shutdown()

    def submit(self, task: Task) -> "Future[Outcome]":
        here = replace(task, folder=RunFolder(task.folder.path.resolve()))
        reference = self.work.remote(here, self.place, self.study.resources.cpus, self.bulletin)
        self.references[task.index] = reference
        self.ended.discard(task.index)
        answer: Future[Outcome] = Future()

        def settle(done: "Future[Outcome]") -> None:
            self.ended.add(task.index)
            self.references.pop(task.index, None)
            answer.set_result(_outcome_of(done, self.stopping))

        reference.future().add_done_callback(settle)
        return answer

    def progress(self) -> Mapping[int, tuple[int, float]]:
        if self.reply is not None and self.ray.wait([self.reply], timeout=0)[0]:
            try:
                self.rows = self.ray.get(self.reply)
            except self.ray.exceptions.RayError:
                self.rows = {}  # the actor was lost and comes back empty
            self.reply = None
        if self.reply is None:
            self.reply = self.bulletin.read.remote(list(self.ended), self.stopping)
        return {index: row for index, row in self.rows.items() if index in self.references}

    def stop(self) -> None:
        self.stopping = True
        self.bulletin.read.remote(list(self.ended), True)

    def kill(self) -> None:
        self.stopping = True
        for reference in list(self.references.values()):
            self.ray.cancel(reference, force=True)

    def _connect(self) -> None:
        """Join the cluster, or this machine's, or start one here that ends with this process."""
        quiet = {"log_to_driver": False, "logging_level": "error"}
        if self.address != "ray":
            if self.jobs is not None:
                raise InputError("jobs: the cluster decides by [resources] how many runs it takes")
            self._init(address=self.address, **quiet)
            return
        # Asked for before Ray reads it: a study of a chip is nobody else's business.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self.ray.init(address="auto", **quiet)
        except ConnectionError:
            resources = self.study.resources
            width = self.jobs * resources.cpus if self.jobs else max(cores(), resources.cpus)
            self._init(num_cpus=width, include_dashboard=False, object_store_memory=STORE, **quiet)
            self._refuse_too_few_gpus()

    def _init(self, **options: Any) -> None:
        """Start or join; on a busy machine Ray now and then gives up on its own processes."""
        for attempt in range(1, STARTS + 1):
            try:
                self.ray.init(**options)
                return
            except Exception as error:  # Ray raises that very class where a start takes too long
                self.ray.shutdown()
                if attempt == STARTS or isinstance(error, ConnectionError | ValueError):
                    reason = " ".join(str(error).split())[:300]
                    told = f'engine = "{self.address}" cannot be reached: {reason}'
                    raise InputError(told) from None

    def _refuse_too_few_gpus(self) -> None:
        count, each = self.ray.cluster_resources().get("GPU", 0), self.study.resources.gpus
        if count < each:
            self.ray.shutdown()
            raise InputError(f"resources gpus = {each}: Ray sees {count:g} on this machine")


@dataclass
class Messenger:
    """Tells the bulletin how a run stands, now and then, and hears whether it is to stop.

    The bulletin is for looking at: when it is lost, the run goes on.
    """

    ray: Any
    bulletin: Any
    index: int
    reply: Any = None
    posted: float = float("-inf")
    stopping: bool = False

    def __call__(self, step: int, loss: float) -> bool:
        now = monotonic()
        try:
            if self.reply is not None and self.ray.wait([self.reply], timeout=0)[0]:
                self.stopping, self.reply = self.ray.get(self.reply), None
            if self.reply is None and now - self.posted >= POST_EVERY:
                self.reply, self.posted = self.bulletin.post.remote(self.index, step, loss), now
        except self.ray.exceptions.RayError:
            self.reply = None
        return self.stopping

    def ask(self) -> bool:
        """Whether to stop before the first step."""
        self(0, nan)
        self.ray.wait([self.reply], timeout=10)
        return self(0, nan)


def _work_on_node(task: Task, place: Place, threads: int, bulletin: Any) -> Outcome:
    from .worker import compute, prepare

    messenger = Messenger(_import_ray(), bulletin, task.index)
    if messenger.ask():
        return Outcome("stopped")
    try:
        place.enter()
    except InputError as error:
        return Outcome("failed", error=str(error))
    prepare(threads)
    report: Report = messenger
    return compute(task, report)


def _outcome_of(done: "Future[Outcome]", stopping: bool) -> Outcome:
    """What a task returned; a worker that Ray could not replace is a run that failed."""
    error = done.exception()
    if error is None:
        return done.result()
    if stopping:
        return Outcome("stopped")
    lines = [line for line in str(error).splitlines() if line.strip()]
    return Outcome("failed", error=f"Ray gave the run up: {lines[-1].strip()[:300]}")


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise InputError(
            "ray is not installed: pip install 'tapeout[ray]', or use --engine local"
        ) from None
