"""recado's routes in somebody's own Flask app: prefixes, hooks, two apps, forks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, request

import recado
from recado.errors import ConfigurationError
from recado.gateway import server
from recado.gateway.asgi import Front
from recado.gateway.server import gateway_of, mounted_at
from recado.gateway.wsgi import WsgiBridge
from recado.kafka.abstract import Link
from recado.settings import Settings
from tests.fronts import AsgiFront, FakeKafka
from tests.programs import eventually, free_port

SETTINGS = Settings(spool=False)


def own_app(kafka: FakeKafka, **options: Any) -> Flask:
    app = Flask("shop")
    app.register_blueprint(recado.blueprint(SETTINGS, connect=lambda _: Link(kafka, kafka, lambda: kafka)), **options)

    @app.get("/")
    def home() -> str:
        return "the shop"

    return app


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka()


def behind_production_server(app: Flask) -> Front:
    """The front as ``server.run`` wires it."""
    prefixes = mounted_at(app) if server._is_plain(app) else []
    return Front(gateway_of(app), prefixes=prefixes, fallback=WsgiBridge(app, max_body_bytes=1_000_000))


def ask(
    front: Front, path: str, body: bytes = b'{"message":1}', method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    """One request through the production server's front."""

    async def run() -> tuple[int, bytes]:
        asgi = AsgiFront.__new__(AsgiFront)
        asgi._front = front
        named = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer = await asgi._request(method, path, [body], named)
        return answer.status, answer.body

    return asyncio.run(asyncio.wait_for(run(), 20))


# Prefixes


@pytest.mark.parametrize("prefix", [None, "/kafka", "/a/b"])
def test_the_routes_stand_under_the_prefix_in_both_fronts(kafka, prefix):
    app = own_app(kafka, url_prefix=prefix)
    at = prefix or ""
    client = app.test_client()
    assert client.post(f"{at}/send", json={"message": "a"}).status_code == 200
    assert ask(behind_production_server(app), f"{at}/send")[0] == 200
    assert ask(behind_production_server(app), f"{at}/send/other", b"raw")[0] == 200
    assert ask(behind_production_server(app), f"{at}/flush")[0] == 200
    for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
        assert client.get(at + path).status_code == 200, path
        assert ask(behind_production_server(app), at + path, b"", "GET")[0] == 200, path
    assert [record.value for record in kafka.produced] == [b"a", b"1", b"raw"]
    assert client.get("/").text == "the shop"
    assert ask(behind_production_server(app), "/", b"", "GET") == (200, b"the shop")
    if prefix:
        assert client.post("/send", json={"message": "a"}).status_code == 404
        assert ask(behind_production_server(app), "/send")[0] == 404


def test_the_description_names_the_prefix_that_the_app_chose(kafka):
    app = own_app(kafka, url_prefix="/kafka")
    assert app.test_client().get("/kafka/openapi.json").get_json()["servers"] == [{"url": "/kafka"}]
    assert "/kafka/openapi.json" in app.test_client().get("/kafka/docs").text


@pytest.mark.parametrize("how", ["nested", "renamed"])
def test_nested_or_renamed_the_description_is_still_there(kafka, how):
    app = Flask("shop")
    routes = recado.blueprint(SETTINGS, connect=lambda _: Link(kafka, kafka, lambda: kafka))
    if how == "nested":
        outer = Blueprint("outer", __name__, url_prefix="/outer")
        outer.register_blueprint(routes)
        app.register_blueprint(outer)
    else:
        app.register_blueprint(routes, name="kafka", url_prefix="/outer")
    client = app.test_client()
    assert client.post("/outer/send", json={"message": 1}).status_code == 200
    assert client.get("/outer/openapi.json").status_code == 200
    assert client.get("/outer/docs").status_code == 200


# Hooks: what the team's app forbids, the production server forbids, too


def forbid() -> None:
    if request.headers.get("X-Token") != "secret":
        abort(401)


def with_before_request(app: Flask) -> None:
    app.before_request(forbid)


def with_middleware(app: Flask) -> None:
    inner = app.wsgi_app

    def guard(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("HTTP_X_TOKEN") != "secret":
            start_response("401 Unauthorized", [("Content-Type", "text/plain")])
            return [b"no"]
        return inner(environ, start_response)

    app.wsgi_app = guard  # type: ignore[method-assign]


def with_url_values(app: Flask) -> None:
    app.url_value_preprocessor(lambda endpoint, values: forbid())


@pytest.mark.parametrize("guard", [with_before_request, with_middleware, with_url_values])
def test_what_guards_the_app_guards_the_produce_routes(kafka, guard):
    app = own_app(kafka)
    guard(app)
    for path in ("/send", "/send/other", "/flush"):
        assert ask(behind_production_server(app), path)[0] == 401
    assert kafka.produced == []
    assert ask(behind_production_server(app), "/send", x_token="secret")[0] == 200


def test_a_hook_on_the_blueprint_itself_guards_too(kafka):
    routes = recado.blueprint(SETTINGS, connect=lambda _: Link(kafka, kafka, lambda: kafka))
    routes.before_request(forbid)
    app = Flask("shop")
    app.register_blueprint(routes)
    assert ask(behind_production_server(app), "/send")[0] == 401
    assert kafka.produced == []


def test_a_subclass_of_flask_is_asked(kafka):
    class Guarded(Flask):
        def dispatch_request(self) -> Any:
            forbid()
            return super().dispatch_request()

    app = Guarded("shop")
    app.register_blueprint(recado.blueprint(SETTINGS, connect=lambda _: Link(kafka, kafka, lambda: kafka)))
    assert ask(behind_production_server(app), "/send")[0] == 401


def test_what_runs_after_a_request_runs_after_the_produce_routes(kafka):
    app = own_app(kafka)
    seen = []
    app.after_request(lambda response: seen.append(response.status_code) or response)
    assert ask(behind_production_server(app), "/send")[0] == 200
    assert seen == [200]


def test_a_plain_app_takes_the_short_way(kafka):
    assert server._is_plain(own_app(kafka))
    assert server._is_plain(recado.create_app(SETTINGS, connect=lambda _: Link(kafka, kafka, lambda: kafka)))


def test_an_app_without_the_routes_is_told_so():
    with pytest.raises(ConfigurationError, match="register_blueprint"):
        gateway_of(Flask("empty"))


def test_an_error_of_the_apps_own_views_is_its_own(kafka):
    app = own_app(kafka)

    @app.get("/teapot")
    def teapot() -> str:
        abort(418)

    status, body = ask(behind_production_server(app), "/teapot", b"", "GET")
    assert status == 418
    assert b"<!doctype html>" in body


# Two apps


def test_two_apps_in_a_process_have_a_kafka_each():
    first, second = FakeKafka(), FakeKafka()
    one, two = own_app(first), own_app(second)
    assert one.test_client().post("/send", json={"message": "a"}).status_code == 200
    assert two.test_client().post("/send", json={"message": "b"}).status_code == 200
    assert ([r.value for r in first.produced], [r.value for r in second.produced]) == ([b"a"], [b"b"])
    first.reachable = False
    assert one.test_client().get("/health/ready").status_code == 503
    assert two.test_client().get("/health/ready").status_code == 200


def test_kafka_is_connected_to_on_first_use_and_once():
    connections = []

    def connect(settings: Settings) -> Link:
        connections.append(settings)
        return Link(FakeKafka(), FakeKafka(), FakeKafka)

    app = recado.create_app(SETTINGS, connect=connect)
    assert connections == []
    client = app.test_client()
    assert client.get("/health/live").status_code == 200
    assert connections == [], "live asks nobody"
    for _ in range(3):
        assert client.post("/send", json={"message": 1}).status_code == 200
    assert connections == [SETTINGS]


# Forks


def in_child(work: Any) -> Any:
    """Fork, do ``work`` in the child and return what it returned, as JSON over a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        return json.loads(said)
    finally:
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_each_process_connects_for_itself_after_a_fork():
    pids = []

    def connect(settings: Settings) -> Link:
        pids.append(os.getpid())
        kafka = FakeKafka()
        return Link(kafka, kafka, lambda: kafka)

    app = recado.create_app(SETTINGS, connect=connect)
    assert app.test_client().post("/send", json={"message": 1}).status_code == 200

    def work() -> dict[str, Any]:
        status = app.test_client().post("/send", json={"message": 1}).status_code
        return {"status": status, "pids": pids, "me": os.getpid()}

    said = in_child(work)
    assert said["status"] == 200
    assert said["pids"] == [os.getpid(), said["me"]]
    assert pids == [os.getpid()], "the parent keeps its own"


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_connects_leaves_no_lock_behind():
    import threading

    connecting, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def connect(settings: Settings) -> Link:
        if os.getpid() == parent:
            connecting.set()
            go_on.wait(20)
        kafka = FakeKafka()
        return Link(kafka, kafka, lambda: kafka)

    app = recado.create_app(SETTINGS, connect=connect)
    thread = threading.Thread(target=lambda: app.test_client().get("/health/ready"))
    thread.start()
    assert connecting.wait(20)
    try:

        def work() -> int:
            signal.alarm(10)
            return app.test_client().get("/health/ready").status_code

        assert in_child(work) == 200
    finally:
        go_on.set()
        thread.join(20)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_forked_processes_never_make_the_same_id():
    from recado.gateway.reader import new_ids

    new_ids(1), new_ids(10)
    made = [i for _ in range(3) for i in in_child(lambda: [new_ids(1)[0] for _ in range(200)] + new_ids(200))]
    made += new_ids(1) + new_ids(200)
    assert len(set(made)) == len(made)


PRELOADED = """
    import os, socket, sys
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
    import recado
    from recado.kafka.abstract import Link
    from recado.settings import Settings
    from tests.fronts import FakeKafka

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments):
            pass

    def connect(settings):
        kafka = FakeKafka()
        kafka.fate = lambda number, record: (0, os.getpid(), 1)  # the offset tells whose Kafka it was
        return Link(kafka, kafka, lambda: kafka)

    # As a preloading server does: the app is made and even used in the master, the workers are forked from it.
    app = recado.create_app(Settings(spool=False), connect=connect)
    assert app.test_client().get("/health/ready").status_code == 200
    listening = WSGIServer(("127.0.0.1", int(sys.argv[1])), Quiet)
    listening.set_app(app)
    workers = []
    for _ in range(2):
        worker = os.fork()
        if not worker:
            listening.serve_forever()
        workers.append(worker)
    print(os.getpid(), *workers, flush=True)
    listening.socket.close()
    sys.stdin.read()
    for worker in workers:
        os.kill(worker, 15)
        os.waitpid(worker, 0)
"""


def test_a_preloading_server_answers_from_forked_workers(tmp_path):
    program = tmp_path / "preloaded.py"
    program.write_text(textwrap.dedent(PRELOADED))
    port = free_port()
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(program), str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    try:
        master, *workers = map(int, process.stdout.readline().split())
        seen = set()

        def both() -> bool:
            seen.add(post(port))
            return seen == set(workers)

        eventually(both, within_s=20, why=f"answers from {seen}, workers {workers}, master {master}")
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
            process.stdout.close()


def post(port: int) -> int:
    import http.client

    deadline = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/send", b'{"message":1}', {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200
            return json.loads(response.read())["offset"]
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        finally:
            connection.close()
