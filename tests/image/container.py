"""The built image as a running container: user, read-only root, one writable mount; without a container runtime.

`buildah mount` gives the root, a mount namespace makes it read-only, chroot changes into it with the image's own
user, environment and command. It knows no request.
"""

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INSIDE = """
set -e
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755,uid=10001,gid=10001 tmpfs "$root/cache"
mount -o remount,ro,bind "$root"
cd /
exec chroot --userspec="$user" "$root" env -i {environment} sh -c 'cd /cache && exec "$0" "$@"' {command}
"""


def buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True).stdout.strip()


class Image:
    """A container's root, mounted, and what the image says about itself."""

    def __init__(self, name: str, container: str) -> None:
        inspected = json.loads(buildah("inspect", "--type", "image", name))
        self.config: dict[str, Any] = inspected["Docker"]["config"]
        self.root = Path(buildah("mount", container))

    def start(self, command: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
        """Run the image's command, or another one, with more environment."""
        own = dict(line.split("=", 1) for line in self.config["Env"])
        words = command or [*self.config["Entrypoint"], *self.config["Cmd"]]
        script = INSIDE.format(
            environment=" ".join(shlex.quote(f"{key}={value}") for key, value in {**own, **environment}.items()),
            command=" ".join(map(shlex.quote, words)),
        )
        return subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", script],
            env={"root": str(self.root), "user": self.config["User"], "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(command, **environment)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @contextmanager
    def serving(self, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """The image's own command until the end of the block, and the URL that it announces."""
        process = self.start(**environment)
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if "http://" not in line:
            process.kill()
            raise AssertionError(line + process.stderr.read())
        try:
            yield process, line.split()[-1].replace("0.0.0.0", "127.0.0.1")
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)


@contextmanager
def unpacked(name: str) -> Iterator[Image]:
    container = buildah("from", "--pull-never", name)
    try:
        yield Image(name, container)
    finally:
        buildah("rm", container)
