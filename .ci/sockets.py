#!/usr/bin/env python3
"""Tests of the built program over real sockets: what comes back, to the byte.

Called by ./test.sh with the path of the static program. Each function named
test_* is one test; a name on the command line runs only those that contain it.
The program runs alone in an otherwise empty root, under the 61 MiB of address
space that `kraft run -M 64M` gives a guest. Nothing but Python is needed.
"""

import atexit
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.abspath(sys.argv[1])
STOCK = open(os.path.join(HERE, "haproxy.conf"), "rb").read()
GUEST = 61 << 20  # what -M 64M gives a guest, in bytes
WAIT = 5.0  # seconds after which a missing answer is a failure, not a speed
PORT = 18404

# System calls that work on Unikraft, and execve, which starts the program here.
WORKING = set(
    """epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 timerfd_create timerfd_settime poll ppoll socket bind
    listen accept4 read write readv writev recvfrom sendto shutdown getsockname getpeername fcntl ioctl open openat fstat
    newfstatat lseek pread64 close dup dup3 mmap munmap madvise mprotect brk clock_gettime nanosleep getrandom prlimit64
    uname sysinfo getpid sched_getaffinity futex rt_sigaction rt_sigprocmask sigaltstack arch_prctl
    set_tid_address exit_group setsockopt execve""".split()
)


def config(text):
    """A configuration from the lines of a test, a tab for each section's lines."""
    return ("\n".join(line.strip() for line in text.strip().split("\n")) + "\n").encode()


def http_config(lines, timeouts="timeout client 10s"):
    return config(f"frontend web\nmode http\nbind 127.0.0.1:{PORT}\n{timeouts}\n" + lines)


class Server:
    """The program, serving one configuration until the test is over."""

    def __init__(self, text, *args, files=None, memory=GUEST, strace=None, stdout=subprocess.PIPE, wait=True, more=None):
        self.root = tempfile.mkdtemp(prefix="haproxy-test-")
        atexit.register(shutil.rmtree, self.root, True)
        os.chmod(self.root, 0o755)
        for folder in ("usr/bin", "etc/haproxy"):
            os.makedirs(os.path.join(self.root, folder))
        shutil.copy(PROGRAM, os.path.join(self.root, "usr/bin/haproxy"))
        for name, content in {"etc/haproxy/haproxy.conf": text, **(more or {})}.items():
            with open(os.path.join(self.root, name), "wb") as file:
                file.write(content)

        def limits():
            if memory:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
            if os.geteuid() == 0 and not strace:
                os.chroot(self.root)
                os.chdir("/")
                if files:  # root would raise the limit
                    os.setgid(65534)
                    os.setuid(65534)

        command = ["/usr/bin/haproxy", "-f", "/etc/haproxy/haproxy.conf", *args]
        if strace or os.geteuid() != 0:
            command = ["chroot", self.root] + command
        if os.geteuid() != 0:
            command = ["unshare", "-r"] + command
        if strace:
            command = ["strace", "-f", "-o", strace] + command
            memory = None
        self.process = subprocess.Popen(
            command, preexec_fn=limits, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE
        )
        atexit.register(self.kill)
        if wait:
            self.await_port(PORT)

    def await_port(self, port):
        """Waits until the port is listened on, without a connection that would be counted."""
        end = time.time() + WAIT
        while time.time() < end:
            for name in ("/proc/net/tcp", "/proc/net/tcp6"):
                with open(name) as sockets:
                    if any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, sockets)):
                        return
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)
        raise AssertionError("the program does not listen")

    def pid(self):
        if self.process.args[0] != "strace":
            return self.process.pid
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            return int(children.read().split()[0])

    def rss_kib(self):
        with open(f"/proc/{self.pid()}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

    def files(self):
        return len(os.listdir(f"/proc/{self.pid()}/fd"))

    def kill(self):
        if self.process.poll() is None:
            os.kill(self.pid(), signal.SIGKILL)
            self.process.wait()

    def stop(self):
        """Ends the program as TERM does; gives what it printed."""
        os.kill(self.pid(), signal.SIGTERM)
        out, err = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == 143, self.process.returncode
        return out, err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def run(text, *args, **more):
    """Runs the program to its end; gives its status and what it printed."""
    server = Server(text, *args, wait=False, **more)
    out, err = server.process.communicate(timeout=WAIT)
    return server.process.returncode, out.decode(), err.decode()


def connect(port=PORT):
    connection = socket.create_connection(("127.0.0.1", port), WAIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def more(connection):
    data = connection.recv(65536)
    assert data, "closed inside an answer"
    return data


def read_answer(connection, buffer=b"", method="GET"):
    """One answer by its framing: status, fields, body, what follows it."""
    while b"\r\n\r\n" not in buffer:
        buffer += more(connection)
    head, rest = buffer.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    status = int(lines[0].split()[1])
    fields = dict(line.split(": ", 1) for line in lines[1:])
    if status < 200 or status in (204, 304) or method == "HEAD":
        return status, fields, b"", rest
    if "transfer-encoding" in fields:
        body = b""
        while True:
            while b"\r\n" not in rest:
                rest += more(connection)
            size, rest = rest.split(b"\r\n", 1)
            while len(rest) < int(size, 16) + 2:
                rest += more(connection)
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
            if int(size, 16) == 0:
                return status, fields, body, rest
    while len(rest) < int(fields["content-length"]):
        rest += more(connection)
    length = int(fields["content-length"])
    return status, fields, rest[:length], rest[length:]


def ask(request, port=PORT):
    """Sends bytes; gives all that comes until the answer is whole, and whether
    the connection is open after it."""
    with connect(port) as connection:
        connection.sendall(request)
        status, fields, body, rest = read_answer(connection, method=request.split(b" ")[0].decode("latin-1"))
        assert rest == b"", rest
        return status, fields, body


def get(target, port=PORT, fields=""):
    return ask(f"GET {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n".encode(), port)


def everything(request, half_close=False, port=PORT):
    """Sends bytes; gives all that comes until the other side closes."""
    with connect(port) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


def row(port=PORT, options="", name="FRONTEND"):
    """The statistics of a proxy as a dictionary of the CSV's columns."""
    lines = get(f"/stats;csv{options}", port)[2].decode().strip().split("\n")
    rows = [dict(zip(lines[0][2:].split(","), line.split(","))) for line in lines[1:]]
    return next(row for row in rows if row["svname"] == name)


def answer(status, phrase, sentence, close=False):
    body = f"<!doctype html><title>{status} {phrase}</title><h1>{status} {phrase}</h1><p>{sentence}</p>\n"
    last = "connection: close\r\n" if close else ""
    fields = f"content-length: {len(body)}\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n{last}"
    return f"HTTP/1.1 {status} {phrase}\r\n{fields}\r\n{body}".encode()


UNAVAILABLE = answer(503, "Service Unavailable", "No server is there to answer this request.")
BAD = answer(400, "Bad request", "The request does not follow HTTP.", close=True)
STATS = http_config("stats uri /stats")


# ---- the stock configuration ---------------------------------------------------


def stock():
    return STOCK.replace(b"*:8404", f"127.0.0.1:{PORT}".encode())


def test_stock_configuration_answers_as_haproxy_does():
    with Server(stock()):
        assert everything(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") == UNAVAILABLE.replace(
            b"text/html\r\n", b"text/html\r\nconnection: close\r\n"
        )
        status, fields, body = get("/stats")
        assert status == 200
        assert list(fields) == ["cache-control", "content-type", "refresh", "content-length"], fields
        assert (fields["content-type"], fields["refresh"]) == ("text/html", "10")
        assert len(body) <= 12 << 10 and b"<script" not in body and b"http://" not in body and b"https://" not in body
        assert "refresh" not in get("/stats;norefresh")[1]


def test_stock_configuration_is_the_default_and_prints_nothing():
    server = Server(stock(), stdout=subprocess.PIPE)
    assert server.stop() == (b"", b"")
    root = Server(b"", wait=False).root
    command = [PROGRAM, "-c"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0 and done.stdout.startswith("Configuration file is valid\nMemory needed: "), done
    assert STOCK in open(PROGRAM, "rb").read()


# ---- HTTP --------------------------------------------------------------------------

HEAD = b"GET / HTTP/1.1\r\nhost: a\r\n"

BAD_REQUESTS = [
    b"G@T / HTTP/1.1\r\n\r\n",
    b" GET / HTTP/1.1\r\n\r\n",
    b"GET /a b HTTP/1.1\r\n\r\n",
    b"GET /a#b HTTP/1.1\r\n\r\n",
    b"GET /\xe9 HTTP/1.1\r\n\r\n",
    b"GET /\x01 HTTP/1.1\r\n\r\n",
    b"GET /\x7f HTTP/1.1\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.10\r\n\r\n",
    b"GET / http/1.1\r\n\r\n",
    b"GET / HTTP/1.1 \r\n\r\n",
    b"CONNECT /path HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    HEAD + b"no colon\r\n\r\n",
    HEAD + b"name : value\r\n\r\n",
    HEAD + b": value\r\n\r\n",
    HEAD + b"na(me: value\r\n\r\n",
    HEAD + b"name: a\rb\r\n\r\n",
    HEAD + b"name: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\n folded: 1\r\n\r\n",
    HEAD + b"host: b\r\n\r\n",
    HEAD + b"host: a:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a,b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a[b]\r\n\r\n",
    b"CONNECT b:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
    HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
    HEAD + b"content-length: -1\r\n\r\n",
    HEAD + b"content-length: +1\r\n\r\n",
    HEAD + b"content-length: x\r\n\r\n",
    HEAD + b"content-length: \r\n\r\n",
    HEAD + b"content-length: 1,\r\n\r\n",
    HEAD + b"content-length: 99999999999999999999\r\n\r\n",
    HEAD + b"transfer-encoding: gzip\r\n\r\n",
    HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\nx\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n1\nb\n0\n\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n1;a\nb\r\nb\r\n0\r\n\r\n",
    HEAD + b"a: b\r\n" * 100 + b"\r\n",
    HEAD + b"a: " + b"b" * 15400 + b"\r\n\r\n",
    b"GET /" + b"a" * 15400 + b" HTTP/1.1\r\n\r\n",
]


def test_bad_requests_get_400_and_a_close():
    with Server(STATS):
        for request in BAD_REQUESTS:
            got = everything(request)
            assert got == BAD, (request[:80], got)
        for request in (b"GET /", HEAD, HEAD + b"content-length: 5\r\n\r\nab".replace(b"GET /", b"GET /")):
            got = everything(request, half_close=True)
            assert got.startswith(BAD[:24]) or request.endswith(b"ab"), (request, got)
        got = everything(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 422 ") and b"connection: close\r\n" in got
        for body in (b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"content-length: 1\r\n\r\na"):
            got = everything(b"GET / HTTP/1.0\r\n" + body)
            assert got == answer(413, "Payload Too Large", "The body of the request is not accepted.", close=True), got
        got = everything(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert got == answer(505, "HTTP Version Not Supported", "Only HTTP/1 is spoken here.", close=True), got
        assert get("/")[0] == 503


ACCEPTED = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
    HEAD + b"host: a\r\n\r\n",
    b"GET / HTTP/1.1\nhost: a\n\n",
    b"GET  /  HTTP/1.1\r\n\r\n",
    b"GET\t/\tHTTP/1.1\r\n\r\n",
    b"\r\n\r\n\nGET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.2\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    HEAD + b"name: \xe9\r\n\r\n",
    HEAD + b"content-length: 0\r\ncontent-length: 0\r\n\r\n",
    HEAD + b"content-length: 2, 2\r\n\r\nab",
    HEAD + b"content-length: 3\r\n\r\nabc",
    HEAD + b"transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\ntrailer: 1\r\n\r\n",
    b"PUT /stats HTTP/1.1\r\n\r\n",
    b"TRACE / HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\n\r\n",
    b"BREW / HTTP/1.1\r\n\r\n",
    b"GET http://a/x HTTP/1.1\r\nhost: a:80\r\n\r\n",
    b"GET /STATS HTTP/1.1\r\n\r\n",
    b"GET /%73tats HTTP/1.1\r\n\r\n",
    b"GET //stats HTTP/1.1\r\n\r\n",
    HEAD + b"a: b\r\n" * 99 + b"\r\n",
    HEAD + b"a: " + b"b" * 15000 + b"\r\n\r\n",
]


def test_what_is_not_served_gets_503_and_is_kept_alive():
    with Server(STATS), connect() as connection:
        for request in ACCEPTED:
            connection.sendall(request)
            got = b""
            while len(got) < len(UNAVAILABLE):
                data = connection.recv(65536)
                assert data, (request, got)
                got += data
            assert got == UNAVAILABLE, (request, got)


def test_pipelined_requests_are_answered_in_order_in_one_piece_or_in_many():
    stream = b"GET / HTTP/1.1\r\n\r\n" + b"HEAD /x HTTP/1.1\r\nhost: b\r\n\r\n" + b"POST / HTTP/1.1\r\n\r\n" * 3
    expected = UNAVAILABLE + UNAVAILABLE.split(b"\r\n\r\n")[0] + b"\r\n\r\n" + 3 * UNAVAILABLE
    with Server(STATS):
        assert everything(stream, half_close=True) == expected
        for cut in range(1, len(stream), 7):
            with connect() as connection:
                connection.sendall(stream[:cut])
                time.sleep(0.002)
                connection.sendall(stream[cut:])
                connection.shutdown(socket.SHUT_WR)
                got = b""
                while data := connection.recv(65536):
                    got += data
                assert got == expected, cut
        many = everything(b"GET / HTTP/1.1\r\n\r\n" * 1000, half_close=True)
        assert many == UNAVAILABLE * 1000


def test_versions_and_connection_fields():
    with Server(STATS):
        close = UNAVAILABLE.replace(b"text/html\r\n", b"text/html\r\nconnection: close\r\n")
        for request in (
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            b"GET / HTTP/1.1\r\nConnection: keep-alive, Close\r\n\r\n",
            b"GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            # both framings: chunked wins, and the connection ends
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            # a body that is not there yet is not waited for
            b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        ):
            assert everything(request) == close, request
        assert everything(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2, half_close=True) == 2 * UNAVAILABLE.replace(
            b"text/html\r\n", b"text/html\r\nconnection: keep-alive\r\n"
        )
        assert everything(b"", half_close=True) == b""


def test_posts_to_the_page_are_read_and_sent_back():
    fields = b"cache-control: no-cache\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nlocation: /stats;st=DENY\r\n"
    back = b"HTTP/1.1 303 See Other\r\n" + fields + b"\r\n"
    with Server(STATS), connect() as connection:
        connection.sendall(b"POST /stats HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc" * 2)
        assert receive(connection, 2 * len(back)) == 2 * back
        connection.sendall(b"POST /stats HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert receive(connection, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"a")
        time.sleep(0.05)
        connection.sendall(b"bc")
        assert receive(connection, len(back)) == back
        big = everything(b"POST /stats HTTP/1.1\r\ncontent-length: 99999\r\n\r\n" + b"x" * 99999)
        assert b"location: /stats;st=EXCD" in big and b"connection: close" in big


def receive(connection, length):
    got = b""
    while len(got) < length:
        data = connection.recv(length - len(got))
        assert data, got
        got += data
    return got


# ---- timers ------------------------------------------------------------------------


def test_timers():
    with Server(http_config("", "timeout client 300ms")):
        assert everything(b"GET /").startswith(b"HTTP/1.1 408 Request Time-out\r\n")
        assert everything(b"").startswith(b"HTTP/1.1 408 ")
        assert everything(b"GET / HTTP/1.1\r\n\r\n") == UNAVAILABLE
    timeouts = "timeout client 60s\ntimeout http-request 300ms\ntimeout http-keep-alive 200ms"
    with Server(http_config("option http-ignore-probes", timeouts)):
        assert everything(b"") == b""
        with connect() as slow:  # a trickle does not put the end off
            slow.settimeout(0.05)
            got = b""
            end = time.time() + WAIT
            while not got and time.time() < end:
                try:
                    slow.sendall(b"a")
                    got = slow.recv(100)
                except TimeoutError:
                    pass
            assert got.startswith(b"HTTP/1.1 408 "), got
        assert everything(b"GET / HTTP/1.1\r\n\r\n") == UNAVAILABLE


def test_an_empty_errorfile_is_silence():
    lines = "errorfile 408 /etc/haproxy/empty\nerrorfile 503 /etc/haproxy/empty\nstats uri /stats"
    timeouts = "timeout client 60s\ntimeout http-request 200ms\ntimeout http-keep-alive 60s"
    with Server(http_config(lines, timeouts), more={"etc/haproxy/empty": b""}):
        assert everything(b"GET /") == b"" and everything(b"GET / HTTP/1.1\r\n\r\n") == b""
        stats = row()
        assert (stats["hrsp_4xx"], stats["hrsp_5xx"]) == ("1", "1")


def test_slow_and_dead_clients_delay_nobody():
    with Server(http_config("stats uri /stats")):
        slow = [connect() for _ in range(20)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        dead = [connect() for _ in range(5)]
        for connection in dead:  # asks for pages and never reads
            connection.setblocking(False)
            try:
                for _ in range(2000):
                    connection.send(b"GET /stats HTTP/1.1\r\n\r\n" * 100)
            except BlockingIOError:
                pass
        for _ in range(50):
            assert get("/")[0] == 503
        for connection in slow:
            connection.sendall(b"1\r\n\r\n")
            assert read_answer(connection)[0] == 503


# ---- statistics --------------------------------------------------------------------


def test_csv_has_haproxys_columns():
    header = get_header()
    with Server(stock()):
        body = get("/stats;csv")[2].decode()
        assert body.split("\n")[0] == header
        lines = body.strip().split("\n")
        assert len(lines) == 2 and lines[1].startswith("stats,FRONTEND,,,") and lines[1].count(",") == 138
        # the columns that the sample of genuine HAProxy fills are filled here
        filled = [column for column, value in row().items() if value]
        assert len(filled) == 76, (len(filled), filled)


def get_header():
    source = open(os.path.join(HERE, "main.rs")).read()
    table = re.search(r"const COLUMNS: &\[.*?\] = &\[\n(.*?)\n    \];", source, re.S)[1]
    lines = re.findall(r'\(\s*"((?:[^"\\]|\\\n\s*)*)"', table)
    flat = ",".join(re.sub(r"\\\n\s*", "", line).split(" ")[0].replace("|", ",") for line in lines)
    assert flat.count(",") == 137 and flat.startswith("pxname,svname,qcur") and flat.endswith("h1_spliced_bytes_out")
    return "# " + flat + ","


def test_options_are_substrings_behind_the_uri():
    with Server(STATS):
        kinds = {
            "/stats": "text/html", "/statsfoo": "text/html", "/stats/": "text/html", "/stats?csv": "text/html",
            "/stats?x;csv": "text/plain", "/stats;csvx": "text/plain", "/stats;csv?x=1": "text/plain",
            "/stats;typed": "text/plain", "/stats;json": "application/json", "/stats;json-schema": "application/json",
            "/stats;CSV": "text/html", "http://a/stats;csv": "text/plain",
        }  # fmt: skip
        for target, kind in kinds.items():
            assert get(target)[1]["content-type"] == kind, target
        assert ask(b"HEAD /stats;csv HTTP/1.1\r\n\r\n")[1]["content-length"]
        assert b"read-only" in get("/stats;st=DENY")[2]


def test_formats_agree():
    with Server(STATS):
        typed = dict(
            (line.split(":")[0].split(".")[4], line.split(":", 3)[3]) for line in get("/stats;typed")[2].decode().strip().split("\n")
        )
        parsed = json.loads(get("/stats;json")[2])
        assert len(parsed) == 1
        fields = {item["field"]["name"]: item for item in parsed[0]}
        assert fields["h1sess"]["field"]["pos"] == 105 and fields["ssl_sess"]["field"]["pos"] == 113
        assert fields["stot"] == {
            "objType": "Frontend", "proxyId": 1, "id": 0, "field": {"pos": 7, "name": "stot"}, "processNum": 1,
            "tags": {"origin": "Metric", "nature": "Counter", "scope": "Process"},
            "value": {"type": "u64", "value": int(typed["stot"]) + 1},
        }  # fmt: skip
        assert set(typed) == set(fields) == {name for name, value in row().items() if value and name != "-"}
        schema = json.loads(get("/stats;json-schema")[2])
        assert schema["items"]["items"]["required"] == ["objType", "proxyId", "id", "field", "processNum", "tags", "value"]


def test_scopes_and_listen_sections():
    text = config(
        f"""defaults
        mode http
        timeout client 5s
        stats uri /stats
        frontend one
        bind 127.0.0.1:{PORT}
        listen two
        bind 127.0.0.1:{PORT + 1}
        frontend three
        bind 127.0.0.1:{PORT + 2}
        stats scope .
        stats scope two"""
    )
    with Server(text):
        names = lambda target, port=PORT: [line.split(",")[:2] for line in get(target, port)[2].decode().strip().split("\n")[1:]]
        all_rows = [["one", "FRONTEND"], ["two", "FRONTEND"], ["two", "BACKEND"], ["three", "FRONTEND"]]
        assert names("/stats;csv") == all_rows
        assert names("/stats;csv;scope=tw") == all_rows[1:3]
        assert names("/stats?scope=TWO;csv") == all_rows[1:3]
        assert names("/stats;csv", PORT + 2) == all_rows[1:]
        get("/", PORT + 1)
        back = row(PORT + 1, ";scope=two", "BACKEND")
        assert (back["stot"], back["econ"], back["hrsp_5xx"], back["status"]) == ("1", "1", "1", "UP")
        assert json.loads(get("/stats;json;scope=nothing")[2]) == []
        # four rows do not fit into a buffer: a chunked answer, and one to HTTP/1.0
        assert "transfer-encoding" in get("/stats;json")[1]
        assert [len(item) for item in json.loads(get("/stats;json")[2])] == [75, 75, 86, 75]
        slow = socket.socket()  # the window fills in the middle of pages and of chunks
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(WAIT)
        slow.connect(("127.0.0.1", PORT))
        slow.sendall(b"GET /stats;json HTTP/1.1\r\n\r\n" * 100)
        time.sleep(0.3)
        rest = b""
        for _ in range(100):
            status, _, body, rest = read_answer(slow, rest)
            assert [len(item) for item in json.loads(body)] == [75, 75, 86, 75]
        old = everything(b"GET /stats;json HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert b"connection: close" in old and len(json.loads(old.split(b"\r\n\r\n", 1)[1])) == 4


def test_the_csv_is_exact_every_time():
    """It is written from what it was the last time, as long as no number gets longer."""
    listen = f"listen other\nmode http\nbind 127.0.0.1:{PORT + 1}\ntimeout client 5s\n".encode()
    with Server(http_config("stats uri /stats") + listen) as server, connect() as connection:
        sent, heads, columns = 0, set(), get_header().strip("# ").split(",")
        for number in range(1, 1102):
            connection.sendall(b"GET /stats;csv HTTP/1.1\r\n\r\n")
            _, _, body, _ = read_answer(connection)
            header, *lines = body.decode().strip().split("\n")
            web, front, back = (dict(zip(columns, line.split(","))) for line in lines)
            assert header == get_header() and [len(line.split(",")) for line in lines] == [139] * 3, lines
            assert (web["req_tot"], web["hrsp_2xx"]) == (str(number), str(number - 1))
            assert (web["scur"], web["status"], front["svname"], back["stot"]) == ("1", "OPEN", "FRONTEND", "0")
            heads.add(int(web["bout"]) - sent)
            sent = int(web["bout"]) + len(body)
        assert len(heads - {0}) <= 2, "each answer's bytes are counted, its head among them"
        assert json.loads(get("/stats;json")[2])[0][7]["value"]["value"] == sent + max(heads)
        connection.sendall(b"GET /stats;csv HTTP/1.1\r\n")
        time.sleep(0.1)
        server.process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        connection.sendall(b"\r\n")
        assert b",STOP," in connection.recv(65536)


def test_counters_count():
    with Server(http_config("stats uri /stats\nhttp-request deny if { path /no }")):
        before = row()
        for _ in range(7):
            get("/")
        get("/no")
        everything(b"BAD\r\n\r\n")
        with connect() as open_connection:
            open_connection.sendall(b"GET /stats HTTP/1.1\r\n\r\n" * 2)
            status, _, _, rest = read_answer(open_connection)
            assert status == 200 and read_answer(open_connection, rest)[0] == 200
        after = row()
        grown = {name: int(after[name]) - int(before[name]) for name in before if before[name].isdigit()}
        expected = {
            "stot": 11, "req_tot": 12, "hrsp_2xx": 3, "hrsp_4xx": 2, "hrsp_5xx": 7, "dreq": 1, "ereq": 1,
            "intercepted": 3, "h1req": 12, "req_other": 0, "conn_tot": 11,
        }  # fmt: skip
        assert {name: grown[name] for name in expected} == expected, grown
        assert int(after["bout"]) > 7 * len(UNAVAILABLE) and int(after["rate_max"]) >= 1
        requests, answers = int(after["req_tot"]), sum(int(after[f"hrsp_{c}"]) for c in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
        assert requests == answers + 1, "all but the request in hand are answered"
        with connect() as half:
            half.sendall(b"GET / HT")
            time.sleep(0.05)
            half.shutdown(socket.SHUT_WR)
            while half.recv(65536):
                pass
            assert row()["scur"] == "1", "who has nothing more to send is not waited for"


def test_page_settings():
    lines = """stats uri /s?x
    stats refresh 2m
    stats realm It's <here>
    stats auth joe:secret
    stats hide-version
    stats show-node <n&1>
    stats show-desc "a <b> description"
    stats show-legends
    description <i>shown</i>"""
    with Server(http_config(lines.replace("It's <here>", "'The <page>'"))):
        status, fields, _ = get("/s?x")
        assert status == 401 and fields["www-authenticate"] == 'Basic realm="The <page>"'
        assert get("/s?x", fields="authorization: Basic am9lOnNlY3JlVA==\r\n")[0] == 401
        status, fields, body = get("/s?x;scope=<", fields="authorization: Basic am9lOnNlY3JldA==\r\n")
        assert status == 200 and fields["refresh"] == "120"
        assert b"&lt;n&amp;1&gt;" in body and b"a &lt;b&gt; description" in body and b"value='&lt;'" in body
        assert b"<b> desc" not in body and b" version " not in body
        body = get("/s?x", fields="authorization: Basic am9lOnNlY3JldA==\r\n")[2]
        assert b"&lt;i&gt;shown" in body and b"mode http, id 1, 127.0.0.1:18404" in body
    with Server(http_config("stats http-request deny if { src 127.0.0.2 }\nstats http-request auth unless { path_end ok }")):
        assert get("/haproxy?stats")[0] == 401
    with Server(http_config("stats http-request allow if { src 127.0.0.1 }\nstats http-request deny\nstats auth a:b")):
        assert get("/haproxy?stats")[0] == 200
    # the only condition of a configuration sees where the connection went
    with Server(http_config(f"stats http-request deny if {{ dst_port {PORT} }}")):
        assert get("/haproxy?stats")[0] == 403


# ---- rules -------------------------------------------------------------------------


def test_returns_denials_and_redirects():
    rules = """http-request return status 200 content-type text/plain string "hi" hdr X-One a%[path] if { path /ok }
    http-request return status 204 hdr a b if { path /204 }
    http-request return if { path /empty }
    http-request return content-type text/plain file /etc/haproxy/haproxy.conf if { path /file }
    http-request return content-type text/plain lf-string "%[path]|%HQ|%HM|%HV|%ci|%[urlp(a)]|%[req.hdr(host)]|%%" if { path /lf }
    http-request return errorfile /etc/haproxy/err if { path /err }
    http-request deny if { path /deny }
    http-request deny deny_status 429 if { path /busy }
    http-request deny deny_status 511 if { path /other }
    http-request deny content-type text/plain string no hdr x y if { path /text }
    http-request deny hdr x y if { path /bare }
    http-request return status 404 if { path /gone }
    http-request return status 418 if { path /tea }
    http-request return status 404 default-errorfiles hdr x y if { path /page }
    http-request return content-type text/plain lf-string "%{+Q}HM %{+Q}ST %{+Q}[path] %HP %[urlp(a)] [%{+Q}[query]] %H %ts" if { path /quoted }
    http-request redirect location /new if { path /r1 }
    http-request redirect prefix https://x code 301 if { path /r2 }
    http-request redirect scheme https code 308 if { path /r3 }
    http-request redirect prefix /p drop-query set-cookie a=b if { path /r4 }
    http-request redirect location /%[path] code 307 clear-cookie a if { path /r5 }
    http-request return content-type text/plain lf-file /etc/haproxy/format if { path /lf-file }
    http-request allow if { path /allowed }
    http-request deny if { path_beg /allow }
    http-request reject if { path /reject }
    http-request auth realm "a b" if { path /auth } !{ http_auth(people) }
    http-request use-service prometheus-exporter if { path /metrics }
    monitor-uri /alive
    monitor fail if { hdr(x-fail) -m found }
    redirect location /last if { path /old }
    errorfile 503 /etc/haproxy/err"""
    text = b"userlist people\nuser joe insecure-password secret\n" + http_config(rules)
    err = b"HTTP/1.0 418 Tea\r\nX-Foo: Bar\r\nContent-Type: text/plain\r\n\r\nbody\n"
    lines = {
        "/ok": b"HTTP/1.1 200 OK\r\nx-one: a/ok\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nhi",
        "/204": b"HTTP/1.1 204 No Content\r\na: b\r\n\r\n",
        "/empty": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "/deny": answer(403, "Forbidden", "A rule forbids this request."),
        "/other": answer(511, "Server Error", ""),
        "/busy": answer(429, "Too Many Requests", "Try again later."),
        "/text": b"HTTP/1.1 403 Forbidden\r\nx: y\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nno",
        "/bare": b"HTTP/1.1 403 Forbidden\r\nx: y\r\ncontent-length: 0\r\n\r\n",
        "/gone": b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "/tea": b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n",
        "/page": answer(404, "Not Found", "Nothing is here."),
        "/r1?a=b": b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /new\r\ncache-control: no-cache\r\n\r\n",
        "/r2?a=b": b"HTTP/1.1 301 Moved Permanently\r\ncontent-length: 0\r\nlocation: https://x/r2?a=b\r\n\r\n",
        "/r3?a=b": b"HTTP/1.1 308 Permanent Redirect\r\ncontent-length: 0\r\nlocation: https://h/r3?a=b\r\n\r\n",
        "/r4?a=b": b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /p/r4\r\ncache-control: no-cache\r\n"
        b"set-cookie: a=b; path=/;\r\n\r\n",
        "/r5": b"HTTP/1.1 307 Temporary Redirect\r\ncontent-length: 0\r\nlocation: //r5\r\ncache-control: no-cache\r\nset-cookie: a; path=/; Max-Age=0;\r\n\r\n",
        "/lf-file": b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\ncontent-type: text/plain\r\n\r\n127.0.0.1 is you\n",
        "/allow": answer(403, "Forbidden", "A rule forbids this request."),
        "/old": b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /last\r\ncache-control: no-cache\r\n\r\n",
        "/err": b"HTTP/1.1 418 Tea\r\ncontent-length: 5\r\nx-foo: Bar\r\ncontent-type: text/plain\r\n\r\nbody\n",
        "/none": b"HTTP/1.1 503 Tea\r\ncontent-length: 5\r\nx-foo: Bar\r\ncontent-type: text/plain\r\n\r\nbody\n",
        "/alive": answer(200, "OK", "Ready."),
    }
    with Server(text, more={"etc/haproxy/err": err, "etc/haproxy/format": b"%[src] is you\n"}):
        assert get("/allowed")[0] == 503
        for target, expected in lines.items():
            got = everything(f"GET {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode(), half_close=True)
            assert got == expected, (target, got)
        assert get("/lf?a=1&b=2")[2] == b"/lf|?a=1&b=2|GET|HTTP/1.1|127.0.0.1|1|a|%"
        # HAProxy quotes aliases that are text; the first of several parameters; what has no query has none
        assert get("http://a/quoted")[2] == b'"GET" 200 /quoted http://a/quoted  [] localhost --'
        assert get("/quoted?a=1&a=2")[2] == b'"GET" 200 /quoted /quoted 1 [a=1&a=2] localhost --'
        assert get("/file")[2] == text
        assert everything(b"GET /reject HTTP/1.1\r\n\r\n") == b""
        assert get("/auth")[1]["www-authenticate"] == 'Basic realm="a b"'
        assert get("/auth", fields="authorization: Basic am9lOnNlY3JldA==\r\n")[0] == 503
        assert get("/alive", fields="x-fail: 1\r\n")[0] == 503
        assert ask(b"HEAD /ok HTTP/1.1\r\n\r\n")[1]["content-length"] == "2"
        assert get("/metrics")[0] == 200


MATCHES = [
    ("path /a /b", "/b", True), ("path -i /A", "/a", True), ("path /A", "/a", False), ("path_beg /a", "/ab", True),
    ("path_end .css", "/x.css", True), ("path_sub bc", "/abcd", True), ("path_dir abc", "/x/abc/y", True),
    ("path_dir abc", "/xabc/y", False), ("path_dir /b/c/", "/a/b/c/d", True), ("path_dir b/c", "/a/b/cd", False),
    ("url_param(a) 1", "/?b=2&a=1", True), ("urlp(a) -m found", "/?b=2", False),
    ("path_dir /?b//c/", "/a/b//c", True), ("path_dir /", "/a", False), ("query -m found", "/a", False), ("query -m found", "/a?", True),
    ("query a=1", "/?a=1", True), ("query -m sub a=1", "/?xa=12", True), ("method GET", "/", True), ("method POST", "/", False),
    ("hdr(host) -i A", "/", True), ("hdr_beg(x) b", "/", True), ("hdr(x) bb", "/", True),
    ("hdr(y) -m found", "/", False), ("src 127.0.0.0/8", "/", True), ("src 10.0.0.0/8 ::1", "/", False),
    ("src 127.0.0.0/255.0.0.0", "/", True), ("dst_port 18404", "/", True), ("dst_port 100", "/", False),
    ("always_true", "/", True), ("ssl_fc", "/", False), ("fe_name web", "/", True), ("req.ver 1.1", "/", True),
    ("url_beg /a", "/a?b", True), ("path -m end .x", "/y.x", True), ("path -f /etc/haproxy/list", "/two", True),
    ("path -- -x", "/", False), ("dst 127.0.0.1", "/", True), ("src_port 1", "/", False), ("pathq /?q", "/?q", True),
]  # fmt: skip
NAMED = [
    ("METH_GET", True), ("!METH_GET", False), ("METH_POST or HTTP_1.1", True), ("METH_GET HTTP_1.0", False),
    ("LOCALHOST TRUE !FALSE", True), ("! HTTP_1.0 || FALSE", True), ("mine", True), ("METH_HEAD", False),
]  # fmt: skip


def test_conditions():
    conditions = [("{ " + test + " }", target, holds) for test, target, holds in MATCHES]
    conditions += [(name, "/", holds) for name, holds in NAMED]
    lines = ["acl mine path /nothing", "acl mine path_beg /"]
    for number, (test, _, _) in enumerate(conditions):
        lines.append(f"http-request deny deny_status 429 if {{ hdr(n) {number} }} {test}" if " or " not in test and "||" not in test
                     else f"acl n{number} hdr(n) {number}\nhttp-request deny deny_status 429 if n{number} " + re.sub(r" (or|\|\|) ", rf" or n{number} ", test))  # fmt: skip
        lines.append(f"http-request return status 200 unless !{{ hdr(n) {number} }}")
    with Server(http_config("\n".join(lines)), more={"etc/haproxy/list": b"# list\n/one\n/two\n"}):
        for number, (test, target, holds) in enumerate(conditions):
            got = get(target, fields=f"n: {number}\r\nx: aa, bb\r\n")[0]
            assert (got == 429) == holds and got in (200, 429), (test, target, got)


def test_tarpit_and_errors_of_formats():
    rules = """timeout tarpit 100ms
    http-request tarpit if { path /tar }
    http-request return content-type text/plain lf-string "%[hdr(x)]%[hdr(x)]%[hdr(x)]" if { path /grow }"""
    with Server(http_config(rules)):
        assert get("/tar")[0] == 500
        assert get("/grow", fields="x: " + "a" * 9000 + "\r\n")[0] == 500
        assert get("/grow", fields="x: " + "a" * 4000 + "\r\n")[2] == b"a" * 12000


def test_metrics():
    text = http_config("stats uri /stats\nhttp-request use-service prometheus-exporter if { path /metrics }")
    with Server(text):
        body = get("/metrics")[2].decode()
        names = set(re.findall(r"^# TYPE (\S+) ", body, re.M))
        assert len(names) == 84, len(names)
        assert 'haproxy_frontend_http_requests_total{proxy="web"} 1\n' in body
        assert 'haproxy_frontend_status{proxy="web",state="UP"} 1\n' in body
        assert 'haproxy_frontend_http_responses_total{proxy="web",code="2xx"} 0\n' in body
        for metric in re.findall(r"^(\w+)", body, re.M):
            assert metric in names, metric
        assert "haproxy_frontend" not in get("/metrics?scope=global")[2].decode()
        assert "haproxy_process" not in get("/metrics?scope=frontend")[2].decode()
        status = get("/metrics?scope=bad")[0]
        assert status == 400
        assert get("/metrics")[1]["content-type"] == "text/plain; version=0.0.4"


# ---- logs --------------------------------------------------------------------------


def test_httplog():
    text = b"global\ntune.bufsize 8192\n" + http_config(
        """log stdout format raw local0
        option httplog
        monitor-uri /alive
        stats uri /stats
        http-request use-service prometheus-exporter if { path /metrics }
        http-request return string x if { path /ok }"""
    )
    with Server(text) as server:
        everything(b"", half_close=True)
        get("/ok"), get("/none"), get("/stats;csv"), get("/alive"), everything(b"BAD\r\n\r\n"), get('/"q{')
        assert int(get("/metrics")[1].get("content-length", 0)) == 0, "a page of several parts"
        with connect() as half:
            half.sendall(b"GET / HT")
            time.sleep(0.1)
            half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert get("/ok")[0] == 200 and row()["ereq"] == "3"
        lines = server.stop()[0].decode().strip().split("\n")
    shape = r"127\.0\.0\.1:\d+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] web web/"
    ends = [
        r'<NOSRV> -1/-1/-1/-1/\d+ 400 0 - - CR-- \d/\d/0/0/0 0/0 "<BADREQ>"',
        r'<NOSRV> \d+/-1/-1/-1/\d+ 200 39 - - LR-- \d/\d/0/0/0 0/0 "GET /ok HTTP/1.1"',
        r'<NOSRV> -1/-1/-1/-1/\d+ 503 \d+ - - SC-- \d/\d/0/0/0 0/0 "GET /none HTTP/1.1"',
        r'<STATS> \d+/0/0/0/\d+ 200 \d+ - - LR-- \d/\d/0/0/0 0/0 "GET /stats;csv HTTP/1.1"',
        r'<NOSRV> -1/-1/-1/-1/\d+ 400 \d+ - - PR-- \d/\d/0/0/0 0/0 "<BADREQ>"',
        r'<NOSRV> -1/-1/-1/-1/\d+ 503 \d+ - - SC-- \d/\d/0/0/0 0/0 "GET /#22q{ HTTP/1.1"',
        r'<PROMEX> \d+/0/0/0/\d+ 200 \d+ - - LR-- \d/\d/0/0/0 0/0 "GET /metrics HTTP/1.1"',
        r'<NOSRV> -1/-1/-1/-1/\d+ 400 \d+ - - CR-- \d/\d/0/0/0 0/0 "<BADREQ>"',
        r'<NOSRV> \d+/-1/-1/-1/\d+ 200 39 - - LR-- \d/\d/0/0/0 0/0 "GET /ok HTTP/1.1"',
        r'<STATS> \d+/0/0/0/\d+ 200 \d+ - - LR-- \d/\d/0/0/0 0/0 "GET /stats;csv HTTP/1.1"',
    ]
    assert len(lines) == len(ends), lines
    for line, end in zip(lines, ends):
        assert re.fullmatch(shape + end, line), (line, end)


def test_log_settings():
    text = http_config(
        """log stdout format raw local0
        log-format "%ST %[path]  %{+Q}[hdr(host)] %HU"
        option dontlognull
        option dontlog-normal
        stats uri /stats
        http-request return string x if { path /ok }"""
    )
    with Server(text) as server:
        everything(b"", half_close=True), get("/ok"), get("/none?a")
        assert row()["ereq"] == "1", "not logged, but counted"
        assert server.stop()[0] == b'503 /none "a" /none?a\n'
    with Server(http_config("log stdout format raw local0 notice\noption httplog")) as server:
        get("/")
        assert server.stop()[0] == b""
    with Server(http_config("log stdout format raw local0")) as server:
        get("/")
        lines = server.stop()[0].decode().strip().split("\n")
        assert re.fullmatch(rf"Connect from 127.0.0.1:\d+ to 127.0.0.1:{PORT} \(web/HTTP\)", lines[-1]), lines


def test_a_full_or_closed_log_costs_lines_only():
    text = http_config("log stdout format raw local0\noption httplog\nhttp-request use-service prometheus-exporter if { path /m }")
    read, write = os.pipe()
    with Server(text, stdout=write):
        os.close(write)
        for _ in range(3):
            everything(b"GET / HTTP/1.1\r\n\r\n" * 800, half_close=True)
        dropped = lambda: int(re.search(r"dropped_logs_total (\d+)", get("/m")[2].decode())[1])
        assert dropped() > 0, "the pipe is full"
        os.close(read)
        assert get("/")[0] == 503
        assert dropped() > 0


def test_where_logs_go():
    line = rb"127\.0\.0\.1:\d+ \[[^]]+\.\d{3}\] web web/<NOSRV> -1/-1/\d+ %s %s \d/\d/0/0/0 0/0\n"
    text = b"global\nlog stdout format raw local0 info\n" + http_config("log global\noption tcplog")
    with Server(text) as server:
        everything(b"", half_close=True)
        length = len(everything(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"))
        lines = server.stop()[0]
        assert re.fullmatch(line % (b"0", b"CR") + line % (b"%d" % length, b"SC"), lines), lines
    with Server(b"global\nlog stdout format raw local0\n" + http_config("log global\nlog stdout local0\nno log\noption httplog")) as server:
        get("/")
        assert server.stop()[0] == b""
    with Server(http_config("log stderr local0\noption httplog\nno option httplog\noption tcplog\nlog-format %ST")) as server:
        everything(b"", half_close=True), get("/")
        assert server.stop()[1] == b"400\n503\n"


def test_options_of_a_proxy():
    text = config(
        f"""defaults
        mode http
        timeout client 5s
        option httpclose
        frontend closes
        bind 127.0.0.1:{PORT}
        stats enable
        frontend keeps
        bind 127.0.0.1:{PORT + 1}
        no option httpclose
        frontend keeps-too
        bind 127.0.0.1:{PORT + 2}
        option http-keep-alive
        frontend off
        bind 127.0.0.1:{PORT + 3}
        disabled
        frontend on
        disabled
        enabled
        bind 127.0.0.1:{PORT + 4}"""
    )
    with Server(text):
        persistence = [get("/", PORT + place)[1].get("connection") for place in (0, 1, 2, 4)]
        assert persistence == ["close", None, None, "close"]
        try:
            connect(PORT + 3)
            raise AssertionError("a disabled proxy listens")
        except OSError:
            pass
        names = [line.split(b",")[0] for line in get("/haproxy?stats;csv")[2].split(b"\n")[1:-1]]
        assert names == [b"closes", b"keeps", b"keeps-too", b"on"]


def test_settings_of_the_process():
    text = b"global\nhard-stop-after 200ms\nnode somewhere\ndescription all of it\ntune.bufsize 8k\ntune.maxrewrite 3000\nnbthread 1\n"
    lines = "stats enable\nstats show-node\nstats show-desc\nhttp-request return lf-string %H if { path /h }"
    with Server(text + http_config(lines)) as server:
        page = get("/haproxy?stats")[2]
        assert b"Statistics of somewhere" in page and b"<p>all of it</p>" in page
        assert get("/h")[2] == b"localhost", "the host's name, which an empty root does not tell"
        assert get("/", fields="a: " + "b" * 5100 + "\r\n")[0] == 503
        assert get("/", fields="a: " + "b" * 5200 + "\r\n")[0] == 400
        with connect() as half:  # a request that never ends is not waited for
            half.sendall(b"GET / HTTP/1.1\r\n")
            time.sleep(0.1)
            server.process.send_signal(signal.SIGUSR1)
            assert server.process.wait(WAIT) == 0


# ---- configuration -----------------------------------------------------------------

ERRORS = [
    ("global\nmaxconn abc", 2, "'abc' is no number from 0 to 1000000"),
    ("global\nfoo bar", 2, "unknown keyword 'foo'"),
    ("defaults\nmode htp", 2, "'htp' is no mode"),
    ("defaults\ntimeout client 30x", 2, "'30x' is no time"),
    ("defaults\ntimeout client 3.5s", 2, "'3.5s' is no time"),
    ("defaults\ntimeout client 25d", 2, "'25d' is longer than 24.8 days"),
    ("defaults\ntimeout clent 30s", 2, "did you mean 'timeout client' ?"),
    ("frontend a\nbind *:0", 2, "'0' is no port"),
    ("frontend a\nbind *:70000", 2, "'70000' is no port"),
    ("frontend a\nbind 1.2.3:80", 2, "'1.2.3' is no address"),
    ("frontend a\nbind foo", 2, "'foo' has no port"),
    ("frontend a\nbind", 2, "an address and a port is missing"),
    ("frontend a\nbind *:80 ssl crt x", 2, "there is no TLS"),
    ("frontend a\nstats enabl", 2, "did you mean 'stats enable' ?"),
    ("frontend a\nstats uri", 2, "a URI is missing"),
    ("frontend a\noptin httplog", 2, "did you mean 'option' ?"),
    ("frontend a\noption httplg", 2, "did you mean 'option httplog' ?"),
    ("frontend a\nstats enable now", 2, "unexpected 'now' after 'stats enable'"),
    ("frontend a\nhttp-request deny if b", 2, "'b' is no such ACL"),
    ("frontend a\nhttp-request deny if { path /a", 2, "'{' without its '}'"),
    ("frontend a\nhttp-request deny if { pth /a }", 2, "'pth' is an unknown fetch"),
    ("frontend a\nhttp-request deny if { path_reg x }", 2, "'path_reg' is an unknown fetch or match"),
    ("frontend a\nhttp-request deny if { path,lower x }", 2, "'path,lower' is not supported : a fetch with"),
    ("frontend a\nhttp-request deny if { http_auth(x) }", 2, "'x' is no userlist"),
    ("frontend a\nhttp-request return lf-string %zz", 2, "'%zz' is not supported"),
    ("frontend a\nhttp-request set-header a b", 2, "is not supported"),
    ("frontend a\nhttp-request return status 204 string x", 2, "take no payload"),
    ("frontend a\nhttp-request deny default-errorfiles string x", 2, "take no payload"),
    ('frontend a\nhttp-request return hdr a "b\\nc"', 2, "cannot hold a line end"),
    ("frontend a\nhttp-request deny if { path -m reg x }", 2, "'reg' is no match"),
    ("frontend a\nlog-format %zz", 2, "'%zz' is not supported"),
    ("frontend a\nlog 127.0.0.1 local0", 2, "'127.0.0.1' is no log target"),
    ("global\nstats socket /x", 2, "'stats socket' is not supported"),
    ("frontend a\nlog stdout format short local0", 2, "'short' is no log format"),
    ("frontend a\nbind fd@3", 2, "'fd@3' has no port"),
    ("frontend a\nhttp-request deny if { dst_port gt 3 }", 2, "'gt' is no pattern"),
    ("frontend a\nhttp-request deny if { %ci 1 }", 2, "'%ci' is an unknown fetch"),
    ("frontend a\nuse_backend x", 2, "'use_backend' is not supported"),
    ("frontend a\nerrorfile 503 /nothing", 2, "cannot read '/nothing' : no such file"),
    ("frontend a\nbind *:80\nfrontend a", 3, "is taken by the proxy at [/etc/haproxy/haproxy.conf:1]"),
    ("backend b\nserver s 1.1.1.1:80", 1, "'backend' is not supported"),
    ("userlist u\nuser a password $5$x", 2, "need crypt(3)"),
    ("frontend a\ndescription 'x", 2, "a quote is not closed"),
    ("frontend 'a b'", 1, "'a b' is no name"),
    ("frontend a from nobody", 1, "'nobody' is no defaults section"),
    ("global\nno maxconn 4", 2, "'maxconn' cannot be negated"),
    ("global\ntune.bufsiz 16384", 2, "did you mean 'tune.bufsize' ?"),
    ("frontend a\nhttp-request replace-value a b c", 2, "'http-request replace-value' is not supported"),
    ("frontend a\nhttp-request set-var(txn.a) path", 2, "no tables, caches, variables or captures"),
    ("global\nnbthread 4", 2, "'4' is no number from 1 to 1"),
    ("frontend a\nstats auth secret", 2, "needs 'user:password'"),
    ("global\nbind *:80", 2, "'bind' does not stand in this section"),
    ("frontend a\n" + "retries 3\n" * 300 + "bad", 302, "unknown keyword 'bad'"),
]


def test_every_error_names_file_line_and_word():
    for text, line, expected in ERRORS:
        status, out, err = run((text + "\n").encode(), "-c")
        alert = f"[/etc/haproxy/haproxy.conf:{line}] : "
        assert status == 1 and out == "" and any(alert in text and expected in text for text in err.split("\n")), (text, err)
    _, _, err = run(b"frontend a\nstats auth secret\n", "-c")
    assert "secret" not in err
    many = "\n".join(text for text, _, _ in ERRORS[:8]) + "\n"
    assert run(many.encode(), "-c")[2].count("[ALERT]") == 9, "all errors in one run"
    assert "no line feed" in run(b"global", "-c")[2]


def test_command_line():
    valid = stock()
    status, out, err = run(valid, "-c")
    assert (status, err) == (0, "") and re.fullmatch(
        r"Configuration file is valid\nMemory needed: \d+ KiB \(maxconn 1000, tune.bufsize 16384\)\n", out
    ), out
    assert run(valid, "-c", "-q") == (0, "", "")
    assert "maxconn 7," in run(valid, "-c", "-n", "7")[1]
    status, out, err = run(valid, "-c", "-V")
    accepted = ["retries", "option redispatch", "timeout connect", "timeout server"]
    assert [re.search(r"'(.*?)' is accepted", line)[1] for line in err.strip().split("\n")] == accepted
    families = b"global\nno strict-limits\ntune.ssl.cachesize 1\nssl-mode-async\n"
    told = re.findall(r"'(.*?)' is accepted", run(families, "-c", "-V")[2])
    assert told == ["strict-limits", "tune.ssl.cachesize", "ssl-mode-async"], told
    assert run(b"global\n", "-c")[0] == 2
    assert run(b"global\n")[0] == 1
    warned = http_config("", "")
    assert run(warned, "-c")[0] == 0 and "timeout client" in run(warned, "-c")[2]
    assert run(warned, "-c", "-dW")[0] == 1
    assert run(config(f"frontend a\nbind *:{PORT}\nstats enable\ntimeout client 1s"), "-c")[2].count("not in 'mode http'") == 1
    assert run(b"", "-f", "/no/file", "-c")[0] == 1 and "/no/file" in run(b"", "-f", "/no/file", "-c")[2]
    assert run(b"", "-x")[0] == 1
    assert run(b"", "-v")[1].startswith("tiny-haproxy version ")
    assert "Usage" in run(b"", "-h")[1]
    more = {"etc/haproxy/b.cfg": b"frontend b\nbind *:2\n", "etc/haproxy/a.cfg": b"frontend a\nbad\n"}
    err = run(b"", "-C", "/etc", "-f", "haproxy", "-c", more=more)[2]
    assert "[haproxy/a.cfg:2]" in err and "haproxy.conf" not in err
    with Server(valid):
        status, _, err = run(valid)
        assert status == 1 and f"starting proxy stats : cannot listen on [127.0.0.1:{PORT}] : the address is in use" in err, err


def test_words_and_addresses():
    os.environ["TEST_URI"] = "/from env"
    text = (
        f"defaults one\r\n\tmode http\r\n timeout client 5s\r\ndefaults\r\nfrontend a from one # comment\r\n"
        f" bind ipv4@127.0.0.1:{PORT}-{PORT + 1},localhost:{PORT + 2}\r\n bind [::1]:{PORT}\r\n"
        f' monitor-uri "${{TEST_URI-x}}"\\ \\x41\r\n description \'a # ${{b}}\' "${{NONE-c}}" \\$d "\\$e"\r\n stats enable\r\n'
    ).encode()
    with Server(text.replace(b'"${TEST_URI-x}"\\ \\x41', b'"/${NONE-x}"\\x41')):
        for port in (PORT, PORT + 1, PORT + 2):
            assert get("/xA", port)[0] == 200
        assert b"a # ${b} c \\$d $e" in get("/haproxy?stats")[2]
        with socket.create_connection(("::1", PORT), WAIT) as connection:
            connection.sendall(b"GET /xA HTTP/1.1\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"


def test_support_table_is_the_readmes():
    table = run(b"", "-vv")[1].split("\n", 1)[1].strip()
    readme = open(os.path.join(HERE, "README.md")).read()
    for line in table.split("\n"):
        title, words = line.split(": ", 1)
        assert re.search(rf"^\| {re.escape(title)} \| (.*) \|$", readme, re.M), title
        listed = re.search(rf"^\| {re.escape(title)} \| (.*) \|$", readme, re.M)[1]
        assert listed.replace("`", "") == words, (title, set(listed.replace("`", "").split(", ")) ^ set(words.split(", ")))


# ---- signals, limits, memory -------------------------------------------------------


def test_signals():
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        server = Server(STATS)
        server.process.send_signal(number)
        assert server.process.wait(WAIT) == status
    server = Server(STATS)
    idle, half = connect(), connect()
    idle.sendall(b"GET / HTTP/1.1\r\n\r\n")
    read_answer(idle)
    half.sendall(b"GET / HTTP/1.1\r\n")
    time.sleep(0.1)
    server.process.send_signal(signal.SIGUSR1)
    assert idle.recv(1) == b"", "an idle connection is closed"
    try:
        connect()
        raise AssertionError("still listening")
    except OSError:
        pass
    half.sendall(b"\r\n")
    assert read_answer(half)[1]["connection"] == "close"
    assert server.process.wait(WAIT) == 0


def test_connections_past_maxconn_wait_and_are_served():
    for lines, port in (("maxconn 3", PORT), ("", PORT)):
        text = STATS + lines.encode() + b"\n" if lines else b"global\nmaxconn 3\n" + STATS
        with Server(text):
            held = [connect() for _ in range(3)]
            for connection in held:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                read_answer(connection)
            waiting = [connect() for _ in range(300)]
            for connection in waiting:
                connection.sendall(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
            waiting[0].settimeout(0.2)
            try:
                waiting[0].recv(1)
                raise AssertionError("served past maxconn")
            except TimeoutError:
                waiting[0].settimeout(WAIT)
            held[0].close()
            for connection in waiting:
                assert read_answer(connection)[0] == 503
                connection.close()
            held[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert read_answer(held[1])[0] == 503


def test_no_descriptor_left_means_waiting():
    with Server(STATS, files=16) as server:
        held = []
        for _ in range(30):
            connection = connect()
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            held.append(connection)
        answered = 0
        for connection in held:  # each that ends makes room for one that waits
            assert read_answer(connection)[0] == 503
            connection.close()
            answered += 1
        assert answered == 30 and server.process.poll() is None
        assert int(re.search(rb"times full<dd class=bad>(\d+)", get("/stats")[2])[1]) > 0, "the limit was met"


def test_not_enough_memory_is_told_at_start():
    status, out, err = run(STATS, memory=16 << 20, *["-n", "5000"])
    assert status == 1 and "not enough memory" in err and "maxconn" in err, err
    with Server(STATS, memory=12 << 20) as server:
        assert get("/")[0] == 503
        _, err = server.stop()
        assert re.search(rb"NOTICE.*maxconn is lowered to fit : Memory needed: \d+ KiB", err), err


def raise_files(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    elif soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def test_memory_idle_and_with_9900_connections():
    raise_files(10100)
    with Server(b"global\nmaxconn 10000\n" + STATS.replace(b"10s", b"60s"), memory=None) as server:
        get("/stats")
        idle = server.rss_kib()
        assert idle <= 1024, f"{idle} KiB idle"
        held = []
        for number in range(9900):
            connection = socket.create_connection(("127.0.0.1", PORT), WAIT)
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(4096) == UNAVAILABLE, number
            held.append(connection)
        full = server.rss_kib()
        assert full <= 5120, f"{full} KiB with 9,900 connections"
        assert int(row()["scur"]) == 9901
        print(f"    resident: {idle} KiB idle, {full} KiB with 9,900 idle connections")
        for connection in held:
            connection.close()


def test_system_calls_and_no_memory_after_start():
    """Everything is served, errors and overload included, under strace."""
    text = b"global\nmaxconn 6\nuserlist u\nuser a insecure-password b\n" + http_config(
        """log stdout format raw local0
        option httplog
        stats uri /stats
        stats auth joe:secret
        timeout http-request 300ms
        timeout tarpit 50ms
        monitor-uri /alive
        acl named path_beg /named
        http-request use-service prometheus-exporter if { path /metrics }
        http-request return lf-string "%[path] %[src] %r" hdr x %[hdr(host)] if named
        http-request redirect scheme https if { path /r }
        http-request auth if { path /auth } !{ http_auth(u) }
        http-request tarpit if { path /tar }
        http-request reject if { path /reject }
        http-request deny if { path_sub deny } or { src 10.0.0.0/8 }"""
    )
    trace = tempfile.mktemp(prefix="haproxy-strace-")
    with Server(text, strace=trace, stdout=subprocess.DEVNULL) as server:
        allowed = "authorization: Basic am9lOnNlY3JldA==\r\n"
        for target in ("", ";csv", ";typed", ";json", ";json-schema", ";st=DENY", "?scope=x"):
            get("/stats" + target, fields=allowed)
        for target in ("/", "/metrics", "/named", "/r", "/auth", "/tar", "/deny", "/alive", "/stats"):
            get(target)
        ask(b"POST /stats HTTP/1.1\r\ncontent-length: 1\r\n" + allowed.encode() + b"\r\nx")
        for request in BAD_REQUESTS + [b"GET /reject HTTP/1.1\r\n\r\n", b"GET /", b"PRI * HTTP/2.0\r\n\r\n"]:
            everything(request)
        everything(b"GET / HTTP/1.1\r\n\r\n" * 500, half_close=True)
        held = [connect() for _ in range(12)]
        for connection in held:
            connection.sendall(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
        for connection in held:
            read_answer(connection)
        idle = [connect() for _ in range(6)]  # all places are taken, and two wait
        for connection in idle:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            read_answer(connection)
        waiting = [connect() for _ in range(2)]
        time.sleep(0.3)
        for connection in idle + waiting:
            connection.close()
        slow = connect()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 200)
        time.sleep(0.3)
        for _ in range(100):
            slow.recv(65536)
        slow.close()
        os.kill(server.pid(), signal.SIGUSR1)
        server.process.wait(WAIT)
    lines = open(trace).read().split("\n")
    os.unlink(trace)
    calls = [match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line))]
    start = calls.index("execve", calls.index("execve") + 1) if calls.count("execve") > 1 else 0
    calls = calls[start:]  # from the program on, not the chroot before it
    served = calls[calls.index("accept4") :]
    memory = {"brk", "mmap", "munmap", "mremap", "madvise"} & set(served)
    assert not memory, f"memory is taken while serving: {memory}"
    unknown = set(calls) - WORKING - {"rt_sigreturn"}  # the kernel's own, after the signal that ends this
    assert not unknown, f"calls that Unikraft does not have: {unknown}"
    assert {"recvfrom", "sendto", "epoll_ctl", "shutdown", "close", "setsockopt", "poll", "write"} <= set(served)


# ---- endurance ---------------------------------------------------------------------


def soak(connections):
    """Churn, slow readers and writers, resets, a log pipe that is closed half
    way, a process that is stopped: nothing leaks, counters add up."""
    raise_files(4096)
    lines = """stats uri /stats
        log stdout format raw local0
        option httplog
        http-request use-service prometheus-exporter if { path /metrics }"""
    log, write = os.pipe()
    with Server(b"global\nmaxconn 500\n" + http_config(lines, "timeout client 2s"), memory=None, stdout=write) as server:
        os.close(write)
        get("/stats")
        time.sleep(0.2)  # for the close to be seen
        before, files = server.rss_kib(), server.files()
        request = b"GET /stats HTTP/1.1\r\nhost: a\r\n\r\n"
        churn = [
            lambda c, n: c.sendall(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"),
            lambda c, n: c.sendall(request[: n % len(request)]),  # a reset at every point of a request
            lambda c, n: c.sendall(request * 5),
            lambda c, n: c.sendall(b"POST /stats HTTP/1.1\r\ncontent-length: 9\r\n\r\nx"),
            lambda c, n: c.sendall(b"BAD\r\n\r\n"),
            lambda c, n: c.sendall(request) or c.recv(1 + n % 8000),  # and of an answer
            lambda c, n: None,
        ]

        def worker(count, seed):
            for number in range(count):
                try:
                    connection = connect()
                    kind = (number + seed) % len(churn)
                    churn[kind](connection, number)
                    if number % 11 < 6:  # reset
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    elif kind == 0:  # the one kind that is sure of an answer
                        connection.recv(4096)
                    connection.close()
                except OSError:
                    pass

        def slow_writer():
            while any(thread.is_alive() for thread in threads[:8]):
                try:
                    with connect() as connection:
                        for byte in request:
                            connection.send(bytes([byte]))
                            time.sleep(0.002)
                        read_answer(connection)
                except (OSError, AssertionError):
                    pass

        slow = connect()  # takes pages a byte at a time
        slow.sendall(request * 3)
        threads = [threading.Thread(target=worker, args=(connections // 8, seed)) for seed in range(8)]
        threads.append(threading.Thread(target=slow_writer))
        for thread in threads:
            thread.start()
        turns = 0
        while any(thread.is_alive() for thread in threads):
            try:
                slow.recv(1)
            except OSError:
                slow = connect()
                slow.sendall(request * 3)
            time.sleep(0.001)
            turns += 1
            if turns < 200 and select.select([log], [], [], 0)[0]:
                os.read(log, 65536)
            elif turns == 200:
                os.close(log)
            elif turns % 5000 == 300:  # its clocks jump by more than its timers
                os.kill(server.pid(), signal.SIGSTOP)
                time.sleep(2.5)
                os.kill(server.pid(), signal.SIGCONT)
        slow.close()
        end = time.time() + 20
        while (stats := row())["scur"] != "1" and time.time() < end:
            time.sleep(0.2)
        answers = sum(int(stats[f"hrsp_{c}"]) for c in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
        assert stats["scur"] == "1", f"a place leaked: {stats}"
        assert int(stats["req_tot"]) == answers + 1, stats
        metrics = get("/metrics")[2].decode()
        used = int(re.search(r"pool_used_bytes (\d+)", metrics)[1])
        assert used <= 2 * 16384, f"{used} bytes of buffers leaked"
        assert turns < 200 or int(re.search(r"dropped_logs_total (\d+)", metrics)[1]) > 0, "the log was closed"
        while time.time() < end and server.files() > files:
            time.sleep(0.2)
        assert server.files() <= files, "descriptors leaked"
        after = server.rss_kib()
        assert after <= before + 500 * 40, f"memory grew from {before} to {after} KiB"
        print(f"    {stats['stot']} connections, {stats['req_tot']} requests; resident {before} to {after} KiB")


def test_churn_leaks_nothing():
    soak(int(os.environ.get("SOAK", "4000")))


def main():
    chosen = sys.argv[2:]
    passed, failed = 0, 0
    for name, test in list(globals().items()):
        if name.startswith("test_") and (not chosen or any(part in name for part in chosen)):
            try:
                test()
                passed += 1
                print(f"ok     {name}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
