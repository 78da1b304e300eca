"""What scripts/crash and scripts/soak share: a SeaweedFS that can be killed, a mount, and writers that
know what has to be in it."""

import collections, contextlib, hashlib, json, os, pathlib, random, signal, socket, subprocess, threading, time
import urllib.error, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEYS = {"AWS_ACCESS_KEY_ID": "attack", "AWS_SECRET_ACCESS_KEY": "attack-secret", "AWS_REGION": "us-east-1"}
BUCKET = "attack"
# Where scripts/setup puts weed.
os.environ["PATH"] += f":{ROOT}/target/tools/bin"
WRITERS = 3
GONE = b""  # the content of a name that is not there


def run(*command, **options):
    options.setdefault("capture_output", True)
    done = subprocess.run([str(part) for part in command], env=os.environ | KEYS, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr}")
    return done


def until(what, is_so, seconds=120):
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def digest(content):
    return hashlib.blake2b(content, digest_size=16).digest() if content else content or GONE


def tree(folder):
    """The content of each file below a folder, as a digest."""
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = pathlib.Path(at) / name
            if not path.is_symlink():
                found[str(path.relative_to(folder))] = digest(path.read_bytes()) or b"empty"
    return found


class SeaweedFS:
    """An S3 server that keeps what it has over its own death."""

    def __init__(self, at):
        self.at = at
        at.mkdir(parents=True)
        names = "s3 master filer volume admin".split()
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(2 * len(names))]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = [one.getsockname()[1] for one in sockets]
        self.options = [f"-{name}.port={port}" for name, port in zip(names, ports)]
        self.options += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[len(names):])]
        self.endpoint, self.filer = (f"http://127.0.0.1:{ports[at]}" for at in (0, 2))
        self.url = f"s3://{BUCKET}/p?endpoint={self.endpoint}&region=us-east-1"
        self.start()

    def start(self):
        with open(self.at.with_suffix(".log"), "a") as log:
            self.process = subprocess.Popen(
                ["weed", "mini", f"-dir={self.at}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false",
                 "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
                 f"-bucket={BUCKET}", *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | KEYS, start_new_session=True)
        until("SeaweedFS is up", self.is_up)

    def is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"SeaweedFS ended; see {self.at}.log")
        try:
            urllib.request.urlopen(self.endpoint, timeout=1)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def tree(self, folder="original"):
        """As `tree`, read back from the server's own side."""
        found, last = {}, ""
        above = f"{self.filer}/buckets/{BUCKET}/p/{folder}/"
        while True:
            request = urllib.request.Request(f"{above}?limit=1000&lastFileName={last}", headers={"Accept": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                entries = json.load(answer).get("Entries") or []
            for entry in entries:
                name = entry["FullPath"].rsplit("/", 1)[1]
                if entry["Mode"] & (1 << 31):
                    inside = self.tree(f"{folder}/{name}")
                    found |= {f"{name}/{path}": content for path, content in inside.items()}
                else:
                    with urllib.request.urlopen(above + name, timeout=30) as answer:
                        found[name] = digest(answer.read()) or b"empty"
                last = name
            if len(entries) < 1000:
                return found

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Mount:
    """A directory mounted over itself, or at another place; rows are a URL."""

    def __init__(self, options, directory, mountpoint, journal, remote, rows, *more):
        self.directory, self.mountpoint, self.journal = directory, mountpoint, journal
        self.command = [options.outboxfs, "mount", directory, mountpoint, "--journal", journal, "--remote", remote,
                        "--rows", rows, "--settle", "50", "--max-retries", "1000", *more]
        self.outboxfs = options.outboxfs

    def start(self, *more):
        run(*self.command, *more)
        self.pid = self.status()["pid"]

    def status(self):
        return json.loads((self.mountpoint / ".upload/status.json").read_text())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        until("the daemon is gone", lambda: not pathlib.Path(f"/proc/{self.pid}").exists())

    def is_at_rest(self):
        now = self.status()
        waiting = now["queued_files"] + now["queued_rows"] + now["failed_files"] + now["failed_rows"]
        if now["remote_error"] is None and now["failed_files"] + now["failed_rows"]:
            raise RuntimeError((self.mountpoint / ".upload/failed").read_text())
        return waiting == 0 and now["scanning"] is None and not now["expanding"]

    def unmount(self):
        run(self.outboxfs, "unmount", self.mountpoint, "--timeout", "5m")


class Files:
    """What the writers believe to be in the mount: of each name the contents that are possible. After
    an operation that returned there is one; after one that was cut off there are two or more."""

    def __init__(self):
        self.lock = threading.Lock()
        self.possible = collections.defaultdict(lambda: {GONE})
        self.operations = self.bytes = 0

    def settled(self, name, content):
        with self.lock:
            self.possible[name] = {content}
            self.operations += 1

    def perhaps(self, name, *contents):
        with self.lock:
            self.possible[name] |= set(contents)

    def get(self, name):
        with self.lock:
            return set(self.possible[name])


class Writer(threading.Thread):
    """Works in a folder of its own, so that it alone knows what is in there."""

    FOLDERS, NAMES = 4, 12
    KINDS = {"write": 8, "copy": 4, "rsync": 1, "rename": 4, "rename_over": 4, "truncate": 2, "remove": 2, "link": 1,
             "rename_folder": 1, "stats": 2}  # what is done, and how often
    PAUSE = 0.001  # seconds; lets others have the lock

    def __init__(self, number, seed, at, scratch):
        super().__init__(name=f"writer-{number}", daemon=True)
        self.random = random.Random(f"{seed}/{number}")
        self.number, self.at = number, at
        self.working = threading.Lock()  # held during each operation
        self.scratch = scratch / f"{number}"
        self.scratch.mkdir(parents=True)
        self.files = Files()
        self.stop = threading.Event()
        self.fault = None
        self.renamed = 0

    def run(self):
        kinds = [getattr(self, kind) for kind, weight in self.KINDS.items() for _ in range(weight)]
        while not self.stop.is_set():
            try:
                with self.working:
                    self.random.choice(kinds)()
            except (OSError, RuntimeError):
                pass
            except Exception as error:  # of this program
                self.fault = error
                return
            time.sleep(self.PAUSE)

    def name(self):
        return f"w{self.number}/{self.random.randrange(self.FOLDERS)}/{self.random.randrange(self.NAMES)}.dat"

    def content(self):
        size = self.random.choice([0, 1, 700, 5_000, 40_000, 300_000])
        content = self.random.randbytes(self.random.randrange(size // 2, size + 1))
        self.files.bytes += len(content)
        return content

    def put(self, name, content, with_content):
        """Runs `with_content(path)`, which leaves the content under the name when it returns."""
        path = self.at / name
        self.files.perhaps(name, digest(content) or b"empty", b"torn")
        path.parent.mkdir(parents=True, exist_ok=True)
        with_content(path)
        self.files.settled(name, digest(content) or b"empty")

    def plain(self, path, content):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb", closefd=True) as file:
            file.write(content)

    def write(self):
        content = self.content()
        name = self.name()
        # A hard link's other name has the content too; `link` only makes names that are not written in place.
        self.put(name, content, lambda path: self.plain(path, content))

    def stats(self):
        content = json.dumps({"status": "pass", "number": self.random.random()}).encode()
        name = f"w{self.number}/{self.random.randrange(self.FOLDERS)}/stats.json"
        self.put(name, content, lambda path: self.plain(path, content))

    def source(self, content):
        source = self.scratch / "source"
        source.write_bytes(content)
        return source

    def copy(self):
        content = self.content()
        self.put(self.name(), content, lambda path: run("cp", self.source(content), path))

    def rsync(self):
        content = self.content()
        source = self.source(content)
        self.put(self.name(), content, lambda path: run("rsync", "--ignore-times", source, path))

    def rename_over(self):
        """As editors do."""
        content, name = self.content(), self.name()
        temporary = f"{name}.part"
        path = self.at / temporary
        self.files.perhaps(temporary, digest(content) or b"empty", b"torn")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.plain(path, content)
        self.files.perhaps(name, digest(content) or b"empty")
        os.rename(path, self.at / name)
        self.files.settled(name, digest(content) or b"empty")
        self.files.settled(temporary, GONE)

    def rename(self):
        source, target = self.name(), self.name()
        if source == target:
            return
        contents = self.files.get(source)
        self.files.perhaps(target, *contents)
        self.files.perhaps(source, GONE)
        (self.at / target).parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.at / source, self.at / target)
        with self.files.lock:
            self.files.possible[target] = contents - {GONE}
        self.files.settled(source, GONE)

    def rename_folder(self):
        """To a name that was never used, and from then on left alone."""
        self.renamed += 1
        self.rename_whole(f"w{self.number}/{self.random.randrange(self.FOLDERS)}", f"w{self.number}/old-{self.renamed}")

    def rename_whole(self, folder, target):
        with self.files.lock:
            inside = {name: set(possible) for name, possible in self.files.possible.items()
                      if name.startswith(f"{folder}/")}
        for name, possible in inside.items():
            self.files.perhaps(target + name[len(folder):], *possible)
            self.files.perhaps(name, GONE)
        os.rename(self.at / folder, self.at / target)
        for name, possible in inside.items():
            with self.files.lock:
                self.files.possible[target + name[len(folder):]] = possible
            self.files.settled(name, GONE)

    def truncate(self):
        name = self.name()
        path = self.at / name
        content = path.read_bytes()
        cut = content[:self.random.randrange(len(content) + 1)]
        self.put(name, cut, lambda path: os.truncate(path, len(cut)))

    def remove(self):
        name = self.name()
        self.files.perhaps(name, GONE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.at / name)
        self.files.settled(name, GONE)

    def link(self):
        """A second name of a file that nobody writes again, since both names are new."""
        content = self.content()
        one, other = (f"w{self.number}/links/{self.random.randrange(10**9)}.dat" for _ in range(2))
        self.put(one, content, lambda path: self.plain(path, content))
        self.put(other, content, lambda path: os.link(self.at / one, path))


@contextlib.contextmanager
def resting(writers):
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer.working)
        yield


def settle(writers, local, remote, lost):
    """Compares what the writers believe with what is here, and that with the remote."""
    for writer in writers:
        if writer.fault:
            raise writer.fault
        for name, possible in writer.files.possible.items():
            if local.get(name, GONE) not in possible and b"torn" not in possible:
                lost.append(f"{name}: is not what was closed")
    for name, content in local.items():
        if remote.get(name) != content:
            lost.append(f"{name}: is {'otherwise' if name in remote else 'not'} at the remote")
