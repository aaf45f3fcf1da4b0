"""The life of an app by `heroku3`, unmodified: every call that its users make.

Takes the API's URL, the token, the authority's certificate and the archive of a source from the environment.
Prints a line for each call that did what it should.
"""

import os
import time

import heroku3
import requests
from requests.adapters import HTTPAdapter

HEROKU = "https://api.heroku.com"
PATIENCE_SECONDS = 60


class Redirected(HTTPAdapter):
    """Leads what is meant for Heroku to the server; `requests` calls this a transport adapter."""

    def send(self, request, **options):
        request.url = os.environ["API_URL"] + request.url[len(HEROKU):]
        return super().send(request, **options)


def wait_for(what, holds):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "not in time: " + what
        time.sleep(0.1)


def did(what):
    print("did", what, flush=True)


def main():
    session = requests.Session()
    session.mount(HEROKU, Redirected())
    session.verify = os.environ["API_CA"]
    heroku = heroku3.from_key(os.environ["API_TOKEN"], session=session)
    assert heroku.is_authenticated
    did("from_key")
    assert heroku.account().email == "admin@localhost"
    did("account")
    assert heroku.rate_limit.remaining > 0 and heroku.ratelimit_remaining() > 0
    did("rate_limit")

    app = heroku.create_app(name="snake")
    assert app.name == "snake" and app.owner.email == "admin@localhost"
    did("create_app")
    assert [each.name for each in heroku.apps()] == ["snake"] and heroku.apps()["snake"].id == app.id
    did("apps")
    assert heroku.app(app.id).git_url == app.git_url
    did("app")

    config = app.config()
    config["GREETING"] = "hello"
    config.update({"ONE": "1", "TWO": "2"})
    del config["TWO"]
    assert app.config().to_dict() == {"GREETING": "hello", "ONE": "1"}
    did("config")

    urls = session.post(HEROKU + "/sources").json()["source_blob"]
    with open(os.environ["SOURCE"], "rb") as source:
        requests.put(urls["put_url"], data=source, verify=os.environ["API_CA"]).raise_for_status()
    build = app.create_build(urls["get_url"], version="v1")
    assert "-----> Building on" in build.get()
    wait_for("the build", lambda: app.builds()[build.id].status == "succeeded")
    did("create_build")
    wait_for("the release", lambda: app.releases()[-1].status == "succeeded")
    assert app.releases()[0].version == 1 and app.releases()[-1].current
    did("releases")
    slug = app.releases()[-1].slug.id
    assert app.slug(slug).id == slug
    did("slug")

    assert app.process_formation()["web"].quantity == 1
    assert app.process_formation()["web"].scale(2).quantity == 2
    app.batch_scale_formation_processes({"web": 1})
    assert app.scale_formation_process("web", 2).quantity == 2
    did("formation")
    up = lambda: [dyno.state for dyno in app.dynos() if dyno.type == "web"] == ["up", "up"]
    wait_for("two dynos", up)
    did("dynos")
    before = {dyno.id for dyno in app.dynos()}
    app.restart()
    wait_for("two others", lambda: up() and not before & {dyno.id for dyno in app.dynos()})
    did("restart")
    run = app.run_command_detached("echo spoken by a one-off", size="standard-1x", env={"MORE": "yes"})
    assert run.type == "run" and run.attach_url is None
    wait_for("the one-off's line", lambda: "spoken by a one-off" in app.get_log(lines=200))
    did("run_command_detached, get_log")
    lines = app.stream_log(lines=1)
    assert next(line for line in lines if b"data: " in line)
    did("stream_log")

    domain = app.add_domain("snake.example.com", None)
    assert domain.kind == "custom" and app.get_domain("snake.example.com").id == domain.id
    assert "snake.example.com" in app.domains()
    app.remove_domain("snake.example.com")
    did("domains")
    assert app.add_collaborator("grace@example.com", silent=True).user.email == "grace@example.com"
    assert len(app.collaborators()) == 2
    app.remove_collaborator("grace@example.com")
    did("collaborators")
    drain = app.create_logdrain("https://logs.example.com/in")
    assert app.logdrains()[drain.id].url == "https://logs.example.com/in"
    app.remove_logdrain(drain.id)
    did("logdrains")
    assert app.enable_feature("http-session-affinity").enabled
    assert not app.disable_feature("http-session-affinity").enabled and len(app.features()) >= 1
    did("features")
    app.update_buildpacks(["heroku/python"])
    assert len(app.buildpacks()) == 1
    did("buildpacks")
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3QgdGVzdCB0ZXN0IHRlc3QgdGVzdCB0ZXN0IDEy nobody@nowhere"
    heroku.account().add_key(key)
    assert len(heroku.keys()) == 1
    heroku.keys()[0].delete()
    assert len(heroku.keys()) == 0
    did("keys")
    assert len(heroku.oauthauthorizations()) >= 1
    did("oauthauthorizations")

    config["AFTER"] = "the deploy"
    wait_for("the config's release", lambda: app.releases()[-1].status == "succeeded")
    app.rollback(app.releases()[-2].id)
    wait_for("the rollback", lambda: app.releases()[-1].description.startswith("Rollback to v"))
    did("rollback")
    assert app.enable_maintenance_mode().maintenance and not app.disable_maintenance_mode().maintenance
    did("maintenance")
    app = app.rename("python")
    assert heroku.app("python").id == app.id
    did("rename")
    try:
        heroku.app("nobody")
        raise SystemExit("there is no such app")
    except requests.exceptions.HTTPError as error:
        assert error.response.status_code == 404 and error.response.json()["id"] == "not_found"
    did("not_found")
    assert app.delete()
    assert len(heroku.apps()) == 0
    did("delete")


main()
