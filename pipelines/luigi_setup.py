"""What Luigi should do when nobody has configured it: local scheduler, honest exit codes, errors in one line."""

import argparse
import builtins
import difflib
import logging
import multiprocessing
import queue
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import luigi
import luigi.interface
import luigi.worker
from luigi.configuration import get_config
from luigi.task_status import DONE, PENDING

from datatools.console import say, stderr_lost
from datatools.errors import DataError, system_error
from datatools.parallel import check_processes, end_children_with_parent
from pipelines.interruption import is_luigi_command
from pipelines.options import RunOptions
from pipelines.parameters import parameters

TASKS = ("BuildCelebAHQ", "BuildFromFolder")
"""The tasks that users start; the section of luigi.cfg with a task's name holds their options."""

RETURN_CODES = {
    # Luigi's own default is 0 for all of them: a failed build would look like a good one.
    "already_running": "10",
    "missing_data": "20",
    "not_run": "25",
    "task_failed": "30",
    "scheduling_error": "35",
    "unhandled_exception": "40",
}


class _ReadableLog(logging.Filter):
    """Filter of Luigi's log that keeps the start and end of each task, and warnings.

    Errors that the user can fix are logged without a traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        noise = ("Informed scheduler", "was stopped. Shutting down")
        if record.levelno < logging.WARNING and any(words in str(record.msg) for words in noise):
            return False
        if isinstance(record.args, tuple) and str(record.msg).startswith("[pid %s] Worker %s"):
            # pid, worker (with host, user and salt), task: only the task is of use
            record.msg, record.args = "%s " + record.msg.split()[4], (record.args[2],)
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, OSError):  # of storage that fails where no task's work is at it
            error = _failed_storage(system_error(error))
        elif str(record.msg).startswith("Will not run"):
            error = _at_the_end_of(str(record.msg))
        elif isinstance(error, RuntimeError) and str(error).startswith("Unfulfilled"):  # Luigi's own
            error = DataError("what an earlier step made is gone, or cannot be read; run the same command again")
        if isinstance(error, DataError):
            record.levelname, record.msg, record.args, record.exc_info = "error", "%s", (str(error),), None
        return True


def _failed_storage(what: str) -> DataError:
    return DataError(f"{what}; fix that and run the same command again, finished work is kept")


def _at_the_end_of(message: str) -> DataError | None:
    """Return the error of the traceback with which a message of Luigi ends; None for a fault of the program."""
    kind, _, text = message.rstrip().rpartition("\n")[2].partition(": ")
    builtin = vars(builtins).get(kind)
    if isinstance(builtin, type) and issubclass(builtin, OSError):
        return _failed_storage(text)
    return DataError(text) if kind == f"{DataError.__module__}.{DataError.__name__}" else None


class _ResultQueue(queue.Queue):
    """What Luigi needs of multiprocessing.Queue when its tasks run in its own process."""

    def close(self) -> None:
        """Do nothing: there is no pipe."""


class _CheckingWorker(luigi.worker.Worker):
    """Luigi's worker, which lets the task that is started look for mistakes before anything is asked of it.

    `complete` and `requires` would be the first that Luigi calls; they are questions that may be asked at any time.

    A central scheduler gives a worker only tasks that it has scheduled itself. So an idle one schedules those that
    another worker scheduled after the search for faces, and all of its own when the scheduler has forgotten it.
    """

    def add(self, task: luigi.Task, *args: Any, **kwargs: Any) -> bool:
        if hasattr(task, "before_work"):
            task.before_work()
        return bool(super().add(task, *args, **kwargs))

    def _keep_alive(self, response: Any) -> bool:
        """Return whether to ask for work again, which Luigi wants to know when there is none and nothing runs here."""
        build = self._scheduled_tasks[self._first_task]
        if has_central_scheduler() and self._config.keep_alive and hasattr(build, "after_search"):
            if response.n_pending_tasks:
                self._join(build)
            elif not response.running_tasks and self._is_forgotten(build):
                return bool(super().add(build))
        return bool(super()._keep_alive(response))

    def _join(self, build: Any) -> None:
        """Schedule what another worker has scheduled after the search for faces."""
        task = build.after_search()
        if task.task_id in self._scheduled_tasks or self._on_server(task).get("status") != PENDING:
            return
        if build.faces_are_found:  # else it was scheduled by an earlier build
            build.before_work()
            self.add(task)

    def _is_forgotten(self, build: Any) -> bool:
        """Return whether the server has given this worker up, or lost its state, before the build was complete."""
        return self._id not in self._on_server(build).get("workers", ()) and not build.complete()

    def _on_server(self, task: luigi.Task) -> dict[str, Any]:
        """Return what the server knows of a task."""
        found = self._scheduler.task_search(task.task_id)
        return next((tasks[task.task_id] for tasks in found.values() if task.task_id in tasks), {})

    def run(self) -> bool:
        """Run until nothing is left to do, also for other workers; then all is well if the build is complete."""
        succeeded = bool(super().run())
        if not has_central_scheduler():
            return succeeded
        while self._scheduler.count_pending(worker=self._id)["running_tasks"]:
            time.sleep(self._config.wait_interval)
        history = self._add_task_history
        if history and history[0][0].complete():
            tasks = {task for task, *_ in history}
            own = {task for task, status, _ in history if status == DONE}
            history += [(task, DONE, True) for task in tasks - own]
            self._get_work_response_history.clear()  # of tasks that others were at: a failure in Luigi's exit code
            self.run_succeeded = True
            if history[0][0] not in own:
                say(history[0][0].results())
        return self.run_succeeded


class _LostLog(logging.Handler):
    """Writes to a file what Luigi logs while stderr does not arrive, and the line before, which may be lost, too."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        self._path = path
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n"
        if not stderr_lost():
            self._last = line
            return
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(self._last + line)
        self._last = ""


def keep_lost_log(path: Path) -> None:
    """Log to `path` once stderr is closed or breaks; a build continues without its console."""
    logging.getLogger("luigi-interface").addHandler(_LostLog(path))


def has_central_scheduler() -> bool:
    """Return whether this is a `luigi` command whose tasks a server hands out, to others as well."""
    local = luigi.interface.core().local_scheduler or "--local-scheduler" in sys.argv
    return is_luigi_command() and not local


def apply_luigi_defaults() -> None:
    """Fill in what neither a configuration file nor the command line says."""
    config = get_config()

    def default(section: str, name: str, value: str) -> None:
        if not any(config.has_option(section, spelling) for spelling in (name, name.replace("_", "-"))):
            config.set(section, name, value)

    for name, code in RETURN_CODES.items():
        default("retcode", name, code)
    default("core", "log_level", "INFO")
    # Builds lock their output folder themselves; Luigi's lock is per command line and stays in /tmp when killed.
    default("core", "no_lock", "true")
    names_scheduler = any(argument.startswith(("--scheduler-host", "--scheduler-url")) for argument in sys.argv)
    if names_scheduler:
        config.set("core", "local_scheduler", "false")  # also where luigi.cfg has the default
    elif not any(
        config.has_option("core", name)
        for name in ("default-scheduler-host", "default-scheduler-url", "scheduler_host", "scheduler_url")
    ):
        default("core", "local_scheduler", "true")
    if has_central_scheduler():
        # There may be work as long as that of other workers is not done: they may fail, or vanish.
        default("worker", "keep_alive", "true")
    else:
        # Its scheduler lives in this process; a clock that is set forward must not make it take the worker for dead.
        default("scheduler", "worker_disconnect_delay", "inf")
    _take_workers(config)
    vars(luigi.worker)["Worker"] = _CheckingWorker
    if is_luigi_command():
        argparse.ArgumentParser.error = _refuse  # type: ignore[assignment, method-assign]
    # Luigi's own warning has two lines, and a place in its code.
    warnings.filterwarnings("ignore", f".* is not consumed by the task '({'|'.join(TASKS)})'")
    logging.getLogger("luigi-interface").addFilter(_ReadableLog())
    try:
        check_processes()
    except DataError:  # no semaphores, of which Luigi's worker makes a queue for one process, too
        vars(multiprocessing)["Queue"] = _ResultQueue
    end_children_with_parent()


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """End with one line for options that a task does not take, without the usage before it."""
    task = next((task for task in TASKS if task in sys.argv), TASKS[0])
    parser.exit(2, f"error: {message}; see luigi --module pipelines {task} --help\n")


def _take_workers(config: Any) -> None:
    """Make --workers an option of the build: in its help, and in its section of luigi.cfg as well as in [core]."""
    workers = parameters(RunOptions)["workers"]
    workers.__set_name__(luigi.interface.core, "workers")
    luigi.interface.core.workers = workers
    luigi.interface.core.help.description = f"show these options; with {TASKS[0]} before it, all of a build"
    for task in (task for task in TASKS if task in sys.argv or task == TASKS[0]):
        if config.has_option(task, "workers") and not config.has_option("core", "workers"):
            config.set("core", "workers", config.get(task, "workers"))


def check_configuration(task: type[luigi.Task]) -> None:
    """Raise DataError for a name in the task's section of luigi.cfg that is none of its options."""
    config = get_config()
    if not config.has_section(task.task_family):
        return
    options = [*task.get_param_names(include_significant=True), "workers"]
    for name in config[task.task_family]:
        if name.replace("-", "_") not in options and not config.has_option("DEFAULT", name):
            close = difflib.get_close_matches(name, options, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(options)}"
            raise DataError(f"luigi.cfg, section [{task.task_family}]: there is no option {name}; {hint}")
