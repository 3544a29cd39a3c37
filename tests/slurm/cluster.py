"""A Slurm of one node on this machine, with its own configuration, ports, key and state."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}

CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
# A requeued job waits until its credential is void: two minutes, were it not for cred_expire.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ctld_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/slurmd.pid
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/slurmd
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
MailProg=/bin/true
JobRequeue=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=5
MinJobAge=3600
ReturnToService=2
NodeName=localhost Sockets=1 CoresPerSocket=2
PartitionName=low Nodes=ALL Default=YES MaxTime=60 State=UP GraceTime=60 PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=60 State=UP PriorityTier=2 PreemptMode=OFF
"""


def unavailable() -> str | None:
    """Why no Slurm can be started here; ``None`` if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"slurm-wlm and munge are not installed (no {', '.join(missing)})"
    if os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    if "SLURM_CONF" in os.environ or Path("/etc/slurm/slurm.conf").exists():
        ping = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, timeout=60, check=False
        )
        if " UP" in ping.stdout:
            return "a Slurm runs on this machine already: it is left alone"
    return None


class Cluster:
    """Commands against the test's own Slurm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("SLURM_", "SBATCH_", "ARRA_MED_", "SLURMD_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(names)}
        self.environment = kept | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._daemons: list[subprocess.Popen] = []

    def run(self, *command: object, **environment: str) -> str:
        """Standard output of a command; raises with its standard error if it fails."""
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=120,
            check=False, env=self.environment | environment,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def jobs(self, job: str) -> list[dict[str, str]]:
        """What Slurm says of a job: of each task if it is an array."""
        text = self.run("scontrol", "--oneliner", "show", "job", job)
        return [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in text.splitlines()
        ]

    def wait_for(self, job: str, states: set[str], *, seconds: float) -> list[dict[str, str]]:
        """Wait until every task of a job is in one of the states."""
        deadline = time.monotonic() + seconds
        while True:
            tasks = self.jobs(job)
            if {task["JobState"] for task in tasks} <= states:
                return tasks
            if time.monotonic() > deadline:
                raise AssertionError(f"job {job} after {seconds:.0f} s:\n{tasks}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """Ends of the daemons' logs, for a failed test."""
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {p.name}\n{p.read_text()[-1500:]}" for p in paths)

    def start(self) -> None:
        """Start munged, the controller and a node; wait until it is idle."""
        folder = self.folder
        folder.chmod(0o755)  # munge asks that others may pass, and may not write
        ports = dict(zip(("ctld_port", "node_port"), _free_ports(2), strict=True))
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, **ports))
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        places = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._spawn(
            "munged", "--foreground", f"--key-file={folder}/munge.key",
            *(f"--{option}={folder}/munge.{suffix}" for option, suffix in places.items()),
        )  # fmt: skip
        _until((folder / "munge.socket").exists, self, "munged does not answer")
        self._spawn("slurmctld", "-D", "-i")
        self._spawn("slurmd", "-D", "-N", "localhost")
        _until(self._ready, self, "the node is not idle")

    def stop(self) -> None:
        """Cancel every job, and end every process this cluster started."""
        with contextlib.suppress(Exception):
            self.run("scancel", "--user=root")
            _until(lambda: not self.run("squeue", "--noheader"), self, "jobs do not end")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.wait()

    def _spawn(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"spawned-{len(self._daemons)}-{name}.log").open("wb")
        with log:
            self._daemons.append(
                subprocess.Popen(
                    [name, *arguments],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def _ready(self) -> bool:
        try:
            states = self.run("sinfo", "--noheader", "--Node", "--partition=low", "--format=%t")
        except AssertionError:  # the controller does not answer yet
            return False
        return states.split() == ["idle"]


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running Slurm; its folder's name is short, since sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        it = Cluster(Path(folder))
        try:
            it.start()
            yield it
        finally:
            it.stop()


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _until(condition, of: Cluster, problem: str, *, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{problem} after {seconds:.0f} s\n{of.logs()}")
        time.sleep(0.1)
